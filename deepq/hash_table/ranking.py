"""The best rows in the buckets of each query: by their embeddings, or by their codes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepq import _cells
from deepq._common.threads import run_blocks
from deepq._common.types import METRIC_L2, Floats, Ids
from deepq.hash_table.rows import BucketRows
from deepq.quantizers.product import ProductQuantizer

_QUERIES = 1 << 8  # that are ranked together
_NUMBERS = 1 << 22  # numbers that are held at a time
_SPARE = 8  # ranked by exact distances past k

Numbers = NDArray[np.float64]


class Ranking(Protocol):
    """Ranks stored rows."""

    rows: BucketRows

    def best(self, z: Floats, buckets: Ids, k: int, threads: int) -> tuple[Numbers, Ids]:
        """Rank the rows in some buckets (nq, p), -1 for none, of queries z (nq, m).

        Returns
        -------
        costs : (nq, k) float64
            Squared distances, or negative inner products; infinite where there are no more.
        found : (nq, k) int64
            Rows, by (cost, id); -1 where there are no more.
        """


class ByEmbeddings:
    """Ranks rows by their embeddings.

    All queries that look into a bucket are compared with it in one product. It proposes the best k
    of them and some more, which distances in double precision rank.
    """

    def __init__(self, rows: BucketRows, metric: int) -> None:
        self.rows, self.metric = rows, metric
        self.squares = np.zeros(len(rows) if metric == METRIC_L2 else 0, np.float32)
        size = max(1, _NUMBERS // rows.content.shape[1])
        for i in range(0, len(self.squares), size):
            x = rows.content[i : i + size].astype(np.float32, copy=False)
            self.squares[i : i + size] = np.einsum("ij,ij->i", x, x)

    def best(self, z: Floats, buckets: Ids, k: int, threads: int) -> tuple[Numbers, Ids]:
        """See `Ranking`."""
        costs, found = _nothing(len(z), k)

        def work(part: slice) -> None:
            query, row = self._proposed(z[part], buckets[part], k + _SPARE)
            _fill(costs[part], found[part], query, row, self._exact(z[part], query, row), self.rows)

        run_blocks(work, len(z), _QUERIES, threads)
        return costs, found

    def _proposed(self, z: Floats, buckets: Ids, k: int) -> tuple[Ids, Ids]:
        """Return the k best pairs of each query as far as float32 tells: queries and rows."""
        query, column = np.nonzero(buckets >= 0)
        bucket = buckets[query, column]
        order = np.argsort(bucket, kind="stable")
        query, bucket = query[order], bucket[order]
        starts = np.flatnonzero(np.diff(bucket, prepend=-1)).tolist()
        nothing = np.empty(0, np.int64)
        parts = [(nothing, nothing, np.empty(0, np.float32))]
        for first, last in zip(starts, [*starts[1:], len(bucket)], strict=True):
            parts += self._in_bucket(z, int(bucket[first]), query[first:last], k)
        query, row, cost = (np.concatenate(column) for column in zip(*parts, strict=True))
        if self.rows.buckets.shape[1] > 1:  # a row may come from several buckets
            _, once = np.unique(query * len(self.rows) + row, return_index=True)
            query, row, cost = query[once], row[once], cost[once]
        order = np.lexsort((cost, query))
        query, row = query[order], row[order]
        kept = np.arange(len(query)) - np.searchsorted(query, query) < k
        return query[kept], row[kept]

    def _in_bucket(
        self, z: Floats, bucket: int, query: Ids, k: int
    ) -> list[tuple[Ids, Ids, Floats]]:
        """Pairs of some queries and the k best rows of a bucket for each, and their costs."""
        part = self.rows.in_bucket(bucket)
        x = self.rows.content[part].astype(np.float32, copy=False)
        pairs = []
        step = max(1, _NUMBERS // max(1, len(x)))
        for i in range(0, len(query) if len(x) else 0, step):
            some = query[i : i + step]
            cost = z[some] @ x.T
            if self.metric == METRIC_L2:
                cost *= -2
                cost += self.squares[part]
            else:
                np.negative(cost, out=cost)
            at = np.broadcast_to(np.arange(len(x)), cost.shape)
            if k < len(x):
                at = np.argpartition(cost, k - 1, axis=1)[:, :k]
                cost = np.take_along_axis(cost, at, axis=1)
            row = at + part.start if isinstance(part, slice) else part[at]
            pairs.append((np.repeat(some, row.shape[1]), row.ravel(), cost.ravel()))
        return pairs

    def _exact(self, z: Floats, query: Ids, row: Ids) -> Numbers:
        """Costs (m,) of pairs in double precision."""
        cost = np.empty(len(query))
        size = max(1, _NUMBERS // z.shape[1])
        for i in range(0, len(query), size):
            a = z[query[i : i + size]].astype(np.float64)
            b = self.rows.content[row[i : i + size]].astype(np.float64)
            is_l2 = self.metric == METRIC_L2
            cost[i : i + size] = np.square(a - b).sum(axis=1) if is_l2 else -(a * b).sum(axis=1)
        return cost


class ByCodes:
    """Ranks rows by their codes: by look-up tables, with the kernels for codes in cells."""

    def __init__(self, rows: BucketRows, quantizer: ProductQuantizer, metric: int) -> None:
        self.rows, self.metric = rows, metric
        codes, ids = rows.content, rows.ids
        if rows.buckets.shape[1] > 1:
            codes, ids = codes[rows.entries], ids[rows.entries]
        codes, size = np.ascontiguousarray(codes), codes.shape[1]
        where = np.empty((rows.number, 4), np.int64)  # of each bucket codes and ids, and how many
        where[:, 0] = codes.ctypes.data + rows.offsets[:-1] * size
        where[:, 1] = rows.sizes * size
        where[:, 2] = ids.ctypes.data + rows.offsets[:-1] * ids.itemsize
        where[:, 3] = rows.sizes
        centre = np.zeros((1, 1, quantizer.M * quantizer.dsub), np.float32)  # one for all
        books = quantizer.trained()
        is_ip = metric != METRIC_L2
        self.table = _cells.Cells(rows.number, books, centre, quantizer.nbits, False, is_ip)
        at = where.ctypes.data
        self.table.place(at, at + 2 * where.itemsize, where.strides[0], 0, where.itemsize)
        self._kept = codes, ids, where, centre, books  # whose addresses the table knows

    def best(self, z: Floats, buckets: Ids, k: int, threads: int) -> tuple[Numbers, Ids]:
        """See `Ranking`."""
        rows = self.rows
        shape = len(z), k * rows.buckets.shape[1]  # where a row may come as often
        scores, ids = np.empty(shape, np.float32), np.empty(shape, np.int64)
        places = np.empty(shape, np.int64)
        _cells.search(self.table, z, buckets, scores, ids, places, num_threads=threads)
        query, column = np.nonzero(places >= 0)
        place = places[query, column]
        row = rows.entries[rows.offsets[place >> 32] + (place & 0xFFFFFFFF)]
        cost = scores[query, column].astype(np.float64)
        costs, found = _nothing(len(z), k)
        _fill(costs, found, query, row, cost if self.metric == METRIC_L2 else -cost, rows)
        return costs, found


def _nothing(nq: int, k: int) -> tuple[Numbers, Ids]:
    return np.full((nq, k), np.inf), np.full((nq, k), -1, np.int64)


def _fill(
    costs: Numbers, found: Ids, query: Ids, row: Ids, cost: Numbers, rows: BucketRows
) -> None:
    """Write the pairs of each query, by (cost, id), into costs and found (nq, k); a row once."""
    order = np.lexsort((row, rows.ids[row], cost, query))
    query, row, cost = query[order], row[order], cost[order]
    once = np.ones(len(query), np.bool_)
    once[1:] = (query[1:] != query[:-1]) | (row[1:] != row[:-1])
    query, row, cost = query[once], row[once], cost[once]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    kept = place < costs.shape[1]
    costs[query[kept], place[kept]] = cost[kept]
    found[query[kept], place[kept]] = row[kept]
