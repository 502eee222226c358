"""From faiss's own indexes, and to them."""

from __future__ import annotations

import copy
from typing import Any

import faiss

from deepq._checks import KindError
from deepq._native import IndexPQ, IndexPreTransform, Native
from deepq._plain import PlainIndex
from deepq.decoders import Decoder
from deepq.index import DeepQuantIndex
from deepq.quantizers import ProductQuantizer
from deepq.state import SETTINGS


def from_faiss(index: Any, encoder: Any = None) -> DeepQuantIndex:
    """Copy an IndexPQ, alone or behind transforms, into a DeepQuantIndex.

    Parameters
    ----------
    index : faiss.IndexPQ or faiss.IndexPreTransform
        Also what ``faiss.read_index`` and ``faiss.downcast_index`` give back. Transforms may be
        linear (OPQ, PCA, random rotations), centring, or normalising to unit L2 norm, or what faiss
        has read of an encoder of deepq's, of a class in `deepq.encoders.TYPES`.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, if that is of a class of your own: see `read_index`.

    Returns
    -------
    DeepQuantIndex
        With the same codebooks, codes and search settings.

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
    if not isinstance(index, faiss.Index):
        raise KindError(f"expected a faiss index, got {type(index).__name__}")
    native = faiss.downcast_index(index)
    if isinstance(native, IndexPQ):
        native = IndexPreTransform(native)
    if not isinstance(native, IndexPreTransform) or not isinstance(
        faiss.downcast_index(native.index), IndexPQ
    ):
        raise KindError(
            f"expected an IndexPQ or an IndexPreTransform over one, got {type(native).__name__}"
        )
    source = Native(native)
    names = {name: getattr(source.pq_index, name) for name in SETTINGS}
    copied = from_plain(source.plain(encoder)._replace(settings=names))
    copied.pq.cp.niter, copied.pq.cp.seed = source.pq_index.pq.cp.niter, source.pq_index.pq.cp.seed
    return copied


def from_plain(plain: PlainIndex) -> DeepQuantIndex:
    """Make the index that the description of a faiss index stands for."""
    quantizer = ProductQuantizer(plain.M, plain.nbits)
    quantizer.codebooks = plain.codebooks
    carried = plain.carried
    if carried is not None:
        quantizer.decoder = Decoder.from_parts(carried["decoder"])
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
    index._fill(plain.codes)
    return index


def to_faiss(index: DeepQuantIndex) -> Any:
    """Copy a DeepQuantIndex into a plain faiss.IndexPreTransform(encoder, IndexPQ).

    Raises KindError if `index` is not a DeepQuantIndex.
    """
    if not isinstance(index, DeepQuantIndex):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    with index._lock.reading():
        return faiss.deserialize_index(faiss.serialize_index(index))
