"""Lists that stay in a file, under an index of cells: `mapped`, of codes and ids in lists.

The vectors of faiss's lists become views of the mapped file. The functions of the C++ objects that
change lists are replaced by ones that throw, wherever they are called from (`_mapped_lists`). This
takes knowledge of faiss's classes that no header checks: `fault` does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import StateError
from deepq._common.types import Codes, Ids
from deepq.index.native import _mapped_lists
from deepq.index.native.known_faiss import fault_of
from deepq.index.native.lists import address_of, has_known_vectors
from deepq.index.native.mapped import all_refused
from deepq.index.native.originals import clone_index

_IndexIVFPQ = faiss.IndexIVFPQ  # kept at import: a program may put another class in its place


def place_lists(index: Any, memory: Codes, ids_at: Ids, codes_at: Ids, sizes: Ids) -> None:
    """Make parts of an array of bytes the lists of an empty IndexIVFPQ, which refuses to change.

    Parameters
    ----------
    index : faiss.IndexIVFPQ
        Only `reset` and merging from it are possible then; they let go of the array.
    memory : (size,) uint8
        Bytes, from a multiple of 8 on.
    ids_at, codes_at, sizes : (nlist,) int64
        Where in it the ids and codes of each cell begin, and how many there are.

    Raises StateError with a faiss that this does not work with.
    """
    require()
    _place(index, memory, ids_at, codes_at, sizes)


def is_mapped(index: Any) -> bool:
    """Whether the lists of an IndexIVFPQ are in a file; no trial is needed to ask."""
    return _mapped_lists.is_mapped(int(index.this))


def require() -> None:
    """Raise StateError with a faiss that this does not work with."""
    if fault():
        raise StateError(f"expected a faiss that takes mapped lists, got another: {fault()}")


@cache
def fault() -> str:
    """Say why lists cannot be mapped here, if so; found out once, at the first need."""
    return fault_of(_has_known_layout, _works)


def _place(index: Any, memory: Codes, ids_at: Ids, codes_at: Ids, sizes: Ids) -> None:
    address = memory.__array_interface__["data"][0]
    _mapped_lists.place(int(index.this), address, ids_at, codes_at, sizes, index.code_size, memory)
    index.ntotal = int(sizes.sum())


def _has_known_layout() -> bool:
    """Compare an IndexIVFPQ and its lists with our declarations of them, without calling them."""
    index = _tiny()
    lists = faiss.downcast_InvertedLists(index.invlists)
    start, own = int(index.this), int(lists.this)
    places = [
        at
        for at in range(8, int(index.direct_map.this) - start, 8)
        if _mapped_lists.word(start + at) == own
    ]
    return (
        has_known_vectors()
        and len(places) == 1
        and _mapped_lists.prepare(
            start, own, address_of(lists.codes), address_of(lists.ids), places[0]
        )
    )


def _works() -> bool:
    """Let an index have known lists, change them in every way, empty it, and let go of them."""
    memory = np.zeros(40, np.uint8)  # three ids and codes of cell 0; cell 1 is empty
    memory[:24].view(np.int64)[:] = 70, 30, 10
    memory[24:27] = 0, 3, 1
    ids_at, codes_at, sizes = np.array([0, 32]), np.array([24, 32]), np.array([3, 0])
    alive = weakref.ref(memory)
    index, other, into = _tiny(), _tiny(), _tiny()
    for each in (index, other):
        _place(each, memory, ids_at, codes_at, sizes)
    right = _holds(index) and _refuses_changes(index, memory) and _holds(index)
    into.merge_from(other, 0)
    right = right and _holds(into) and other.ntotal == 0 and not is_mapped(other)
    index.reset()
    index.add_sa_codes_c(1, faiss.swig_ptr(memory[24:26]), faiss.swig_ptr(ids_at))
    right = right and index.invlists.list_size(0) == 1 and not is_mapped(index)
    del memory, each, other
    return right and alive() is None


def _tiny() -> Any:
    """Make an index of two cells and two numbers, of one bit each."""
    coarse = faiss.IndexFlatL2(2)
    coarse.add_c(2, faiss.swig_ptr(np.array([[0, 0], [100, 100]], np.float32)))
    index = _IndexIVFPQ(coarse, 2, 2, 2, 1)
    index.by_residual, index.is_trained = False, True
    faiss.copy_array_to_vector(np.array([1, 2, 3, 4], np.float32), index.pq.centroids)
    return index


def _holds(index: Any) -> bool:
    """Whether an index finds what `_works` has put into it."""
    x = np.array([[2, 4]], np.float32)
    D, I = np.empty((1, 3), np.float32), np.empty((1, 3), np.int64)
    index.search_c(1, faiss.swig_ptr(x), 3, faiss.swig_ptr(D), faiss.swig_ptr(I))
    sizes = [index.invlists.list_size(cell) for cell in range(2)]
    return I.tolist() == [[30, 10, 70]] and D.tolist() == [[0, 1, 2]] and sizes == [3, 0]


def _refuses_changes(index: Any, memory: Codes) -> bool:
    x, ids = np.zeros((1, 2), np.float32), np.array([30])
    pointers = [faiss.swig_ptr(array) for array in (x, ids, memory)]
    lists, empty = index.invlists, _tiny()
    changes: list[Callable[[], Any]] = [
        lambda: index.add_c(1, pointers[0]),
        lambda: index.add_with_ids_c(1, pointers[0], pointers[1]),
        lambda: index.add_sa_codes_c(1, pointers[2], pointers[1]),
        lambda: index.remove_ids_c(faiss.IDSelectorRange(0, 100)),
        lambda: index.update_vectors_c(1, pointers[1], pointers[0]),
        lambda: index.merge_from(empty, 0),
        lambda: lists.add_entries(1, 1, pointers[1], pointers[2]),
        lambda: lists.update_entries(0, 0, 1, pointers[1], pointers[2]),
        lambda: lists.resize(0, 1),
        lambda: clone_index(index),
    ]
    return all_refused(changes)
