"""Parameters of one search, and the part of the stored vectors that they restrict it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import faiss
import numpy as np

from deepq import _scan
from deepq._common.arrays import as_array
from deepq._common.checks import as_count, as_size
from deepq._common.errors import DimensionError, KindError
from deepq._common.types import Codes, Ids
from deepq.index.native import called

# Copying a code takes as long as scanning some hundreds for a query: codes are copied, and not
# passed over among all, up to a share of the stored ones that grows with the number of queries.
_COPIED_PER_QUERY, _COPIED_MOST = 1 / 500, 1 / 20
_ASKED_AT_ONCE = 1 << 15

# How many ids each IDSelectorBatch has been asked about, and the bits it gave.
_asked: WeakKeyDictionary[Any, tuple[int, Codes]] = WeakKeyDictionary()


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

    nprobe : int, optional
        Cells that a query looks into, in an index of cells; None for as many as ``index.nprobe``
        says.

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
        self,
        *,
        rerank: int | None = None,
        sel: Any = None,
        num_threads: int | None = None,
        nprobe: int | None = None,
    ) -> None:
        super().__init__()
        self.nprobe = None if nprobe is None else as_size(nprobe, "nprobe")
        self.rerank = None if rerank is None else as_count(rerank, "rerank")
        self.num_threads = None if num_threads is None else as_size(num_threads, "num_threads")
        if sel is not None:
            self.sel = _as_selector(sel)
        called.remember(self)


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
    sel = as_constructed(params, params.sel)
    if isinstance(sel, faiss.IDSelectorAll):
        return ALL
    if isinstance(sel, faiss.IDSelectorRange):
        return Selection(slice(*_bounds(sel, ntotal)))
    few = ntotal * min(nq * _COPIED_PER_QUERY, _COPIED_MOST)
    if isinstance(sel, faiss.IDSelectorArray):
        ids = listed(sel)
        if len(ids) < min(few, ntotal / 64):
            ids = np.unique(ids)
            return Selection(ids[(ids >= 0) & (ids < ntotal)])
    bits = marks(sel, ntotal)
    count = _scan.count_ids(bits, ntotal)
    if count < few or not count:
        every = np.unpackbits(bits, count=ntotal, bitorder="little")
        return Selection(np.flatnonzero(every.view(np.bool_)))  # NumPy is quick for bools alone
    return _span(bits, count, ntotal)


def _span(bits: Codes, count: int, ntotal: int) -> Selection:
    """Codes from the first of `count` marked ones to the last; no bits where all are marked."""
    bits = bits[: (ntotal + 7) // 8].copy()
    bits[-1] &= 255 >> -ntotal % 8
    used = bits != 0
    begin, end = int(used.argmax()), len(used) - int(used[::-1].argmax())  # bytes
    first = 8 * begin + _marked(bits[begin])[0]
    last = 8 * end - 8 + _marked(bits[end - 1])[-1]
    if count == last + 1 - first:
        return Selection(slice(first, last + 1))
    return Selection(slice(8 * begin, min(8 * end, ntotal)), bits[begin:end])


def _marked(byte: Any) -> list[int]:
    """Places of the bits of a byte that are 1."""
    return [place for place in range(8) if int(byte) >> place & 1]


def as_constructed(holder: Any, sel: Any) -> Any:
    """Return a selector as the Python object it was made as.

    SWIG's getters only know the base class; the object that `holder` keeps alive knows its own.
    """
    for kept in vars(holder).values():
        items = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, list) else ()
        for item in items:
            for each in item if isinstance(item, tuple) else (item,):
                if isinstance(each, faiss.IDSelector) and int(each.this) == int(sel.this):
                    return each
    return sel


# What selectors of two others do with the bits of both.
_OF_TWO: dict[Any, Callable[..., Codes]] = {
    faiss.IDSelectorAnd: np.bitwise_and,
    faiss.IDSelectorOr: np.bitwise_or,
    faiss.IDSelectorXOr: np.bitwise_xor,
}


def marks(sel: Any, ntotal: int) -> Codes:
    """Bits (ceil(ntotal / 8),) of a selector; those beyond the last vector mean nothing."""
    if isinstance(sel, faiss.IDSelectorAll):
        return np.full((ntotal + 7) // 8, 255, np.uint8)
    if isinstance(sel, faiss.IDSelectorRange):
        return _scan.mark_ids(np.arange(*_bounds(sel, ntotal)), ntotal)
    if isinstance(sel, faiss.IDSelectorArray):
        return _scan.mark_ids(listed(sel), ntotal)
    if isinstance(sel, faiss.IDSelectorBitmap):
        return _bitmap(sel, ntotal)
    if isinstance(sel, faiss.IDSelectorBatch):
        return _set(sel, ntotal)
    if isinstance(sel, faiss.IDSelectorNot):
        return ~marks(as_constructed(sel, sel.sel), ntotal)
    if type(sel) in _OF_TWO:
        parts = (marks(as_constructed(sel, part), ntotal) for part in (sel.lhs, sel.rhs))
        return _OF_TWO[type(sel)](*parts)
    return _ask(sel, 0, ntotal)


def _bounds(sel: Any, ntotal: int) -> tuple[int, int]:
    """First id of a range, and the one behind its last, among those that are stored."""
    begin, end = (min(max(int(bound), 0), ntotal) for bound in (sel.imin, sel.imax))
    return begin, max(begin, end)


def listed(sel: Any) -> Ids:
    """Return a view of the ids in an IDSelectorArray."""
    ids: Ids = faiss.rev_swig_ptr(sel.ids, sel.n) if sel.n else np.empty(0, np.int64)
    return ids


def _set(sel: Any, ntotal: int) -> Codes:
    """Bits of an IDSelectorBatch, whose ids nothing in Python can change: asked for once."""
    known, bits = _asked.get(sel, (0, np.empty(0, np.uint8)))
    if known < ntotal:
        whole = known // 8
        bits = np.concatenate([bits[:whole], _ask(sel, 8 * whole, ntotal)])
        _asked[sel] = ntotal, bits
    return bits[: (ntotal + 7) // 8]


def _bitmap(sel: Any, ntotal: int) -> Codes:
    """Return the selector's own bits, as many as there are vectors."""
    size = (ntotal + 7) // 8
    own: Codes = faiss.rev_swig_ptr(sel.bitmap, sel.n) if sel.n else np.empty(0, np.uint8)
    return own if len(own) >= size else np.pad(own, (0, size - len(own)))


def _ask(sel: Any, first: int, ntotal: int) -> Codes:
    """Ask any selector, in C++, about every id from `first`, a multiple of 8, to ntotal - 1."""
    known = called.members(sel, first, ntotal)
    if known is not None:
        return known
    bits = [np.empty(0, np.uint8)]
    probe = faiss.IndexFlatL2(2)  # 8 bytes a row, which hold its number
    numbers, ids = np.arange(_ASKED_AT_ONCE), faiss.Int64Vector()
    others = faiss.IDSelectorNot(faiss.IDSelectorTranslated(ids, sel))
    for begin in range(first, ntotal, _ASKED_AT_ONCE):
        faiss.copy_array_to_vector(numbers + begin, ids)
        faiss.copy_array_to_vector(numbers.view(np.uint8), probe.codes)
        probe.ntotal = len(numbers)
        probe.remove_ids_c(others)
        members = faiss.vector_to_array(probe.codes).view(np.int64)
        bits.append(_scan.mark_ids(members, len(numbers)))
    return np.concatenate(bits)
