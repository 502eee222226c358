"""Files of every kind, with the index in them, and where their fields and numbers lie."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch

import deepq
from deepq._common.safe_files import Reader
from deepq.decoders import Decoder
from deepq.encoders import Sign
from deepq.files.faiss_files import INDEXES, parse
from deepq.files.format import read_state
from deepq.networks import MLP
from deepq.quantizers import BinaryQuantizer, ProductQuantizer


class Sizes(NamedTuple):
    """Of the vectors x (n, d) in an index, and of their codes."""

    d: int = 32
    M: int = 8
    nbits: int = 8
    n: int = 2000

    def x(self, seed: int = 0) -> np.ndarray:
        """Vectors (n, d)."""
        return np.random.default_rng(seed).standard_normal((self.n, self.d)).astype(np.float32)


class Kind(NamedTuple):
    """A kind of file: what makes an index, whether faiss writes it, and whether it decodes."""

    make: Callable[[Sizes], Any]
    is_of_faiss: bool = False
    decodes: bool = True

    def content(self, index: Any) -> bytes:
        """Return the bytes of a file."""
        if self.is_of_faiss:
            return faiss.serialize_index(index).tobytes()
        file = io.BytesIO()
        deepq.write_index(index, file)
        return file.getvalue()


SMALL = Sizes(4, 2, 2, 5)
_TRAINING = 10_000


def _filled(index: Any, sizes: Sizes) -> Any:
    if not index.is_trained:
        index.train(sizes._replace(n=_TRAINING).x(1))
    index.add(sizes.x())
    return index


def _pq(sizes: Sizes) -> Any:
    return faiss.IndexPQ(sizes.d, sizes.M, sizes.nbits)


def _opq(sizes: Sizes) -> Any:
    rotation = faiss.OPQMatrix(sizes.d, sizes.M)
    rotation.niter = rotation.niter_pq = 2
    return faiss.IndexPreTransform(rotation, _pq(sizes))


def _ivfpq(sizes: Sizes) -> Any:
    return _in_cells(faiss.IndexFlatL2(sizes.d), sizes)


def _over_a_graph(sizes: Sizes) -> Any:
    return _in_cells(faiss.IndexHNSWFlat(sizes.d, 4), sizes)


def _in_cells(coarse: Any, sizes: Sizes) -> Any:
    index = faiss.IndexIVFPQ(coarse, sizes.d, 4, sizes.M, sizes.nbits)
    index.nprobe = 3
    return index


def _with_decoder(sizes: Sizes) -> deepq.DeepQuantIndex:
    rng, ksub, h = np.random.default_rng(2), 1 << sizes.nbits, 8
    shapes = {
        "sites": (sizes.M, ksub, sizes.d // sizes.M),
        "tables": (sizes.M, ksub, sizes.d),
        "features": (sizes.M, ksub, h),
        "inner": (h, h),
        "bias": (h,),
        "outer": (h, h),
        "output": (h, sizes.d),
        "centre": (sizes.d,),
    }
    quantizer = ProductQuantizer(sizes.M, sizes.nbits)
    quantizer.codebooks = rng.standard_normal(shapes["sites"])
    quantizer.decoder = Decoder({name: rng.standard_normal(shapes[name]) for name in shapes})
    encoder = deepq.from_faiss(_filled(_opq(sizes), sizes)).encoder
    return deepq.DeepQuantIndex(
        sizes.d, sizes.M, sizes.nbits, encoder=encoder, quantizer=quantizer, rerank=sizes.n
    )


def _with_network(sizes: Sizes) -> deepq.DeepQuantIndex:
    torch.set_num_threads(1)  # a forked child has no others
    torch.manual_seed(3)
    network = MLP(sizes.d, [16]).eval()
    quantizer = ProductQuantizer(sizes.M, sizes.nbits)
    shape = (sizes.M, 1 << sizes.nbits, network.d_out // sizes.M)
    quantizer.codebooks = np.random.default_rng(3).standard_normal(shape)
    return deepq.DeepQuantIndex(sizes.d, sizes.M, sizes.nbits, encoder=network, quantizer=quantizer)


def _binary(sizes: Sizes) -> deepq.DeepQuantIndex:
    quantizer = BinaryQuantizer(sizes.M, sizes.d // sizes.M)
    return deepq.DeepQuantIndex(
        sizes.d, quantizer.M, quantizer.nbits, encoder=Sign(sizes.d), quantizer=quantizer
    )


KINDS = {
    "codes": Kind(lambda sizes: deepq.from_faiss(_filled(_pq(sizes), sizes))),
    "OPQ and a decoder": Kind(lambda sizes: _filled(_with_decoder(sizes), sizes)),
    "a network": Kind(lambda sizes: _filled(_with_network(sizes), sizes), decodes=False),
    "binary codes": Kind(lambda sizes: _filled(_binary(sizes), sizes)),
    "codes in cells": Kind(lambda sizes: deepq.from_faiss(_filled(_ivfpq(sizes), sizes))),
    "faiss's IndexIVFPQ": Kind(lambda sizes: _filled(_ivfpq(sizes), sizes), is_of_faiss=True),
    "faiss's IndexIVFPQ over HNSW": Kind(
        lambda sizes: _filled(_over_a_graph(sizes), sizes), is_of_faiss=True
    ),
    "faiss's IndexPQ": Kind(lambda sizes: _filled(_pq(sizes), sizes), is_of_faiss=True),
    "faiss's OPQ chain": Kind(lambda sizes: _filled(_opq(sizes), sizes), is_of_faiss=True),
}


class Layout(Reader):
    """Where the parts of a whole file are, as noted while deepq reads it.

    Attributes
    ----------
    fields : dict of int to list of int
        By width, 4 or 8: where numbers of so many bytes begin, except those of arrays.
    floats, codes, structure : list of int
        The bytes of arrays of float32, of the codes, and all others.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.fields: dict[int, list[int]] = {4: [], 8: []}
        self.floats: list[int] = []
        self.codes: list[int] = []
        if content[:4] in INDEXES:
            parse(self)
        else:
            read_state(self, None, maps=False, checks=True)
        others = {*self.floats, *self.codes}
        self.structure = [at for at in range(len(content)) if at not in others]

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        """Read a struct, and note where its numbers are."""
        at = self.at
        for code in re.findall(r"\d*[a-zA-Z]", layout):
            width = struct.calcsize(f"<{code}")
            if code[-1] != "s" and width in self.fields:
                self.fields[width].append(at)
            at += width
        return super().unpack(layout, what)

    def numbers(self, count: int, dtype: str, what: str) -> Any:
        """Read an array, and note where it is."""
        if dtype == "<f4":
            self.floats.extend(range(self.at, self.at + 4 * count))
        return super().numbers(count, dtype, what)

    def skip(self, count: int, what: str) -> int:
        """Pass over bytes, and note whether they are the codes."""
        if what in ("codes", "lists"):
            self.codes.extend(range(self.at, self.at + count))
        return super().skip(count, what)
