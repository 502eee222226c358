"""How many true neighbours codes in cells find: on held-out rows.

As `judging`, with a search that looks into the cells nearest to a query. Neighbours are those of
whole vectors; codes are of what these have besides the centre of their cell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deepq import _decode
from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Ids, InCells, Words
from deepq.quantizers.judging import TOP, Judge
from deepq.quantizers.product import ProductQuantizer


class CellJudge(Judge):
    """Held-out rows in cells, some as queries and the others as base.

    Parameters
    ----------
    z : (n, d) float32
        Embeddings: the first `held` of held-out rows, then of others to search among as well.
    cells : InCells
        Their cells.
    held : int
        How many rows are held out.
    probed : (held, nprobe) int64
        The cells nearest to each of these; -1 for none.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    """

    def __init__(self, z: Floats, cells: InCells, held: int, probed: Ids, metric: int) -> None:
        super().__init__(z[:held], metric, z[held:])
        nq = len(self._test.queries)
        self._cells, probed = cells.part(slice(nq, None)), probed[:nq]
        self._test = replace(self._test, cells=self._cells, probed=probed)
        self._look(probed)

    def _look(self, probed: Ids) -> None:
        """Lay out the rows (nq, ..) that each query meets, and who looks into which cell."""
        own = self._cells.cells
        order, sizes = np.argsort(own, kind="stable"), np.bincount(own, minlength=probed.max() + 1)
        starts = np.cumsum(sizes) - sizes
        met = np.where(probed < 0, 0, sizes[probed])
        places = np.cumsum(met, axis=1) - met
        self._rows = np.full((len(probed), max(1, int(met.sum(axis=1).max(initial=0)))), -1)
        self._visits = []
        by_cell = np.argsort(probed, axis=None, kind="stable")
        ends = np.flatnonzero(np.diff(probed.ravel()[by_cell])) + 1
        for visits in np.split(by_cell, ends):
            cell = int(probed.ravel()[visits[0]])
            if cell < 0 or not sizes[cell]:
                continue
            members = order[starts[cell] : starts[cell] + sizes[cell]]
            queries = visits // probed.shape[1]
            columns = places.ravel()[visits][:, None] + np.arange(len(members))
            self._rows[queries[:, None], columns] = members
            self._visits.append((cell, queries, columns, members))

    def _scan(self, quantizer: ProductQuantizer, words: Words, k: int) -> Ids:
        return self._first(quantizer.gather(words), k)

    def _first(self, z: Floats, k: int) -> Ids:
        """Rows (nq, k or fewer) that centres and reconstructions `z` put first; -1 for none."""
        costs = np.full(self._rows.shape, np.inf, np.float32)
        for cell, queries, columns, members in self._visits:
            x, centre = self._test.queries[queries], self._cells.centres[cell]
            if self._test.metric == METRIC_INNER_PRODUCT:
                costs[queries[:, None], columns] = -(x @ (z[members] + centre).T)
                continue
            x, own = x - centre, z[members]
            squares = np.square(x).sum(axis=1)[:, None] + np.square(own).sum(axis=1)
            costs[queries[:, None], columns] = squares - 2 * (x @ own.T)
        k = min(k, costs.shape[1])
        some = np.argpartition(costs, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(costs, some, axis=1), axis=1, kind="stable")
        found: Ids = np.take_along_axis(self._rows, np.take_along_axis(some, order, axis=1), axis=1)
        return found

    def _reranked(self, quantizer: ProductQuantizer, words: Words) -> Floats:
        found = self._short_list(quantizer, words)
        rows, places = np.unique(np.maximum(found, 0), return_inverse=True)
        cells = self._cells.part(rows)
        z = quantizer.reconstruct(words[rows], cells) + cells.centres[cells.cells]
        I = np.empty((len(found), min(TOP, found.shape[1])), np.int64)
        D, ip = np.empty(I.shape, np.float32), self._test.metric == METRIC_INNER_PRODUCT
        _decode.rank(self._test.queries, z, found, places.reshape(found.shape), ip, D, I)
        return self._test.recall(I)
