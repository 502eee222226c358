"""From faiss's own indexes, and to them."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import InputError, KindError
from deepq.decoders import Decoder
from deepq.index.flat import DeepQuantIndex
from deepq.index.native.chain import IndexPreTransform
from deepq.index.native.flat import IndexPQ, NativeFlat
from deepq.index.native.plain import PlainIndex
from deepq.quantizers.binary import BinaryQuantizer, kind_of
from deepq.quantizers.product import ProductQuantizer


def from_faiss(index: Any, encoder: Any = None) -> DeepQuantIndex:
    """Copy an IndexPQ, alone or behind transforms, or an IndexBinaryFlat into a DeepQuantIndex.

    Parameters
    ----------
    index : faiss.IndexPQ, faiss.IndexPreTransform or faiss.IndexBinaryFlat
        Also what ``faiss.read_index`` and ``faiss.downcast_index`` give back. Transforms may be
        linear (OPQ, PCA, random rotations), centring, or normalising to unit L2 norm, or what faiss
        has read of an encoder of deepq's, of a class in `deepq.encoders.TYPES`.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, if that is of a class of your own: see `read_index`.

    Returns
    -------
    DeepQuantIndex
        With the same codebooks, codes and search settings. Codebooks that are exactly those of a
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
    if isinstance(index, DeepQuantIndex):
        return copy.deepcopy(index)
    if isinstance(index, faiss.IndexBinary):
        return _from_binary(faiss.downcast_IndexBinary(index))
    if not isinstance(index, faiss.Index):
        raise KindError(f"expected a faiss index, got {type(index).__name__}")
    native = faiss.downcast_index(index)
    if isinstance(native, IndexPQ):
        native = IndexPreTransform(native)
    source = NativeFlat.of(native)
    if source is None:
        raise KindError(
            f"expected an IndexPQ or an IndexPreTransform over one, got {type(native).__name__}"
        )
    names = {name: getattr(source.pq_index, name) for name in DeepQuantIndex.settings}
    copied = from_plain(source.plain(encoder)._replace(settings=names))
    copied.pq.cp.niter, copied.pq.cp.seed = source.pq_index.pq.cp.niter, source.pq_index.pq.cp.seed
    return copied


def from_plain(plain: PlainIndex) -> DeepQuantIndex:
    """Make the index that the description of a faiss index stands for."""
    # A binary quantizer's codebooks are there before the encoder is fitted.
    kind = ProductQuantizer if plain.codebooks is None else kind_of(plain.codebooks)
    quantizer = kind(plain.M, plain.nbits)
    if plain.is_trained:
        quantizer.codebooks = plain.codebooks
    carried = plain.carried
    if carried is not None:
        quantizer.decoder = Decoder.from_state(carried["decoder"])
    index = DeepQuantIndex(
        plain.encoder.d_in,
        quantizer.M,
        quantizer.nbits,
        plain.metric,
        encoder=plain.encoder,
        quantizer=quantizer,
        rerank=0 if carried is None else carried["rerank"],
    )
    for name, value in plain.settings.items():
        setattr(index, name, value)
    index._store({"codes": plain.codes})
    return index


def _from_binary(native: Any) -> DeepQuantIndex:
    if not isinstance(native, faiss.IndexBinaryFlat):
        raise KindError(f"expected an IndexBinaryFlat, got {type(native).__name__}")
    M = native.code_size
    index = DeepQuantIndex(native.d, M, quantizer=BinaryQuantizer(M))
    index.add_sa_codes(faiss.vector_to_array(native.xb).reshape(native.ntotal, M))
    return index


def to_faiss(index: DeepQuantIndex, *, binary: bool = False) -> Any:
    """Copy a DeepQuantIndex into a plain faiss.IndexPreTransform(encoder, IndexPQ).

    Parameters
    ----------
    index : DeepQuantIndex
        Trained or not.
    binary : bool
        Copy the codes of a `BinaryQuantizer` into a faiss.IndexBinaryFlat instead, of
        d = M * nbits bits. It has no encoder, and takes codes: those of queries are
        ``index.sa_encode(x)``. D are Hamming distances, whatever the metric of `index`.

    Raises
    ------
    KindError
        If `index` is not a DeepQuantIndex.
    InputError
        If `binary` is asked for where the quantizer is another, or M * nbits is not a multiple
        of 8.
    """
    if not isinstance(index, DeepQuantIndex):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    with index._lock.reading():
        if binary:
            return _to_binary(index)
        return faiss.deserialize_index(faiss.serialize_index(index))


def _to_binary(index: DeepQuantIndex) -> Any:
    quantizer = index.quantizer
    if not isinstance(quantizer, BinaryQuantizer):
        raise InputError(f"expected a BinaryQuantizer, got {type(quantizer).__name__}")
    bits = quantizer.M * quantizer.nbits
    if bits % 8:
        raise InputError(f"expected codes of a multiple of 8 bits, got {bits}")
    native = faiss.IndexBinaryFlat(bits)
    native.add(np.array(index._native.codes))
    return native
