"""The ids in the lists of cells: which there are, where they lie, and faiss's own maps of them."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from deepq import _cells
from deepq._common.errors import InputError
from deepq._common.types import Ids
from deepq.index.native.chain import NativeChain

_FEW = 1000  # ids that are looked up one by one


class CellIds(NativeChain):
    """The part of `NativeCells` that knows ids."""

    def __init__(self, chain: Any) -> None:
        super().__init__(chain)
        self._sorted: tuple[Ids, Ids] | None = None  # all ids in ascending order, and their places
        self._next_id, self._counted = 0, 0  # the latter vectors are known to be below the former

    @property
    def table(self) -> _cells.Cells:
        """The lists as the kernels see them."""
        raise NotImplementedError

    @property
    def next_id(self) -> int:
        """The number that follows the largest id so far, whoever added it."""
        if self.pq_index.ntotal != self._counted:
            self.reserve(int(self.table.entries()[0].max(initial=-1)) + 1)
            self._counted = self.pq_index.ntotal
        return self._next_id

    def reserve(self, number: int) -> None:
        """Give no id below `number` of ours own accord."""
        self._next_id = max(self._next_id, number)

    def places_of(self, keys: Ids) -> Ids:
        """Places (n,) of the vectors of ids: cell << 32 | row. Raises InputError for others."""
        table, known_places = self.table, self._sorted
        if known_places is None:
            ids, places = table.entries()
            order = np.argsort(ids, kind="stable")
            self._sorted = known_places = ids[order], places[order]
        ids, places = known_places
        at = np.searchsorted(ids, keys)
        known = at < len(ids)
        known[known] = ids[at[known]] == keys[known]
        if not known.all():
            raise InputError(f"expected ids of stored vectors, got {int(keys[~known][0])}")
        found: Ids = places[at]
        return found

    def count(self, keys: Ids) -> int:
        """How many vectors of one of the ids are stored."""
        if self.direct_map_type == faiss.DirectMap.Hashtable and len(keys) < _FEW:
            return sum(map(self._has, keys.tolist()))
        return int(np.isin(self.table.entries()[0], keys).sum())

    def _has(self, key: int) -> bool:
        try:
            self.pq_index.direct_map.get(key)
        except RuntimeError:
            return False
        return True

    # ---- direct maps ------------------------------------------------------------------------

    @property
    def direct_map_type(self) -> int:
        """One of faiss.DirectMap's types: what faiss itself finds vectors by their ids with."""
        return int(self.pq_index.direct_map.type)

    def set_direct_map(self, kind: int) -> None:
        """Make a direct map of a type, or none.

        Raises InputError if the ids do not suit: an array holds those from 0 to ntotal - 1, and no
        map an id twice.
        """
        if kind == self.direct_map_type:
            return
        if kind != faiss.DirectMap.NoMap and self.pq_index.ntotal:
            ids = np.sort(self.table.entries()[0])
            if (np.diff(ids) == 0).any():
                raise InputError("expected each id once for a direct map, got one twice")
            if kind == faiss.DirectMap.Array and (ids[0] != 0 or ids[-1] != len(ids) - 1):
                raise InputError(
                    f"expected ids from 0 to {len(ids) - 1} for a direct map of the type Array, "
                    f"got {ids[0]} to {ids[-1]}"
                )
        self.pq_index.set_direct_map_type(kind)

    def _check_direct_map(self, ids: Ids) -> bool:
        """Whether faiss must number the vectors itself, as with an array for a direct map."""
        kind, ntotal = self.direct_map_type, self.pq_index.ntotal
        if kind == faiss.DirectMap.Array:
            if not np.array_equal(ids, np.arange(ntotal, ntotal + len(ids))):
                raise InputError(
                    f"expected ids from {ntotal} on, in order, for a direct map of the type Array, "
                    f"got {int(ids[0])}"
                )
            return True
        if kind == faiss.DirectMap.Hashtable and (
            len(np.unique(ids)) < len(ids) or self.count(ids)
        ):
            raise InputError("expected each id once with a direct map, got one twice")
        return False
