"""What an index of cells stores, as plain data: files, pickles and copies."""

from __future__ import annotations

from typing import Any

import faiss

from deepq._common.arrays import require_usable
from deepq._common.checks import as_count, as_integer
from deepq._common.errors import FormatError
from deepq.index.cell_training import CellTraining
from deepq.index.native.coarse import coarse_state
from deepq.index.native.lists import Lists, StoredLists, state_of

DIRECT_MAPS = (faiss.DirectMap.NoMap, faiss.DirectMap.Array, faiss.DirectMap.Hashtable)


class CellLists(CellTraining):
    """The strand of an index that stores a list of ids and codes for every cell."""

    kind = "cells"
    settings = (
        "do_polysemous_training",
        "max_codes",
        "metric_arg",
        "nprobe",
        "parallel_mode",
        "polysemous_ht",
        "verbose",
    )

    def _stored(self, *, empty: bool = False) -> dict[str, Any]:
        index, lists = self._native.pq_index, self._native.lists
        return {
            "nlist": int(self.nlist),
            "by_residual": bool(self.by_residual),
            "coarse": coarse_state(index.quantizer),
            "cp": {name: int(getattr(index.cp, name)) for name in ("niter", "seed")},
            "direct_map": self._native.direct_map_type,
            "next_id": self._native.next_id if self.is_trained and not empty else 0,
            **state_of((lambda: iter(())) if empty else lists, self.nlist, self.code_size),
        }

    def _store(self, state: dict[str, Any]) -> None:
        lists, index = StoredLists(state, self.nlist, self.code_size), self._native.pq_index
        if lists.sizes.any():
            self._require_trained()
        for name in ("niter", "seed"):
            setattr(index.cp, name, as_integer(state["cp"][name], name))
        numbers = (as_count(state[name], name) for name in ("direct_map", "next_id"))
        self._fill(lists, *numbers)

    def _fill(self, lists: Lists, direct_map: int, next_id: int = 0) -> None:
        """Take over lists, and the type of direct map over them; there are no codes here.

        Raises InputError for negative ids, for those that do not suit the map, and for codewords of
        huge numbers; FormatError for a type that there is not.
        """
        if self.is_trained:
            books = self._native.codebooks
            require_usable(books.transpose(1, 0, 2).reshape(books.shape[1], -1), "codebooks")
        if direct_map not in DIRECT_MAPS:
            raise FormatError(f"a direct map of the type {direct_map}")
        self._native.fill(lists, next_id)
        self._native.set_direct_map(direct_map)
