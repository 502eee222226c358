"""Which buckets a query looks into, and in what order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deepq._common.types import Floats, Ids
from deepq.hash_table.rows import BucketRows, numbers_of

_FIRST, _FASTER = 8, 4  # buckets of each query that are looked at first, and how many more then
_ENTRIES = 1 << 22  # buckets that are looked at together, of all queries


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


def ranked_words(scores: Floats, levels: int) -> Ids:
    """Words (n, levels, width) of each level by their scores (n, levels * width), best first."""
    each = scores.reshape(len(scores), levels, scores.shape[1] // levels)
    return np.argsort(-each, axis=2, kind="stable")


def own_buckets(words: Ids, sparsity: int) -> Ids:
    """Buckets (n, sparsity) of rows with these ranked words: the best words on the last level."""
    return _nth(words, np.arange(sparsity))


def probes(rows: BucketRows, words: Ids, sparsity: int, wanted: int) -> Probes:
    """Look for buckets until each query has its own `sparsity`, and `wanted` rows in all.

    The order is that of Jeong, Kim & Song, CVPR 2019: the n-th bucket has the words whose ranks are
    the digits of n, the last level's varying first. It ends where there are no more buckets.

    Parameters
    ----------
    rows : BucketRows
        What is stored.
    words : (nq, levels, width) int64
        See `ranked_words`.
    sparsity, wanted : int
    """
    size = max(1, _ENTRIES // rows.number)
    starts = range(0, len(words), size)
    parts = [_probes(rows, words[i : i + size], sparsity, wanted) for i in starts]
    most = max((part.buckets.shape[1] for part in parts), default=sparsity)
    buckets = np.full((len(words), most), -1, np.int64)
    for i, part in enumerate(parts):
        buckets[i * size : i * size + len(part.buckets), : part.buckets.shape[1]] = part.buckets
    found = np.concatenate([part.found for part in parts] or [np.empty(0, np.int64)])
    return Probes(buckets, found)


def _probes(rows: BucketRows, words: Ids, sparsity: int, wanted: int) -> Probes:
    sizes, nq = rows.sizes, len(words)
    wanted = min(wanted, len(rows))
    taken, found = np.zeros(nq, np.int64), np.zeros(nq, np.int64)
    waiting, most = np.arange(nq), min(rows.number, max(sparsity, _FIRST))
    while len(waiting):
        buckets = _nth(words[waiting], np.arange(most))
        entries = sizes[buckets]
        # Of rows in several buckets there are fewer than entries: so many count for sure.
        sure = entries.cumsum(axis=1) if sparsity == 1 else _distinct(rows, buckets)
        enough = sure >= wanted
        enough[:, : sparsity - 1] = False
        done = enough.any(axis=1) | (most == rows.number)
        count = np.where(enough.any(axis=1), enough.argmax(axis=1) + 1, most)
        taken[waiting] = count
        found[waiting] = sure[np.arange(len(waiting)), count - 1]
        waiting, most = waiting[~done], min(rows.number, most * _FASTER)
    reach = int(taken.max(initial=sparsity))
    buckets = _nth(words, np.arange(reach))
    buckets[np.arange(reach) >= taken[:, None]] = -1
    return Probes(buckets, found)


def _distinct(rows: BucketRows, buckets: Ids) -> Ids:
    """How many distinct rows the first, the first two, ... buckets of queries (nq, p) have."""
    counts = np.zeros(buckets.shape, np.int64)
    for query, row in enumerate(buckets):
        ends = rows.sizes[row].cumsum()
        members = np.concatenate([rows.entries[rows.offsets[b] : rows.offsets[b + 1]] for b in row])
        _, first = np.unique(members, return_index=True)
        counts[query] = np.searchsorted(np.sort(first), ends)
    return counts


def _nth(words: Ids, numbers: Ids) -> Ids:
    """Buckets (nq, m) that come at these places in the order of queries (nq, levels, width)."""
    _, levels, width = words.shape
    digits = np.empty((len(numbers), levels), np.int64)
    rest = numbers
    for level in reversed(range(levels)):
        rest, digits[:, level] = np.divmod(rest, width)
    chosen = words[:, np.arange(levels), digits]
    return numbers_of(chosen, width)
