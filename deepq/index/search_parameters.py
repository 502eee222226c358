"""Parameters of one search, and the part of the stored vectors that they restrict it to."""

from __future__ import annotations

from typing import Any, NamedTuple

import faiss
import numpy as np

from deepq import _scan
from deepq._common.checks import as_array, as_count, as_size
from deepq._common.errors import DimensionError, KindError
from deepq._common.types import Codes, Ids

# Copying a code takes as long as scanning some hundreds for a query: codes are copied, and not
# passed over among all, up to a share of the stored ones that grows with the number of queries.
_COPIED_PER_QUERY, _COPIED_MOST = 1 / 500, 1 / 20
_ASKED_AT_ONCE = 1 << 15


class SearchParameters(faiss.SearchParametersPQ):
    """What one call of `search` or `range_search` does differently.

    Parameters
    ----------
    rerank : int, optional
        How many of the best vectors of the scan are ranked anew by the decoder, if the index has
        one; None for as many as `index.rerank` says.
    sel : faiss.IDSelector or array, optional
        The only vectors that may be found: a selector, an array of ids, or an (ntotal,) array of
        booleans.
    num_threads : int, optional
        Threads of this call; by default up to ``index.num_threads``, fewer where the work is too
        small to share.

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
        self.rerank = None if rerank is None else as_count(rerank, "rerank")
        self.num_threads = None if num_threads is None else as_size(num_threads, "num_threads")
        if sel is not None:
            self.sel = _as_selector(sel)


def _as_selector(sel: Any) -> Any:
    """Return a faiss.IDSelector for one, or for an array of ids or booleans."""
    if isinstance(sel, faiss.IDSelector):
        return sel
    got = type(sel).__name__
    if hasattr(sel, "shape"):  # a list of 0 and 1 may be meant for ids or for bools
        sel = as_array(sel, "sel")
        got = sel.dtype
    if not isinstance(sel, np.ndarray) or sel.dtype.kind not in "iub":
        raise KindError(f"expected sel to be an IDSelector, or an array of ids or bools, got {got}")
    if sel.ndim != 1:
        raise DimensionError(f"expected sel of shape (n,), got {sel.shape}")
    if sel.dtype.kind == "b":
        return faiss.IDSelectorBitmap(np.packbits(sel, bitorder="little"))
    return faiss.IDSelectorArray(np.ascontiguousarray(sel, dtype=np.int64))


class Selection(NamedTuple):
    """A part of the stored codes: `codes[rows]`, of those the ones that `bits` marks.

    Attributes
    ----------
    rows : slice or (m,) int64
        Positions, ascending.
    bits : (ceil(m / 8),) uint8 or None
        Little-endian bits, 0 for a row that must not be found; None: all may be.
    """

    rows: slice | Ids
    bits: Codes | None = None

    def to_ids(self, found: Ids) -> None:
        """Turn positions among the rows, in place, into ids; -1 stays."""
        if isinstance(self.rows, slice):
            if self.rows.start:
                found[found >= 0] += self.rows.start
        else:
            found[found >= 0] = self.rows[found[found >= 0]]


ALL = Selection(slice(0, None))


def selection(params: Any, ntotal: int, nq: int) -> Selection:
    """Return the part of `ntotal` stored vectors that the parameters of a search allow.

    For so few of them that it pays for `nq` queries, that is a list of rows, else bits.
    """
    if params is None or params.sel is None:
        return ALL
    sel = _as_constructed(params)
    if isinstance(sel, faiss.IDSelectorAll):
        return ALL
    if isinstance(sel, faiss.IDSelectorRange):
        begin, end = (min(max(int(bound), 0), ntotal) for bound in (sel.imin, sel.imax))
        return Selection(slice(begin, max(begin, end)))
    few = ntotal * min(nq * _COPIED_PER_QUERY, _COPIED_MOST)
    if isinstance(sel, faiss.IDSelectorArray):
        ids: Ids = faiss.rev_swig_ptr(sel.ids, sel.n) if sel.n else np.empty(0, np.int64)
        if len(ids) < min(few, ntotal / 64):
            ids = np.unique(ids)
            return Selection(ids[(ids >= 0) & (ids < ntotal)])
        bits = _scan.mark_ids(ids, ntotal)
    elif isinstance(sel, faiss.IDSelectorBitmap):
        bits = _bitmap(sel, ntotal)
    else:
        bits = _ask(sel, ntotal)
    if _scan.count_ids(bits, ntotal) < few:
        return Selection(np.flatnonzero(np.unpackbits(bits, count=ntotal, bitorder="little")))
    return Selection(slice(0, ntotal), bits)


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


def _bitmap(sel: Any, ntotal: int) -> Codes:
    """Return the selector's own bits, as many as there are vectors."""
    size = (ntotal + 7) // 8
    own: Codes = faiss.rev_swig_ptr(sel.bitmap, sel.n) if sel.n else np.empty(0, np.uint8)
    return own if len(own) >= size else np.pad(own, (0, size - len(own)))


def _ask(sel: Any, ntotal: int) -> Codes:
    """Ask any selector, in C++, about every id below `ntotal`."""
    bits = [np.empty(0, np.uint8)]
    probe = faiss.IndexFlatL2(2)  # 8 bytes a row, which hold its number
    numbers, ids = np.arange(_ASKED_AT_ONCE), faiss.Int64Vector()
    others = faiss.IDSelectorNot(faiss.IDSelectorTranslated(ids, sel))
    for begin in range(0, ntotal, _ASKED_AT_ONCE):
        faiss.copy_array_to_vector(numbers + begin, ids)
        faiss.copy_array_to_vector(numbers.view(np.uint8), probe.codes)
        probe.ntotal = len(numbers)
        probe.remove_ids_c(others)
        members = faiss.vector_to_array(probe.codes).view(np.int64)
        bits.append(_scan.mark_ids(members, len(numbers)))
    return np.concatenate(bits)
