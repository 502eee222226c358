"""From faiss's own indexes, and to them."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import InputError, KindError
from deepq._common.types import Ids
from deepq.decoders import Decoder
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.native.cells import IndexIVFPQ, NativeCells
from deepq.index.native.chain import IndexPreTransform
from deepq.index.native.coarse import coarse_of
from deepq.index.native.flat import IndexPQ, NativeFlat
from deepq.index.native.plain import PlainCells, PlainIndex, with_ids
from deepq.index.native.refused import advice_for
from deepq.quantizers.binary import BinaryQuantizer, kind_of
from deepq.quantizers.product import ProductQuantizer


def from_faiss(index: Any, encoder: Any = None) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Copy an IndexPQ or IndexIVFPQ, alone or behind transforms, or an IndexBinaryFlat.

    An IndexIVFPQ may be in an IndexIDMap or IndexIDMap2: its ids become those of the lists.

    Parameters
    ----------
    index : faiss.IndexPQ, IndexIVFPQ, IndexPreTransform or IndexBinaryFlat
        Also what ``faiss.read_index`` and ``faiss.downcast_index`` give back. Transforms may be
        linear (OPQ, PCA, random rotations), centring, or normalising to unit L2 norm, or what faiss
        has read of an encoder of deepq's, of a class in `deepq.encoders.TYPES`.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, if that is of a class of your own: see `read_index`.

    Returns
    -------
    DeepQuantIndex, or DeepQuantIVFIndex
        With the same codebooks, codes, cells and search settings. Coarse quantizers may be
        IndexFlat, IndexHNSWFlat or MultiIndexQuantizer. Codebooks that are exactly those of a
        `BinaryQuantizer` make an index with one. That of an IndexBinaryFlat takes rows of +-1
        (n, d), one number for each bit, and D is 4 times the Hamming distance; its encoder is
        ``Identity(d)``.

    Raises
    ------
    KindError
        If it is another kind of index, or has another kind of transform.
    FormatError
        If the state of an encoder is damaged, of a class that is not in `TYPES`, or of a network
        that must be handed back, or is another.
    """
    if isinstance(index, DeepQuantIndex | DeepQuantIVFIndex):
        return copy.deepcopy(index)
    if isinstance(index, faiss.IndexBinary):
        return _from_binary(faiss.downcast_IndexBinary(index))
    if not isinstance(index, faiss.Index):
        raise KindError(f"expected a faiss index, got {type(index).__name__}")
    chain, ids = _inside(index)
    source = NativeCells.of(chain) or NativeFlat.of(chain)
    if source is None:
        name = type(chain).__name__
        raise KindError(
            "expected an IndexPQ or IndexIVFPQ, or an IndexPreTransform over one, "
            f"got {name}{advice_for(name)}"
        )
    plain, native = source.plain(encoder), source.pq_index
    if ids is not None:
        if not isinstance(plain.codes, PlainCells):
            name = type(faiss.downcast_index(index)).__name__
            raise KindError(f"expected an IndexPQ, got one in an {name}{advice_for(name)}")
        plain = plain._replace(codes=with_ids(plain.codes, ids))
    kind = DeepQuantIVFIndex if isinstance(plain.codes, PlainCells) else DeepQuantIndex
    copied = from_plain(
        plain._replace(settings={name: getattr(native, name) for name in kind.settings})
    )
    clusterings = [(copied.pq.cp, native.pq.cp)]
    if isinstance(copied, DeepQuantIVFIndex):
        clusterings.append((copied.cp, native.cp))
    for own, theirs in clusterings:
        own.niter, own.seed = theirs.niter, theirs.seed
    return copied


def _inside(index: Any) -> tuple[Any, Ids | None]:
    """Return the chain inside an index of faiss's, and the ids of a map around it or in it.

    It may be another chain of the same transforms, which belong to `index` still.
    """
    native, ids = _without_map(index)
    transforms: list[Any] = []
    if isinstance(native, IndexPreTransform) and ids is None:
        inner, ids = _without_map(native.index)
        if ids is not None:
            transforms = [native.chain.at(i) for i in range(native.chain.size())]
            native = inner
    if type(native) in (IndexPQ, IndexIVFPQ):  # an IndexIVFPQR has more codes
        native = IndexPreTransform(native)
        for transform in reversed(transforms):
            native.prepend_transform(transform)
    return native, ids


