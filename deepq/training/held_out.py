"""Rows that a network does not learn from: how well it ranks them, and when it is at its best."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepq._common.types import METRIC_L2, Floats, Ids
from deepq.labels.supervision import Supervision
from deepq.metrics.ranking import mean_average_precision

_MOST = 2000
_FEWEST = 50


class HeldOut:
    """Some rows of a supervision, to judge by; none where they would be too few.

    Parameters
    ----------
    supervision : Supervision
        What is known of all rows.
    share : float
        Share of the rows to hold out.
    least : int
        Rows that are left to learn from, at least.
    rng : Generator
        Draws them.

    Attributes
    ----------
    learned : (n,) int64
        Rows to learn from, ascending.
    rows : (m,) int64
        Rows held out, ascending.
    supervision : Supervision
        What is known of the rows to learn from.
    """

    def __init__(
        self, supervision: Supervision, share: float, least: int, rng: np.random.Generator
    ) -> None:
        n = supervision.n
        count = min(int(n * share), _MOST, n - least)
        order = rng.permutation(n)
        if not supervision.classes or count < _FEWEST:
            self.learned: Ids = np.arange(n)
            self.rows, self.supervision = order[:0], supervision
            return
        self.learned, self.rows = np.sort(order[count:]), np.sort(order[:count])
        self.supervision, self._judged = supervision.part(self.learned), supervision.part(self.rows)

    def __len__(self) -> int:
        """How many rows are held out."""
        return len(self.rows)

    def mAP(self, z: Floats, base: Floats, metric: int) -> float:  # noqa: N802
        """Return the mAP of the rows held out, each a query among the others.

        `z` (m, d) are the embeddings of the queries, `base` (m, d) what they are compared with.
        """
        scores = z @ base.T
        if metric == METRIC_L2:
            scores = 2 * scores - np.square(base).sum(axis=1)
        np.fill_diagonal(scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        D = -np.take_along_axis(scores, order, axis=1)
        order[:, -1] = -1  # the query itself
        y: Any = self._judged.y
        return mean_average_precision(order, y, y, D=D)


class Patience:
    """The best mAP until now, and the epochs since it rose.

    Parameters
    ----------
    warm_up : int
        Epochs in which something else is learned: they do not count.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.most, self.since = warm_up, -1.0, 0

    def see(self, epoch: int, mAP: float | None) -> bool:
        """Take note of an epoch; return whether its network is the best until now.

        Of equals it is the latest, which has learned most. So it is without a measure.
        """
        if epoch == self.warm_up:  # what was trained for something else is no measure
            self.most = -1.0
        rises = mAP is None or mAP > self.most
        is_best = mAP is None or mAP >= self.most
        self.since = 0 if rises or epoch <= self.warm_up else self.since + 1
        if mAP is not None and is_best:
            self.most = mAP
        return is_best
