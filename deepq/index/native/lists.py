"""Lists of an index of cells: where faiss has them, as data, and as blocks in files and pickles.

A block is the ids of a list (int64), its codes, and zeros up to a multiple of 64 bytes. Blocks lie
one after the other, that of cell 0 first; an empty list has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import faiss
import numpy as np

from deepq._common.errors import FormatError, InputError, StateError
from deepq._common.plain_data import Blocks
from deepq._common.safe_files import InFile, checksum
from deepq._common.types import Codes, Ids
from deepq.index.native import _mapped_lists

# Of a vector of codes or ids in a list of faiss's (MaybeOwnedVector): its bytes, and where in it
# the pointer to its numbers and their count are.
_VECTOR_SIZE, _POINTER_AT, _COUNT_AT = 80, 64, 72

_ALIGN = 64
_ID = np.dtype(np.int64).itemsize


class CellList(NamedTuple):
    """The list of a cell that is not empty: ids (n,) int64 and codes (n, code_size) uint8."""

    cell: int
    ids: Ids
    codes: Codes


Lists = Iterable[CellList]


def vectors_in(invlists: Any) -> tuple[int, int, int, int, int]:
    """Say where the vectors of codes and of ids of cell 0 are, as `_cells.Cells.place` takes it.

    Raises StateError for lists that are not in memory, or of a faiss that is not known.
    """
    lists = faiss.downcast_InvertedLists(invlists)
    if not isinstance(lists, faiss.ArrayInvertedLists):
        raise StateError(f"expected ArrayInvertedLists, got {type(lists).__name__}")
    if not has_known_vectors():
        raise StateError(f"expected lists as faiss 1.15 has them, got faiss {faiss.__version__}")
    codes, ids = (_mapped_lists.word(address_of(part)) for part in (lists.codes, lists.ids))
    return codes, ids, _VECTOR_SIZE, _POINTER_AT, _COUNT_AT


def make_room(invlists: Any, cells: Ids) -> None:
    """Let lists take a row more for each of the cells (n,), with little room beyond that.

    Without this a list that grows has room for up to twice its rows. Lists that are not as
    `vectors_in` knows them are left to faiss.
    """
    lists = faiss.downcast_InvertedLists(invlists)
    if isinstance(lists, faiss.ArrayInvertedLists) and has_known_vectors():
        codes, ids = address_of(lists.codes), address_of(lists.ids)
        growing = np.unique(cells, return_counts=True)
        _mapped_lists.make_room(codes, ids, *growing, lists.code_size)


@cache
def has_known_vectors() -> bool:
    """Whether the vectors in lists of this faiss are what we know, by reading two of them."""
    lists = faiss.ArrayInvertedLists(2, 1)
    ids, codes = np.array([5, 6, 7]), np.array([1, 2, 3], np.uint8)
    lists.add_entries(1, 3, faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    known = True
    for member, pointer in ((lists.codes, lists.get_codes(1)), (lists.ids, lists.get_ids(1))):
        vectors, at = address_of(member), faiss.rev_swig_ptr(pointer, 1).ctypes.data
        begin, end = (_mapped_lists.word(vectors + 8 * i) for i in range(2))
        known = known and end - begin == 2 * _VECTOR_SIZE
        known = known and _mapped_lists.fields(vectors, 1) == (2, True, at, 0, 0, at, 3)
    return known


def address_of(member: Any) -> int:
    """Return where a C++ object is, of which SWIG knows the class or not."""
    return int(getattr(member, "this", member))


def state_of(lists: Callable[[], Lists], nlist: int, code_size: int) -> dict[str, Any]:
    """Describe lists as plain data: they are gone through here, and again when it is written."""
    sizes, checksums = np.zeros(nlist, np.int64), np.zeros(nlist, np.uint64)
    for each in lists():
        sizes[each.cell], checksums[each.cell] = len(each.ids), checksum(_block_of(each))
    starts = _starts(sizes, code_size)
    content = Blocks(int(starts[-1]), lambda: map(_block_of, lists()))
    return {"sizes": sizes, "checksums": checksums.view(np.int64), "lists": content}


class RenamedLists:
    """Lists whose ids are places in `names` (n,), which holds what the ids are to be."""

    def __init__(self, lists: Lists, names: Ids) -> None:
        self._lists, self._names = lists, names

    def __iter__(self) -> Iterator[CellList]:
        for each in self._lists:
            if each.ids.min() < 0 or each.ids.max() >= len(self._names):
                got = f"{each.ids.min()} to {each.ids.max()}"
                raise InputError(
                    f"expected ids below {len(self._names)} in a map of ids, got {got}"
                )
            yield each._replace(ids=self._names[each.ids])


class StoredLists:
    """Lists of a state, whose blocks may be in a file.

    Attributes
    ----------
    sizes : (nlist,) int64
        Codes of every cell.
    content : InFile or (size,) uint8
        The blocks.
    starts : (nlist + 1,) int64
        Where the block of each cell begins in it, and where the last one ends.
    maps : bool
        Whether they are to stay in the file.

    Raises FormatError where they do not fit together.
    """

    def __init__(self, state: dict[str, Any], nlist: int, code_size: int) -> None:
        self.sizes, self.content, checksums = state["sizes"], state["lists"], state["checksums"]
        self._code_size, width = code_size, _ID + code_size
        for name, array in (("sizes", self.sizes), ("checksums", checksums)):
            if array.shape != (nlist,) or array.dtype != np.int64:
                raise FormatError(f"{name} {array.dtype} {array.shape} of {nlist} lists")
        (size,) = self.content.shape
        if nlist and not 0 <= self.sizes.min() <= self.sizes.max() <= size // width:
            raise FormatError(f"lists of {self.sizes.min()} to {self.sizes.max()} codes")
        self.starts = _starts(self.sizes, code_size)
        if (np.diff(self.starts) < 0).any() or self.starts[-1] != size:
            raise FormatError(f"lists of {self.starts[-1]} bytes instead of {size}")
        self._checksums = checksums.view(np.uint64)
        self._checks = not isinstance(self.content, InFile) or self.content.checks
        self.maps = isinstance(self.content, InFile) and self.content.maps

    @property
    def ids_at(self) -> Ids:
        """Where the ids of each cell begin."""
        return self.starts[:-1]

    @property
    def codes_at(self) -> Ids:
        """Where the codes of each cell begin."""
        places: Ids = self.starts[:-1] + _ID * self.sizes
        return places

    def __iter__(self) -> Iterator[CellList]:
        for cell in np.flatnonzero(self.sizes):
            n, (first, end) = int(self.sizes[cell]), self.starts[cell : cell + 2]
            if isinstance(self.content, InFile):
                block = self.content.part(first, end)
            else:
                block = self.content[first:end]
            if self._checks and checksum(block) != self._checksums[cell]:
                raise FormatError(f"a damaged list of cell {cell}")
            ids, codes = block[: _ID * n], block[_ID * n :][: self._code_size * n]
            yield CellList(int(cell), ids.view("<i8"), codes.reshape(n, self._code_size))


def _block_of(each: CellList) -> Codes:
    block = np.zeros(_padded((_ID + each.codes.shape[1]) * len(each.ids)), np.uint8)
    size = _ID * len(each.ids)
    block[:size] = np.ascontiguousarray(each.ids, "<i8").view(np.uint8)
    block[size:][: each.codes.size] = each.codes.reshape(-1)
    return block


def _starts(sizes: Ids, code_size: int) -> Ids:
    return np.concatenate([[0], np.cumsum(_padded((_ID + code_size) * sizes))])


def _padded(size: Any) -> Any:
    return -(-size // _ALIGN) * _ALIGN
