"""True nearest neighbours, whatever single precision makes of the distances.

Matrix products find distances as |q|^2 + |x|^2 - 2 q.x, which cancels where most vectors are far
away from a query and a few are near. So in single precision neighbours are only proposed. Double
precision ranks them, and a bound on the error says for which queries others could still be among
them: there, all are looked at that could.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import require_finite
from deepq._common.sources import row_blocks
from deepq._common.threads import openmp_threads
from deepq._common.types import METRIC_L2, Floats, Ids

_BASE_BLOCK = 1 << 18  # rows that are looked at together
_QUERY_BLOCK = 1 << 11  # queries that `near` looks for together
_SPARE = 16  # proposed past k, and a quarter of k where that is more
TINY = 1e-10  # below which squared distances lose digits in float32
_NUMBERS = 1 << 22  # of vectors, or distances, that are held at a time

Numbers = NDArray[np.float64]


def nearest(base: Floats, query: Floats, k: int, metric: int) -> tuple[Numbers, Ids]:
    """Find the k best base vectors of each query, by (better score, ascending id).

    Parameters
    ----------
    base, query : (nb, d) and (nq, d) float32
        Finite. The base is read block by block, so it may be in a file.
    k : int
        From 1 to nb.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    D : (nq, k) float64
        Squared distances, ascending, or negative inner products, ascending too.
    I : (nq, k) int64

    Raises
    ------
    InputError
        If there is a NaN or an infinity, with the number of its row.
    """
    query = np.ascontiguousarray(query, dtype=np.float32)
    require_finite(query, "query")
    D, I = np.empty((len(query), 0)), np.empty((len(query), 0), np.int64)
    for i, rows in enumerate(row_blocks(base, _BASE_BLOCK)):
        block, first = np.ascontiguousarray(rows, dtype=np.float32), i * _BASE_BLOCK
        require_finite(block, "base", first)
        if len(query):
            search = _Search.of(block, query, metric)
            costs, ids, unseen = search.propose(k)
            before, (D, I) = (D, I), _best(D, I, costs, ids + first, k)
            for r, near in search.within(np.flatnonzero(unseen <= D[:, -1]), D[:, -1]):
                costs, ids = search.costs(r, near), near + first
                D[r], I[r] = _best(before[0][r], before[1][r], costs, ids, k)
    return D, I


def near(base: Floats, query: Floats, k: int, metric: int) -> Ids:
    """Find base vectors (nq, k) that are the nearest as far as single precision tells.

    Parameters as those of `nearest`; the base is taken as a whole, and taken to be finite.
    """
    ids = np.empty((len(query), k), np.int64)
    for first in range(0, len(query), _QUERY_BLOCK):
        rows = slice(first, first + _QUERY_BLOCK)
        ids[rows] = _Search.of(base, query[rows], metric).found(k)[1]
    return ids


def _best(D: Numbers, I: Ids, costs: Numbers, ids: Ids, k: int) -> tuple[Numbers, Ids]:
    """Return the k best, (..., k), of two sets of results, by (cost, id)."""
    D, I = np.concatenate([D, costs], axis=-1), np.concatenate([I, ids], axis=-1)
    order = np.lexsort((I, D), axis=-1)[..., :k]
    return np.take_along_axis(D, order, -1), np.take_along_axis(I, order, -1)


@dataclass(frozen=True, eq=False)
class _Search:
    """Base vectors and queries, as they are, and in single precision so that little cancels.

    There they are less the middle of the base and in units in which they are at most about 1. An
    inner product changes by that too, but by the same number for all base vectors.

    Attributes
    ----------
    base, query : (n, d) and (nq, d) float32
    x, q : the same, moved and scaled
    offsets : (nq,) float64
        What a cost in these units is more than a scaled cost.
    scale : float
        What costs are multiplied by.
    """

    base: Floats
    query: Floats
    metric: int
    x: Floats
    q: Floats
    offsets: Numbers
    scale: float

    @classmethod
    def of(cls, base: Floats, query: Floats, metric: int) -> _Search:
        """Move and scale."""
        unit = power_of_two(base, query) if metric == METRIC_L2 else power_of_two(base)
        x = base * unit
        middle = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        x -= middle
        if metric == METRIC_L2:
            q, offsets, scale = query * unit - middle, np.zeros(len(query)), float(unit) ** 2
        else:
            q_unit = power_of_two(query)
            q, scale = query * q_unit, float(unit) * float(q_unit)
            offsets = q.astype(np.float64) @ middle
        return cls(base, query, metric, x, q, offsets, scale)

    def found(self, k: int) -> tuple[Floats, Ids]:
        """Scores and ids (nq, k) of the best in single precision."""
        with openmp_threads():
            D, I = faiss.knn(self.q, self.x, k, metric=self.metric)
        return D, I

    def propose(self, k: int) -> tuple[Numbers, Ids, Numbers]:
        """Costs and ids (nq, k or more) of the best in single precision.

        And what all others cost at least.
        """
        n = len(self.x)
        count = min(k + max(_SPARE, k // 4), n)
        D, I = self.found(count)
        rows = np.repeat(np.arange(len(I)), count)
        costs = self._costs(rows, I.ravel()).reshape(I.shape)
        if count == n:
            return costs, I, np.full(len(I), np.inf)
        last = D[:, -1].astype(np.float64)
        slack, growth = self._slack()
        if self.metric == METRIC_L2:
            return costs, I, (last - slack) / growth / self.scale
        return costs, I, (-last - self.offsets - slack) / self.scale

    def within(self, rows: Ids, most: Numbers) -> Iterator[tuple[int, Ids]]:
        """Yield queries out of `rows`, and what may cost each at most `most` (nq,), ascending."""
        slack, growth = self._slack()
        limits = most * self.scale * growth + self.offsets + slack
        squares = np.zeros(len(self.x), np.float32)
        if self.metric == METRIC_L2:
            squares = np.einsum("ij,ij->i", self.x, self.x) / 2
            limits = (limits - np.einsum("ij,ij->i", self.q, self.q)) / 2
        step = max(1, _NUMBERS // len(self.x))
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            scores = squares - self.q[some] @ self.x.T
            for r, row in zip(some, scores, strict=True):
                yield int(r), np.flatnonzero(row <= limits[r])

    def costs(self, r: int, ids: Ids) -> Numbers:
        """Costs (m,) of base vectors for query `r`."""
        return self._costs(np.full(len(ids), r), ids)

    def _costs(self, rows: Ids, ids: Ids) -> Numbers:
        """Costs (m,) of pairs, in double precision."""
        found = np.empty(len(ids))
        step = max(1, _NUMBERS // self.x.shape[1])
        for i in range(0, len(ids), step):
            part = slice(i, i + step)
            x, q = self.base[ids[part]].astype(np.float64), self.query[rows[part]]
            if self.metric == METRIC_L2:
                x -= q
                found[part] = np.einsum("ij,ij->i", x, x)
            else:
                found[part] = -np.einsum("ij,ij->i", x, q)
        return found

    def _slack(self) -> tuple[Numbers, float]:
        """Return what single precision may be wrong by: a sum (nq,) and a factor.

        A squared distance is wrong by at most e (|q|^2 + |x|^2), e = (d + 8) eps: sums of d
        products by d eps / 2 of their absolute values (Higham, "Accuracy and stability of numerical
        algorithms", 2002, chapter 3), and what moves and joins them by the rest. As |x|^2 <=
        2 |q|^2 + 2 |q - x|^2, that is at most 3 e |q|^2 + 2 e |q - x|^2. An inner product is wrong
        by at most e |q| |x|, and its offset by double precision.
        """
        e = (self.x.shape[1] + 8) * float(np.finfo(np.float32).eps)
        squares = np.einsum("ij,ij->i", self.q, self.q, dtype=np.float64)
        least = float(np.finfo(np.float32).tiny)
        if self.metric == METRIC_L2:
            return 3 * e * squares + least, 1 + 2 * e
        longest = np.einsum("ij,ij->i", self.x, self.x, dtype=np.float64).max()
        doubles = 1e-14 * np.abs(self.q).sum(axis=1, dtype=np.float64)
        return e * np.sqrt(squares * longest) + doubles + least, 1.0


def unit_of_tiny(*arrays: Floats) -> np.float32:
    """Return `power_of_two` where all numbers are so tiny that float32 loses squares; else 1."""
    for a in arrays:  # the first is mostly enough to know
        if a.size and max(a.max(), -a.min()) >= TINY:
            return np.float32(1)
    return power_of_two(*arrays)


def power_of_two(*arrays: Floats) -> np.float32:
    """Return the power of two by which the largest number becomes about 1; 1 where all are 0."""
    largest = max((float(max(a.max(), -a.min())) for a in arrays if a.size), default=0.0)
    if not 0 < largest < np.inf:
        return np.float32(1)
    return np.float32(np.exp2(np.clip(-np.floor(np.log2(largest)), -126, 126)))
