"""What a hash table stores: rows in the order of their buckets, and where each bucket begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Ids

MOST_BUCKETS = 1 << 24


@dataclass(frozen=True, eq=False)
class BucketRows:
    """Stored rows, sorted by their first bucket, and the entries of all buckets.

    Attributes
    ----------
    content : (n, m) float32, float16 or uint8
        An embedding of each row, or a code.
    ids : (n,) int64
        Numbers of the rows that users know.
    buckets : (n, s) int64
        Buckets of each row.
    offsets : (number + 1,) int64
        The entries of bucket b are those from offsets[b] to offsets[b + 1].
    entries : (n s,) int64
        Rows in each bucket, one bucket after the other. With s = 1 they are 0, 1, 2, ...
    """

    content: NDArray[Any]
    ids: Ids
    buckets: Ids
    offsets: Ids
    entries: Ids

    @classmethod
    def of(cls, content: NDArray[Any], ids: Ids, buckets: Ids, number: int) -> BucketRows:
        """Sort rows into so many buckets; those of one stay in their order."""
        order = np.argsort(buckets[:, 0], kind="stable")
        content, ids, buckets = content[order], ids[order], buckets[order]
        offsets = np.zeros(number + 1, np.int64)
        np.cumsum(np.bincount(buckets.ravel(), minlength=number), out=offsets[1:])
        entries = np.arange(len(ids))
        if buckets.shape[1] > 1:
            entries = np.argsort(buckets.ravel(), kind="stable") // buckets.shape[1]
        return cls(content, ids, buckets, offsets, entries)

    def __len__(self) -> int:
        """How many rows are stored."""
        return len(self.ids)

    @property
    def number(self) -> int:
        """How many buckets there are."""
        return len(self.offsets) - 1

    @cached_property
    def sizes(self) -> Ids:
        """Entries in each bucket."""
        return np.diff(self.offsets)

    def with_more(self, content: NDArray[Any], ids: Ids, buckets: Ids) -> BucketRows:
        """Return these rows and others."""
        return BucketRows.of(
            np.concatenate([self.content, content]),
            np.concatenate([self.ids, ids]),
            np.concatenate([self.buckets, buckets]),
            self.number,
        )

    def without(self, ids: Ids) -> BucketRows:
        """Return the rows that have other ids."""
        kept = ~np.isin(self.ids, ids)
        return BucketRows.of(self.content[kept], self.ids[kept], self.buckets[kept], self.number)

    def in_bucket(self, bucket: int) -> Any:
        """Return the rows in a bucket: a slice, or their numbers where rows are in several."""
        part = slice(int(self.offsets[bucket]), int(self.offsets[bucket + 1]))
        return part if self.buckets.shape[1] == 1 else self.entries[part]


def numbers_of(words: Ids, width: int) -> Ids:
    """Numbers of buckets whose words (..., levels) on each level are these: the last varies first.

    >>> numbers_of(np.array([[0, 0], [0, 1], [1, 0]]), 32).tolist()
    [0, 1, 32]
    """
    numbers = np.zeros(words.shape[:-1], np.int64)
    for level in range(words.shape[-1]):
        numbers = numbers * width + words[..., level]
    return numbers
