"""Parameters of one search, and the part of the stored vectors that they restrict it to."""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._checks import Codes, DimensionError, Ids, InputError, KindError, as_integer, as_size

# Up to this share of the stored codes it is cheaper to copy them than to pass over the others.
_COPIED_SHARE = 1 / 8


class SearchParameters(faiss.SearchParametersPQ):
    """What one call of `search` or `range_search` does differently.

    Parameters
    ----------
    rerank : int, optional
        Reserved for re-ranking with a decoder; None or 0.
    sel : faiss.IDSelector or array, optional
        The only vectors that may be found: a selector, an array of ids, or an (ntotal,) array of
        booleans.
    num_threads : int, optional
        Threads of this call; by default as many as `faiss.omp_get_max_threads`, or fewer where
        the work is too small to share.

    Attributes
    ----------
    search_type, polysemous_ht : int
        As in faiss.SearchParametersPQ.

    Raises
    ------
    KindError, InputError
        If an argument is of the wrong kind, or out of range.
    """

    def __init__(
        self, *, rerank: int | None = None, sel: Any = None, num_threads: int | None = None
    ) -> None:
        super().__init__()
        if rerank is not None and as_integer(rerank, "rerank") != 0:
            raise InputError(f"expected rerank of None or 0: there is no decoder yet, got {rerank}")
        self.rerank = rerank
        self.num_threads = None if num_threads is None else as_size(num_threads, "num_threads")
        if sel is not None:
            self.sel = _as_selector(sel)


def _as_selector(sel: Any) -> Any:
    """Return a faiss.IDSelector for one, or for an array of ids or booleans."""
    if isinstance(sel, faiss.IDSelector):
        return sel
    if not isinstance(sel, np.ndarray) or sel.dtype.kind not in "iub":
        got = getattr(sel, "dtype", type(sel).__name__)
        raise KindError(f"expected sel to be an IDSelector, or an array of ids or bools, got {got}")
    if sel.ndim != 1:
        raise DimensionError(f"expected sel of shape (n,), got {sel.shape}")
    if sel.dtype.kind == "b":
        return faiss.IDSelectorBitmap(np.packbits(sel, bitorder="little"))
    return faiss.IDSelectorArray(sel)


class Selection(NamedTuple):
    """A part of the stored codes: `codes[rows]`, of those the ones that `flags` marks.

    Attributes
    ----------
    rows : slice or (m,) int64
        Positions, ascending.
    flags : (m,) uint8 or None
        0 for a row that must not be found; None: all may be.
    """

    rows: slice | Ids
    flags: Codes | None = None

    def to_ids(self, found: Ids) -> None:
        """Turn positions among the rows, in place, into ids; -1 stays."""
        if isinstance(self.rows, slice):
            if self.rows.start:
                found[found >= 0] += self.rows.start
        else:
            found[found >= 0] = self.rows[found[found >= 0]]


ALL = Selection(slice(0, None))


def selection(params: Any, ntotal: int) -> Selection:
    """Return the part of `ntotal` stored vectors that the parameters of a search allow."""
    if params is None or params.sel is None:
        return ALL
    sel = _as_constructed(params)
    if isinstance(sel, faiss.IDSelectorRange):
        begin, end = (min(max(int(bound), 0), ntotal) for bound in (sel.imin, sel.imax))
        return Selection(slice(begin, max(begin, end)))
    if isinstance(sel, faiss.IDSelectorArray) and sel.n < ntotal * _COPIED_SHARE / 4:
        ids = np.unique(_ids(sel))
        return Selection(ids[(ids >= 0) & (ids < ntotal)])
    flags = _flags(sel, ntotal)
    if np.count_nonzero(flags) < ntotal * _COPIED_SHARE:
        return Selection(np.flatnonzero(flags))
    return Selection(slice(0, ntotal), flags)


def _as_constructed(params: Any) -> Any:
    """Return the selector as the Python object it was made as.

    SWIG's getter only knows the base class; the object that faiss keeps alive knows its own.
    """
    for kept in vars(params).values():
        items = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, list) else ()
        for item in items:
            if isinstance(item, faiss.IDSelector) and int(item.this) == int(params.sel.this):
                return item
    return params.sel


def _ids(sel: Any) -> Ids:
    if not sel.n:
        return np.empty(0, np.int64)
    ids: Ids = faiss.rev_swig_ptr(sel.ids, sel.n)
    return ids


def _flags(sel: Any, ntotal: int) -> Codes:
    """Return 1 for every id below `ntotal` that a selector has, else 0."""
    flags = np.zeros(ntotal, np.uint8)
    if isinstance(sel, faiss.IDSelectorArray):
        ids = _ids(sel)
        if len(ids) and not 0 <= ids.min() <= ids.max() < ntotal:
            ids = ids[(ids >= 0) & (ids < ntotal)]
        flags[ids] = 1
    elif isinstance(sel, faiss.IDSelectorBitmap):
        size = min(sel.n, (ntotal + 7) // 8)
        if size:
            bits = np.unpackbits(faiss.rev_swig_ptr(sel.bitmap, size), bitorder="little")
            flags[: len(bits)] = bits[:ntotal]
    elif isinstance(sel, faiss.IDSelectorAll):
        flags[:] = 1
    else:
        flags[_members(sel, ntotal)] = 1
    return flags


def _members(sel: Any, ntotal: int) -> NDArray[np.bool_]:
    """Ask any selector, in C++, about every id below `ntotal`."""
    ids = np.arange(ntotal, dtype=np.int64)
    probe = faiss.IndexFlatL2(2)  # 8 bytes a row, which hold its number
    faiss.copy_array_to_vector(ids.view(np.uint8), probe.codes)
    probe.ntotal = ntotal
    probe.remove_ids_c(sel)
    members = np.ones(ntotal, np.bool_)
    members[faiss.vector_to_array(probe.codes).view(np.int64)] = False
    return members
