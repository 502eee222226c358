"""Codes that stay in a file, under an index: mapped into memory, and shared between processes.

faiss's vector of codes can be a view of memory that is somebody else's; but a view cannot grow. So
the functions of the C++ object that change codes are replaced by ones that throw, wherever they are
called from, and its memory is kept as long as it lives (`_mapped`). This takes knowledge of faiss's
classes that no header checks: `fault` does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import StateError
from deepq._common.types import Codes
from deepq.index.native import _mapped
from deepq.index.native.known_faiss import fault_of
from deepq.index.native.originals import clone_index

_IndexPQ = faiss.IndexPQ  # kept at import: a program may put another class in its place


def place_codes(pq_index: Any, codes: Codes) -> None:
    """Make an array (n, code_size) the codes of an empty IndexPQ, which then refuses to change.

    Only `reset` is possible; it lets go of the array.
    """
    require()
    _place(pq_index, codes)


def require() -> None:
    """Raise StateError with a faiss that this does not work with."""
    if fault():
        raise StateError(f"expected a faiss that takes mapped codes, got another: {fault()}")


@cache
def fault() -> str:
    """Say why codes cannot be mapped here, if so; found out once, at the first need."""
    return fault_of(lambda: _has_known_layout(_IndexPQ(4, 2, 1)), _works)


def _place(pq_index: Any, codes: Codes) -> None:
    _mapped.place(int(pq_index.this), codes.__array_interface__["data"][0], codes.nbytes, codes)
    pq_index.ntotal = len(codes)


def _has_known_layout(index: Any) -> bool:
    """Compare an IndexPQ with our declaration of it, without calling it."""
    codes = index.codes
    codes.resize(5)
    known = (True, int(codes.owned_data.this), 0, 0, int(codes.data()), 5)
    return _mapped.fields(int(codes.this)) == known and _mapped.prepare(
        int(index.this), int(codes.this)
    )


def _works() -> bool:
    """Let an index have known codes, change them in every way, reset it, and let go of them."""
    codes = np.array([[0], [3], [1]], np.uint8)
    alive = weakref.ref(codes)
    index, other = _tiny(), _tiny()
    for each in (index, other):
        _place(each, codes)
    z = np.empty((3, 2), np.float32)
    index.reconstruct_n_c(0, 3, faiss.swig_ptr(z))
    right = (
        np.array_equal(z, [[1, 3], [2, 4], [2, 3]])
        and _refuses_changes(index, codes)
        and faiss.vector_to_array(index.codes).tolist() == [0, 3, 1]
    )
    index.reset()
    index.add_sa_codes_c(1, faiss.swig_ptr(codes[1:]), None)
    right = right and faiss.vector_to_array(index.codes).tolist() == [3]
    del codes, each, other
    return right and alive() is None


def _tiny() -> Any:
    """Make an index of two numbers, of one bit each."""
    index = _IndexPQ(2, 2, 1)
    index.is_trained = True
    faiss.copy_array_to_vector(np.array([1, 2, 3, 4], np.float32), index.pq.centroids)
    return index


def _refuses_changes(index: Any, codes: Codes) -> bool:
    x, selector, empty = np.zeros((1, 2), np.float32), faiss.IDSelectorRange(0, 1), _tiny()
    changes: list[Callable[[], Any]] = [
        lambda: index.add_c(1, faiss.swig_ptr(x)),
        lambda: index.add_sa_codes_c(1, faiss.swig_ptr(codes), None),
        lambda: index.remove_ids_c(selector),
        lambda: index.merge_from(empty),
        lambda: clone_index(index),
    ]
    return all_refused(changes)


def all_refused(changes: list[Callable[[], Any]]) -> bool:
    """Try changes of a trial's index; whether every one of them raises what C++ code throws."""
    for change in changes:
        try:
            change()
        except (RuntimeError, MemoryError):
            continue
        return False
    return True
