"""Which results are relevant, block by block, and sums over their ranks: the inside of `metrics`.

The sums take the results of some queries one after another, without the places where nothing was
found: `hit` (n,) says which are relevant, and those of query q begin at ``bounds[q]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_BLOCK = 1 << 22  # entries of a temporary (queries, base) matrix
_MANY_A_PLACE = 256  # ids for each result, above which sorting results is faster than marking ids


def once(ids: Array) -> Array:
    """Ids (nq, depth) with -1 in place of those that have come before in their row."""
    size = int(ids.max()) + 1 if ids.size else 0
    seen = np.zeros(max(size, 0) if size <= _MANY_A_PLACE * ids.shape[1] else 0, np.bool_)
    rows = [q for q, row in enumerate(ids) if _has_repeats(row[row >= 0], seen)]
    if not rows:
        return ids
    found = ids.astype(np.int64)
    for q in rows:
        places = np.unique(found[q], return_index=True)[1]
        again = np.setdiff1d(np.arange(ids.shape[1]), places, assume_unique=True)
        found[q, again] = -1
    return found


def _has_repeats(ids: Array, seen: Bools) -> bool:
    """Whether an id is there twice; `seen` has room for all ids, or for none."""
    if not len(seen):
        return len(np.unique(ids)) < len(ids)
    seen[:] = False
    seen[ids] = True
    return int(np.count_nonzero(seen)) < len(ids)


def hits(ids: Array, labels_q: Array, labels_b: Array) -> Iterator[tuple[slice, Bools, Counts]]:
    """Yield blocks of rows, which of their results are relevant, and how many of the base are."""
    step = max(1, _BLOCK // max(len(labels_b), ids.shape[1]))
    for start in range(0, len(ids), step):
        rows = slice(start, start + step)
        relevant = _share_a_class(labels_q[rows], labels_b)
        hit = np.take_along_axis(relevant, np.maximum(ids[rows], 0), axis=1)
        yield rows, hit & (ids[rows] >= 0), relevant.sum(axis=1)


def _share_a_class(q: Array, b: Array) -> Bools:
    """Return the (nq, nb) matrix that is True where a query and a base vector share a class."""
    if q.ndim == 1:
        same: Bools = q[:, None] == b[None, :]
        return same
    common: Bools = q.astype(np.float32) @ b.T.astype(np.float32) > 0.5
    return common


def gain(hit: Bools, bounds: Counts, top: int) -> tuple[Numbers, Numbers]:
    """Return each query's sums of rel_i * prec_i and of rel_i over its first `top` results."""
    at = np.flatnonzero(hit)
    query = np.searchsorted(bounds, at, side="right") - 1
    early = at - bounds[query] < top
    at, query = at[early], query[early]
    nth = np.arange(1, len(at) + 1) - np.searchsorted(at, bounds[query])
    return _sums(query, len(bounds) - 1, nth / (at - bounds[query] + 1), np.ones(len(at)))


def expected_gain(hit: Bools, bounds: Counts, top: int, D: Array) -> tuple[Numbers, Numbers]:
    """Return the expectation of what `gain` returns, over all orders of results of equal D.

    The number of hits is NaN for a query where it depends on the order.

    Of n tied results after the first t, let r be relevant, and h of those t. The i-th of the n is
    relevant with probability r/n, and of the i-1 before it (r-1)/(n-1) are, so that its rel * prec
    is r/n * (h + 1 + (i-1) * (r-1)/(n-1)) / (t+i). The sums over i of 1/(t+i) and of (i-1)/(t+i)
    follow from harmonic numbers (McSherry and Najork, ECIR 2008).
    """
    first, last = _ties(bounds, D)
    query = np.searchsorted(bounds, first, side="right") - 1
    begin, upto = bounds[query], np.concatenate([[0], hit.cumsum()])
    t, n = first - begin, last - first
    r, h = upto[last] - upto[first], upto[first] - upto[begin]
    seen = np.clip(top - t, 0, n)

    harmonic = np.zeros(int(np.diff(bounds).max(initial=0)) + 1)
    harmonic[1:] = np.cumsum(1 / np.arange(1, len(harmonic)))
    inverse = harmonic[t + seen] - harmonic[t]
    others = (seen - (t + 1) * inverse) * (r - 1) / np.maximum(n - 1, 1)
    by_chance = (seen > 0) & (seen < n) & (r > 0) & (r < n)
    found = np.where(by_chance, np.nan, seen * r / n)
    return _sums(query, len(bounds) - 1, r / n * ((h + 1) * inverse + others), found)


def _ties(bounds: Counts, D: Array) -> tuple[Counts, Counts]:
    """Return where each group of results of equal D begins, and where it ends."""
    edge = np.ones(len(D) + 1, dtype=bool)
    edge[1:-1] = D[1:] != D[:-1]
    edge[bounds] = True
    edges = np.flatnonzero(edge)
    return edges[:-1], edges[1:]


def _sums(query: Counts, n: int, *weights: Numbers) -> tuple[Numbers, Numbers]:
    first, second = (np.bincount(query, w, minlength=n).astype(np.float64) for w in weights)
    return first, second


def interpolated_precision(hit: Bools, relevant: int, levels: Numbers) -> Numbers:
    """Return the highest precision of one query at any rank that reaches each level of recall."""
    rank = np.flatnonzero(hit) + 1
    precision = np.arange(1, len(rank) + 1) / rank
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # 0.7 * 10 is a little more than 7.
    needed = np.maximum(np.ceil(levels * relevant - 1e-9).astype(np.int64), 1)
    reached: Numbers = best[np.minimum(needed, len(best)) - 1]
    return reached
