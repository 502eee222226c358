"""Which ids may be found, as plain data that can be sent to shards.

faiss's selectors are C++ objects: they cannot be pickled, and in a shard whose ids are not those
of the whole they would select others.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import InputError
from deepq._common.types import Ids
from deepq.index import search_parameters as own

# A name and what belongs to it: ("all",), ("range", first, end), ("ids", ascending ids),
# ("bits", little-endian bits of ids from 0 on), ("not", restriction), ("and", one, other), ...
Restriction = tuple[Any, ...]
_OF_TWO = {
    faiss.IDSelectorAnd: ("and", np.logical_and),
    faiss.IDSelectorOr: ("or", np.logical_or),
    faiss.IDSelectorXOr: ("xor", np.logical_xor),
}
_JOIN = dict(_OF_TWO.values())
_MOST_ASKED = 1 << 33  # ids that a selector of unknown content is asked about


def as_plain(params: Any, largest: int) -> Restriction | None:
    """Describe the selector in parameters of a search; None where there is none.

    Raises InputError for one that can only be asked, id by id, where ids go further than 2^33.
    """
    if params is None or params.sel is None:
        return None
    return _plain(own.as_constructed(params, params.sel), largest)


def _plain(sel: Any, largest: int) -> Restriction:
    if isinstance(sel, faiss.IDSelectorAll):
        return ("all",)
    if isinstance(sel, faiss.IDSelectorRange):
        return "range", int(sel.imin), int(sel.imax)
    if isinstance(sel, faiss.IDSelectorArray):
        return "ids", np.unique(own.listed(sel))
    if isinstance(sel, faiss.IDSelectorNot):
        return "not", _plain(own.as_constructed(sel, sel.sel), largest)
    if type(sel) in _OF_TWO:
        parts = (_plain(own.as_constructed(sel, part), largest) for part in (sel.lhs, sel.rhs))
        return _OF_TWO[type(sel)][0], *parts
    if isinstance(sel, faiss.IDSelectorBitmap):
        return "bits", own.marks(sel, 8 * int(sel.n)).copy()
    if largest >= _MOST_ASKED:
        kinds = "IDSelectorRange, IDSelectorArray, an array of ids, or what joins these"
        raise InputError(f"expected {kinds}, for ids up to {largest}, got {type(sel).__name__}")
    return "bits", own.marks(sel, largest + 1).copy()


def allows(restriction: Restriction, ids: Ids) -> NDArray[np.bool_]:
    """Say of each of the ids (n,) whether it may be found."""
    kind, *parts = restriction
    if kind == "all":
        return np.ones(len(ids), np.bool_)
    if kind == "range":
        return np.asarray((ids >= parts[0]) & (ids < parts[1]))
    if kind == "ids":
        at = np.searchsorted(parts[0], ids)
        return np.asarray(np.append(parts[0], -1)[at] == ids)
    if kind == "bits":
        places = np.minimum(ids >> 3, len(parts[0]))
        return np.asarray(np.append(parts[0], np.uint8(0))[places] >> (ids & 7) & 1, np.bool_)
    if kind == "not":
        return ~allows(parts[0], ids)
    return np.asarray(_JOIN[kind](allows(parts[0], ids), allows(parts[1], ids)))


def as_selector(restriction: Restriction) -> Any:
    """Make a selector of faiss's again; it keeps what it needs alive."""
    kind, *parts = restriction
    if kind == "all":
        return faiss.IDSelectorAll()
    if kind == "range":
        return faiss.IDSelectorRange(*parts)
    if kind == "ids":
        return faiss.IDSelectorBatch(parts[0])
    if kind == "bits":
        return faiss.IDSelectorBitmap(parts[0])
    if kind == "not":
        return faiss.IDSelectorNot(as_selector(parts[0]))
    cls = next(cls for cls, (name, _) in _OF_TWO.items() if name == kind)
    return cls(*(as_selector(part) for part in parts))
