"""From faiss's own indexes, and to them."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import InputError, KindError
from deepq._common.types import Ids
from deepq.index.carried import take_decoder, take_settings
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.native import called
from deepq.index.native.cells import IndexIVFPQ, NativeCells
from deepq.index.native.chain import IndexPreTransform
from deepq.index.native.coarse import coarse_of
from deepq.index.native.composites import many_like, nested, put_around, put_inside
from deepq.index.native.flat import IndexPQ, NativeFlat
from deepq.index.native.originals import downcast_index, written
from deepq.index.native.plain import PlainCells, PlainIndex, PlainNest, with_ids
from deepq.index.native.refused import advice_for
from deepq.quantizers.binary import BinaryQuantizer, kind_of
from deepq.quantizers.product import ProductQuantizer

_BARE = (IndexPQ, IndexIVFPQ)  # by type: an IndexIVFPQR has more codes


def from_faiss(index: Any, encoder: Any = None) -> Any:
    """Copy an IndexPQ or IndexIVFPQ, alone or behind transforms, or an IndexBinaryFlat.

    An IndexIVFPQ may be in an IndexIDMap or IndexIDMap2: its ids become those of the lists.
    Of another composite a copy is made that has an index of deepq inside.

    Parameters
    ----------
    index : faiss.IndexPQ, IndexIVFPQ, IndexPreTransform or IndexBinaryFlat
        Or an IndexIDMap, IndexIDMap2, IndexPreTransform, IndexRefineFlat, IndexShards or
        IndexReplicas around one, or around an index of deepq. Also what
        ``faiss.read_index`` and ``faiss.downcast_index`` give back. Transforms may be linear (OPQ,
        PCA, random rotations), centring, or normalising to unit L2 norm, or what faiss has read of
        an encoder of deepq's, of a class in `deepq.encoders.TYPES`.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, if that is of a class of your own: see `read_index`.

    Returns
    -------
    DeepQuantIndex, DeepQuantIVFIndex, or a composite of faiss's
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
    if source is None or (ids is not None and not isinstance(source, NativeCells)):
        return _around(downcast_index(index), encoder)
    return copy_of(source, encoder, ids)


def copy_of(
    source: Any, network: Any = None, ids: Ids | None = None
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make the index of C++ objects; ids that lists have got by a map around them are given."""
    plain, native = source.plain(network), source.pq_index
    if ids is not None:
        plain = plain._replace(codes=with_ids(plain.codes, ids))
    kind = DeepQuantIVFIndex if isinstance(plain.codes, PlainCells) else DeepQuantIndex
    index = from_plain(
        plain._replace(settings={name: getattr(native, name) for name in kind.settings})
    )
    clusterings = [(index.pq.cp, native.pq.cp)]
    if isinstance(index, DeepQuantIVFIndex):
        clusterings.append((index.cp, native.cp))
    for own, theirs in clusterings:
        own.niter, own.seed = theirs.niter, theirs.seed
    return index


# ---- composites ----------------------------------------------------------------------------------


def _around(index: Any, network: Any) -> Any:
    """Copy a composite, with indexes of ours inside. Raises KindError where none can be."""
    fault = called.fault()
    if not fault:
        many = many_like(index, lambda inner: from_faiss(inner, network))
        if many is not None:
            return many
        for depth, inner in enumerate(nested(index)):
            if depth and (NativeCells.of(inner) or NativeFlat.of(inner) or type(inner) in _BARE):
                living, copied = called.living(inner), written(index)
                put_inside(copied, depth, from_faiss(inner if living is None else living, network))
                return copied
    outer, name = type(index).__name__, type(nested(index)[-1]).__name__
    where = "" if name == outer else f" in an {outer}"
    raise KindError(
        "expected an IndexPQ or IndexIVFPQ, or an IndexPreTransform or a composite over one, "
        f"got {name}{where}{': ' + fault if fault else advice_for(name)}"
    )


def inner_index(index: Any) -> Any:
    """Return the index of ours in a composite of faiss's, or `index` itself if it is one."""
    found = (called.living(each) for each in nested(index))
    return next((each for each in found if each is not None), index)


def _inside(index: Any) -> tuple[Any, Ids | None]:
    """Return the chain inside an index of faiss's, and the ids of a map around it or in it.

    It may be another chain of the same transforms, which belong to `index` still.
    """
    native, ids = _without_map(index)
    transforms: list[Any] = []
    if isinstance(native, IndexPreTransform) and ids is None:
        inner, ids_inside = _without_map(native.index)
        if ids_inside is not None and type(inner) in _BARE:
            ids = ids_inside
            transforms = [native.chain.at(i) for i in range(native.chain.size())]
            native = inner
    if type(native) in _BARE:
        native = IndexPreTransform(native)
        for transform in reversed(transforms):
            native.prepend_transform(transform)
    return native, ids


def _without_map(index: Any) -> tuple[Any, Ids | None]:
    """Return the index in a map of ids, and its ids; without one the index itself, and None."""
    native = downcast_index(index)
    if not isinstance(native, faiss.IndexIDMap):
        return native, None
    return downcast_index(native.index), faiss.vector_to_array(native.id_map)


def from_nest(nest: PlainNest) -> Any:
    """Make the index that a description stands for, and the composites around it.

    Raises KindError where composites cannot call us.
    """
    if nest.around and called.fault():
        raise KindError(f"expected an index that is in no composite, got one: {called.fault()}")
    made = from_plain(nest.inner)
    for around in reversed(nest.around):
        made = put_around(made, around)
    return made


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
    )
    for name, value in plain.settings.items():
        setattr(index, name, value)
    take_settings(index, plain.carried)
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
    )
    for name, value in plain.settings.items():
        setattr(index, name, value)
    take_settings(index, plain.carried)
    if plain.is_trained:
        index._inject(plain.encoder, _quantizer(plain, index.product_quantizer.fresh()))
        index._fill(cells.lists, cells.direct_map)
    return index


def _quantizer(plain: PlainIndex, quantizer: ProductQuantizer) -> ProductQuantizer:
    """Give an untrained quantizer what a description has for it."""
    if plain.is_trained:
        quantizer.codebooks = plain.codebooks
    take_decoder(quantizer, plain.carried)
    return quantizer


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
        native = written(index)
        inner = downcast_index(native.index)
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
