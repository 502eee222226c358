"""Which buckets a query looks into, and in what order."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats, Ids
from deepq.hash_table.rows import BucketRows, numbers_of

ORDERS = ("scores", "counting")

_FIRST, _FASTER = 8, 4  # buckets of each query that are looked at first, and how many more then
_ENTRIES = 1 << 21  # buckets that are looked at together, of all queries


class Words(NamedTuple):
    """The words of each level of some rows by their scores, the best first.

    Attributes
    ----------
    words : (n, levels, width) int64
    scores : (n, levels, width) float64
    """

    words: Ids
    scores: NDArray[np.float64]

    @classmethod
    def ranked(cls, scores: Floats, levels: int) -> Words:
        """Rank the words by their scores (n, levels * width); equal ones stay in order."""
        each = scores.reshape(len(scores), levels, scores.shape[1] // levels).astype(np.float64)
        words = np.argsort(-each, axis=2, kind="stable")
        return cls(words, np.take_along_axis(each, words, axis=2))

    def part(self, rows: Ids | slice) -> Words:
        """Those of some of the rows."""
        return Words(self.words[rows], self.scores[rows])

    def own_buckets(self, sparsity: int) -> Ids:
        """Buckets (n, sparsity) that the rows lie in: of the best words on the last level."""
        return self.buckets(_digits(*self.words.shape[1:], sparsity))

    def buckets(self, ranks: Ids) -> Ids:
        """Buckets (n, m) of the words with these ranks (m, levels)."""
        levels, width = self.words.shape[1:]
        return numbers_of(self.words[:, np.arange(levels), ranks], width)

    def first(self, count: int, sparsity: int, order: str) -> Ids:
        """Return the first buckets (n, count) in an order: see `probes`."""
        levels, width = self.words.shape[1:]
        if order == "counting" or levels == 1:
            return self.buckets(_digits(levels, width, count))
        ranks = _reachable(levels, width, count)
        sums = self.scores[:, np.arange(levels), ranks].sum(axis=2)
        sums[:, (ranks[:, :-1] == 0).all(axis=1) & (ranks[:, -1] < sparsity)] = np.inf
        best = np.argsort(-sums, axis=1, kind="stable")[:, :count]
        chosen = ranks[best]
        words = self.words[np.arange(len(best))[:, None, None], np.arange(levels), chosen]
        return numbers_of(words, width)


class Probes(NamedTuple):
    """The buckets that queries look into.

    Attributes
    ----------
    buckets : (nq, most) int64
        In order; -1 for none.
    found : (nq,) int64
        Distinct rows in them.
    """

    buckets: Ids
    found: Ids


def probes(rows: BucketRows, words: Words, sparsity: int, wanted: int, order: str) -> Probes:
    """Look for buckets until each query has its own `sparsity`, and `wanted` rows in all.

    It ends where there are no more buckets.

    Parameters
    ----------
    rows : BucketRows
        What is stored.
    words : Words
        Of the queries.
    sparsity, wanted : int
    order : "scores" or "counting"
        Which buckets come after a query's own. "scores": by the sum of the scores of their words,
        as in an inverted multi-index (Babenko & Lempitsky, CVPR 2012). "counting": as in Jeong,
        Kim & Song, CVPR 2019, the n-th bucket has the words whose ranks are the digits of n, the
        last level's varying first.
    """
    n, size = len(words.words), max(1, _ENTRIES // rows.number)
    parts = [
        _probes(rows, words.part(slice(i, i + size)), sparsity, wanted, order)
        for i in range(0, n, size)
    ]
    most = max((part.buckets.shape[1] for part in parts), default=sparsity)
    buckets = np.full((n, most), -1, np.int64)
    for i, part in enumerate(parts):
        buckets[i * size : i * size + len(part.buckets), : part.buckets.shape[1]] = part.buckets
    found = np.concatenate([part.found for part in parts] or [np.empty(0, np.int64)])
    return Probes(buckets, found)


def _probes(rows: BucketRows, words: Words, sparsity: int, wanted: int, order: str) -> Probes:
    most = min(rows.number, max(sparsity, _FIRST))
    buckets, found, done = _looked(rows, words, sparsity, wanted, order, most)
    while not done.all():
        waiting = np.flatnonzero(~done)
        more = min(rows.number, most * _FASTER)
        filled = np.full((len(buckets), more - most), -1, np.int64)
        buckets, most = np.concatenate([buckets, filled], axis=1), more
        own = _looked(rows, words.part(waiting), sparsity, wanted, order, most)
        buckets[waiting], found[waiting], done[waiting] = own
    reach = int((buckets >= 0).sum(axis=1).max(initial=sparsity))
    return Probes(np.ascontiguousarray(buckets[:, :reach]), found)


def _looked(
    rows: BucketRows, words: Words, sparsity: int, wanted: int, order: str, most: int
) -> tuple[Ids, Ids, NDArray[np.bool_]]:
    """Look at most at so many buckets: which (nq, most), distinct rows (nq,), whether it is over.

    Buckets that are not needed are -1.
    """
    buckets = words.first(most, sparsity, order)
    count: Ids = rows.sizes[buckets].cumsum(axis=1) if sparsity == 1 else _distinct(rows, buckets)
    enough = count >= min(wanted, len(rows))
    enough[:, : sparsity - 1] = False
    enough[:, -1] |= most == rows.number
    done: NDArray[np.bool_] = np.asarray(enough.any(axis=1))
    last = enough.argmax(axis=1)
    buckets[np.arange(most) > last[:, None]] = -1
    return buckets, count[np.arange(len(count)), last], done


def _distinct(rows: BucketRows, buckets: Ids) -> Ids:
    """How many distinct rows the first, the first two, ... buckets of queries (nq, p) have."""
    counts = np.zeros(buckets.shape, np.int64)
    for query, row in enumerate(buckets):
        ends = rows.sizes[row].cumsum()
        members = np.concatenate([rows.entries[rows.offsets[b] : rows.offsets[b + 1]] for b in row])
        _, first = np.unique(members, return_index=True)
        counts[query] = np.searchsorted(np.sort(first), ends)
    return counts


@lru_cache(maxsize=64)
def _digits(levels: int, width: int, count: int) -> Ids:
    """Digits (count, levels) of 0, 1, 2, ... in the base `width`."""
    digits = np.empty((count, levels), np.int64)
    rest = np.arange(count)
    for level in reversed(range(levels)):
        rest, digits[:, level] = np.divmod(rest, width)
    return digits


@lru_cache(maxsize=64)
def _reachable(levels: int, width: int, count: int) -> Ids:
    """Ranks (m, levels) that the best `count` buckets may have, in the order of counting.

    Of ranks r there are at least prod(r + 1) buckets with none of larger ones, whose sums are as
    large: one with more than `count` is not among the first.
    """
    ranks, product = np.zeros((1, 0), np.int64), np.ones(1, np.int64)
    for _ in range(levels):
        each = np.minimum(count // product, width)
        product = np.repeat(product, each)
        digit = np.arange(len(product)) - np.repeat(np.cumsum(each) - each, each)
        ranks = np.column_stack([np.repeat(ranks, each, axis=0), digit])
        product = product * (digit + 1)
    return ranks
