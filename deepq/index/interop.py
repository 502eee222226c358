"""From faiss's own indexes, and to them."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np

from deepq._common.checks import as_metric
from deepq._common.errors import InputError, KindError
from deepq.decoders import Decoder
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.native.cells import IndexIVFPQ, NativeCells
from deepq.index.native.chain import IndexPreTransform
from deepq.index.native.coarse import coarse_of, coarse_state
from deepq.index.native.flat import IndexPQ, NativeFlat
from deepq.index.native.plain import PlainIndex
from deepq.quantizers.binary import BinaryQuantizer, kind_of
from deepq.quantizers.product import ProductQuantizer


def from_faiss(index: Any, encoder: Any = None) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Copy an IndexPQ or IndexIVFPQ, alone or behind transforms, or an IndexBinaryFlat.

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
    native = faiss.downcast_index(index)
    if isinstance(native, IndexPQ | IndexIVFPQ):
        native = IndexPreTransform(native)
    cells = NativeCells.of(native)
    if cells is not None:
        return from_cells(cells, encoder)
    source = NativeFlat.of(native)
    if source is None:
        raise KindError(
            "expected an IndexPQ or IndexIVFPQ, or an IndexPreTransform over one, "
            f"got {type(native).__name__}"
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


def from_cells(source: NativeCells, network: Any = None) -> DeepQuantIVFIndex:
    """Copy what the C++ objects of an index of cells hold."""
    index, carried = source.pq_index, source.carried()
    encoder, trained = source.read_encoder(network), bool(source.chain.is_trained)
    if metric_of(index) != source.chain.metric_type:
        raise InputError("expected one metric in a chain and the index inside, got two")
    copied = DeepQuantIVFIndex(
        coarse_of(coarse_state(index.quantizer)),
        encoder.d_in,
        index.nlist,
        index.pq.M,
        index.pq.nbits,
        metric_of(index),
        encoder=encoder,
        by_residual=bool(index.by_residual),
        rerank=0 if carried is None else carried["rerank"],
    )
    for name in copied.settings:
        setattr(copied, name, getattr(index, name))
    for name in ("niter", "seed"):
        setattr(copied.cp, name, getattr(index.cp, name))
    if not trained:
        return copied
    quantizer = copied.product_quantizer.fresh()
    quantizer.codebooks = source.codebooks
    if carried is not None:
        quantizer.decoder = Decoder.from_state(carried["decoder"])
    copied._inject(encoder, quantizer)
    copied._take(source)
    return copied


def metric_of(index: Any) -> int:
    """Return the metric of an index of faiss's, which must be one of two."""
    return as_metric(index.metric_type)


def _from_binary(native: Any) -> DeepQuantIndex:
    if not isinstance(native, faiss.IndexBinaryFlat):
        raise KindError(f"expected an IndexBinaryFlat, got {type(native).__name__}")
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
        return faiss.deserialize_index(faiss.serialize_index(index))


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
