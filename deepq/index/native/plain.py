"""A faiss index behind transforms as plain data, from C++ objects or the bytes of a file."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.safe_files import InFile
from deepq._common.types import Codes, Floats, Ids
from deepq.encoders.base import Encoder
from deepq.index.native.lists import Lists, RenamedLists

_HASHTABLE = 2  # faiss.DirectMap.Hashtable


class Transform(NamedTuple):
    """A faiss VectorTransform.

    Of the kinds "linear" (`numbers` are A, and there is `b`), "centring" (the mean), "remapping"
    (which input is each output, -1 for none) and "normalizing" (the norm), or of another, whose
    numbers are not known. Some have a `spare` place, where `payload` may have put something.
    """

    kind: str
    d_in: int
    d_out: int
    is_trained: bool
    numbers: NDArray[Any]
    has_bias: bool = False
    b: Floats = np.empty(0, np.float32)
    spare: Floats = np.empty(0, np.float32)


class PlainCells(NamedTuple):
    """What an IndexIVFPQ has besides codebooks.

    `coarse` is the state of its coarse quantizer, see `coarse`; `direct_map` the type of its direct
    map; `lists` can be gone through once or more.
    """

    nlist: int
    by_residual: bool
    coarse: dict[str, Any]
    direct_map: int
    lists: Lists


def with_ids(cells: PlainCells, ids: Ids) -> PlainCells:
    """Cells with the ids of a map around them: what was number i there has ids[i] here."""
    direct_map = _HASHTABLE if cells.direct_map else 0  # the only one of any ids
    return cells._replace(lists=RenamedLists(cells.lists, ids), direct_map=direct_map)


class PlainIndex(NamedTuple):
    """An encoder and what an IndexPQ holds, or an IndexIVFPQ, whose codes are in cells.

    `is_trained` is that of the whole; the codebooks (M, ksub, dsub) are None if the index inside is
    not.
    """

    encoder: Encoder
    is_trained: bool
    M: int
    nbits: int
    metric: int
    codebooks: Floats | None
    codes: Codes | InFile | PlainCells
    settings: dict[str, Any]
    carried: dict[str, Any] | None  # what `NativeChain.carry` put into it


# ---- what may be around it -----------------------------------------------------------------------


class PlainMap(NamedTuple):
    """An IndexIDMap, or an IndexIDMap2, which also `finds` the place of an id."""

    ids: Ids
    finds: bool


class PlainTransforms(NamedTuple):
    """An IndexPreTransform around another composite, or another chain."""

    transforms: list[Transform]


class PlainRefinement(NamedTuple):
    """An IndexRefineFlat with its vectors (n, d)."""

    vectors: Floats
    k_factor: float


PlainAround = PlainMap | PlainTransforms | PlainRefinement


class PlainNest(NamedTuple):
    """An index, and the composites that it is in, the outermost first."""

    inner: PlainIndex
    around: tuple[PlainAround, ...]