def _without_map(index: Any) -> tuple[Any, Ids | None]:
    """Return the index in a map of ids, and its ids; without one the index itself, and None."""
    native = faiss.downcast_index(index)
    if not isinstance(native, faiss.IndexIDMap):
        return native, None
    return faiss.downcast_index(native.index), faiss.vector_to_array(native.id_map)


def from_plain(plain: PlainIndex) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make the index that the description of a faiss index stands for."""
    if isinstance(plain.codes, PlainCells):
        return _in_cells(plain, plain.codes)
    # A binary quantizer's codebooks are there before the encoder is fitted.
    kind = ProductQuantizer if plain.codebooks is None else kind_of(plain.codebooks)
    quantizer = _quantizer(plain, kind(plain.M, plain.nbits))
    index = DeepQuantIndex(
        plain.encoder.d_in,
        quantizer.M,
        quantizer.nbits,
        plain.metric,
        encoder=plain.encoder,
        quantizer=quantizer,
        rerank=_rerank(plain),
    )
    for name, value in plain.settings.items():
        setattr(index, name, value)
    index._store({"codes": plain.codes})
    return index


def _in_cells(plain: PlainIndex, cells: PlainCells) -> DeepQuantIVFIndex:
    index = DeepQuantIVFIndex(
        coarse_of(cells.coarse),
        plain.encoder.d_in,
        cells.nlist,
        plain.M,
        plain.nbits,
        plain.metric,
        encoder=plain.encoder,
        by_residual=cells.by_residual,
        rerank=_rerank(plain),
    )
    for name, value in plain.settings.items():
        setattr(index, name, value)
    if plain.is_trained:
        index._inject(plain.encoder, _quantizer(plain, index.product_quantizer.fresh()))
        index._fill(cells.lists, cells.direct_map)
    return index


def _quantizer(plain: PlainIndex, quantizer: ProductQuantizer) -> ProductQuantizer:
    """Give an untrained quantizer what a description has for it."""
    if plain.is_trained:
        quantizer.codebooks = plain.codebooks
    if plain.carried is not None:
        quantizer.decoder = Decoder.from_state(plain.carried["decoder"])
    return quantizer


def _rerank(plain: PlainIndex) -> Any:
    return 0 if plain.carried is None else plain.carried["rerank"]


def _from_binary(native: Any) -> DeepQuantIndex:
    if not isinstance(native, faiss.IndexBinaryFlat):
        name = type(native).__name__
        raise KindError(f"expected an IndexBinaryFlat, got {name}{advice_for(name)}")
    M = native.code_size
    index = DeepQuantIndex(native.d, M, quantizer=BinaryQuantizer(M))
    index.add_sa_codes(faiss.vector_to_array(native.xb).reshape(native.ntotal, M))
    return index


def to_faiss(index: DeepQuantIndex | DeepQuantIVFIndex, *, binary: bool = False) -> Any:
    """Copy an index into a plain faiss.IndexPreTransform(encoder, IndexPQ or IndexIVFPQ).

    Parameters
    ----------
    index : DeepQuantIndex or DeepQuantIVFIndex
        Trained or not.
    binary : bool
        Copy the codes of a `BinaryQuantizer` into a faiss.IndexBinaryFlat instead, of
        d = M * nbits bits. It has no encoder, and takes codes: those of queries are
        ``index.sa_encode(x)``. D are Hamming distances, whatever the metric of `index`.

    Raises
    ------
    KindError
        If `index` is neither.
    InputError
        If `binary` is asked for where the quantizer is another, or M * nbits is not a multiple
        of 8.
    """
    if not isinstance(index, DeepQuantIndex | DeepQuantIVFIndex):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    with index._lock.reading():
        if binary:
            return _to_binary(index)
        native = faiss.deserialize_index(faiss.serialize_index(index))
        inner = faiss.downcast_index(native.index)
        for name in index.settings:  # of which faiss's files lack some
            setattr(inner, name, getattr(index, name))
        return native


def _to_binary(index: Any) -> Any:
    quantizer = index.product_quantizer
    if not isinstance(quantizer, BinaryQuantizer):
        raise InputError(f"expected a BinaryQuantizer, got {type(quantizer).__name__}")
    bits = quantizer.M * quantizer.nbits
    if bits % 8:
        raise InputError(f"expected codes of a multiple of 8 bits, got {bits}")
    native = faiss.IndexBinaryFlat(bits)
    native.add(np.array(index._native.codes))
    return native
