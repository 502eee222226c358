"""The rows of a hash table as they come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_free_ids
from deepq._common.types import Ids
from deepq.hash_table.ranking import Ranking
from deepq.hash_table.rows import BucketRows

Part = tuple[NDArray[Any], Ids, Ids]


class Store:
    """Rows in buckets, those that wait to be sorted in, and what ranks them.

    Rows and rankings never change: a change puts others in their place. So a search reads what
    there was when it began, and only writers need to keep each other out.

    Parameters
    ----------
    rows : BucketRows
        The first ones.
    next_id : int
        An id above all that were ever given.

    Attributes
    ----------
    ntotal : int
        How many rows there are.
    """

    def __init__(self, rows: BucketRows, next_id: int = 0) -> None:
        self.next_id = next_id
        self._hold(rows)

    def _hold(self, rows: BucketRows) -> None:
        self._rows, self.ntotal = rows, len(rows)
        self._waiting: list[Part] = []
        self._made: Ranking | None = None

    def append(self, parts: list[Part]) -> None:
        """Let parts (content, ids, buckets) wait to be sorted in."""
        self._waiting += parts
        for _, ids, _ in parts:
            self.ntotal += len(ids)
            self.next_id = max(self.next_id, int(ids.max(initial=-1)) + 1)
        self._made = None

    def settled(self) -> BucketRows:
        """Sort in what waits."""
        if self._waiting:
            content, ids, buckets = (
                np.concatenate(parts) for parts in zip(*self._waiting, strict=True)
            )
            self._hold(self._rows.with_more(content, ids, buckets))
        return self._rows

    def remove(self, ids: Any) -> int:
        """Remove rows by ids (n,) or a faiss.IDSelector; return how many.

        Raises KindError for anything else.
        """
        rows = self.settled()
        if isinstance(ids, faiss.IDSelector):
            ids = rows.ids[np.array([ids.is_member(int(i)) for i in rows.ids], np.bool_)]
        self._hold(rows.without(as_free_ids(ids, "x", least=None)))
        return len(rows) - len(self._rows)

    @property
    def made(self) -> Ranking | None:
        """What ranks the rows, if it has been made of them."""
        return self._made

    def ranking(self, make: Callable[[BucketRows], Ranking]) -> Ranking:
        """Return what ranks the rows, which is made where it is missing."""
        rows = self.settled()
        if self._made is None:
            self._made = make(rows)
        return self._made
