"""The embedded rows of a training: those to learn from, and those held out of all learning.

The latter judge what was learned, alone and among the former. Both find what they need of each
other's neighbours once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from deepq._common.types import Floats, Ids, InCells
from deepq.encoders.rotation import rotate
from deepq.quantizers.judging import Judge, Neighbours
from deepq.quantizers.judging_cells import CellJudge
from deepq.training.ranking import looks_at_all

MOST_CHOSEN = 40_000  # rows whose codes a decoder chooses, to judge among and to learn tables from
_MOST_QUERIES = 20_000
_MOST_RANKED = 20_000  # rows among which queries have their neighbours
_PROBED = 16  # cells that queries look into


class Places(NamedTuple):
    """Where rows lie in cells.

    Attributes
    ----------
    centres : (nlist, d) float32
        Centres of the cells, embedded.
    own, held : (n,), (m,) int64
        Cells of the rows to learn from, and of those held out.
    nearest : callable
        Takes whole embeddings (m, d) and a number of cells, and returns so many near ones (m, ..).
    """

    centres: Floats
    own: Ids
    held: Ids
    nearest: Callable[[Floats, int], Ids]

    def whole(self, z: Floats, own: Ids) -> tuple[Floats, InCells]:
        """Embeddings of which z (n, d) are the residuals in cells (n,), and those."""
        return z + self.centres[own], InCells(self.centres, own)

    def probed(self, z: Floats) -> Ids:
        """Cells that a search for whole embeddings (m, d) looks into."""
        return self.nearest(z, min(_PROBED, len(self.centres)))


class Embedded:
    """Embedded rows; in cells they are residuals, and judged by searches in cells.

    Parameters
    ----------
    z, held : (n, d), (m, d) float32
        Rows to learn from, and rows held out; these may be none.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT: what neighbours are ranked by.
    seed : int
        Seed of what is drawn from the rows.
    places : Places, optional
        Where they lie in cells.
    """

    def __init__(
        self, z: Floats, held: Floats, metric: int, seed: int, places: Places | None = None
    ) -> None:
        self.z, self.held, self.places = z, held, places
        self._metric, self._seed = metric, seed
        self._known: dict[int, Neighbours] = {}

    @property
    def first(self) -> Floats:
        """Rows to learn from that the held-out ones are judged among."""
        return self.z[:MOST_CHOSEN]

    @property
    def few(self) -> Floats:
        """Some of these, where a rough judgement will do."""
        return self.z[: MOST_CHOSEN // 2]

    @cached_property
    def among(self) -> Judge:
        """The held-out rows as a judge, among the first to learn from."""
        return self._judge(self.first)

    @cached_property
    def among_few(self) -> Judge:
        """The held-out rows as a judge, among a few of them."""
        return self._judge(self.few)

    @cached_property
    def apart(self) -> Judge:
        """The held-out rows as a judge, alone."""
        return self._judge(self.z[:0])

    def _judge(self, others: Floats) -> Judge:
        held, places = len(self.held), self.places
        if places is None:
            return Judge(self.held, self._metric, others)
        own = np.append(places.held, places.own[: len(others)])
        z, cells = places.whole(np.concatenate([self.held, others]), own)
        return CellJudge(z, cells, held, places.probed(z[:held]), self._metric)

    def known(self, most: int | None = None) -> Neighbours:
        """Neighbours among some rows, to learn the order from; at most so many."""
        count = min(len(self.z), most or len(self.z))
        if not looks_at_all(self._metric, self.places):
            count = min(count, _MOST_RANKED)
        if count not in self._known:
            self._known[count] = self._found(count)
        return self._known[count]

    def _found(self, count: int) -> Neighbours:
        rng, places = np.random.default_rng(self._seed), self.places
        rows: Any = slice(count)
        if count < len(self.z) and not looks_at_all(self._metric, places):
            rows = np.sort(rng.choice(len(self.z), count, replace=False))
        if places is None:
            return Neighbours.among(self.z[rows], _MOST_QUERIES, self._metric, rng)
        z, cells = places.whole(self.z[rows], places.own[rows])
        known = Neighbours.among(z, _MOST_QUERIES, self._metric, rng)
        return replace(known, cells=cells, probed=places.probed(known.queries))

    def turned(self, axes: Floats) -> Embedded:
        """Turn the rows to other axes (d, d), where they lie in no cells.

        Neighbours stay those there were: of vectors that are equally near, others would be found.
        """
        self.known()
        other = Embedded(rotate(self.z, axes), rotate(self.held, axes), self._metric, self._seed)
        other._known = {
            count: replace(
                known, base=rotate(known.base, axes), queries=rotate(known.queries, axes)
            )
            for count, known in self._known.items()
        }
        return other
