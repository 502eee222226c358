"""Recall: how many of the true neighbours a search found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepq._common.checks import as_integer
from deepq._common.errors import DimensionError, InputError
from deepq.metrics.arguments import as_ranked_ids, as_scores
from deepq.metrics.relevance import (
    Array,
    once,
)


def recall(
    I: npt.ArrayLike,
    gt: npt.ArrayLike,
    k: int = 1,
    r: int | None = None,
    *,
    D: npt.ArrayLike | None = None,
    gt_D: npt.ArrayLike | None = None,
) -> float:
    """Return k-recall@r: the part of the k true neighbours found among the first r results.

    The mean over queries of ``|first r of I, and first k of gt| / k``. What papers call "R@r" is
    ``k=1``.

    Parameters
    ----------
    I : (nq, depth) int
        Ids in ranked order; -1 where there is none.
    gt : (nq, depth_gt) int
        True neighbours in ranked order, ``depth_gt >= k``.
    k : int
        How many true neighbours are looked for.
    r : int, optional
        How many results are looked at, all of them by default; ``r <= depth``.
    D, gt_D : (nq, depth) and (nq, depth_gt) float or int, optional
        The true distances or similarities beside `I` and `gt`, made by the same arithmetic. With
        them a result is right too if it is as near as the k-th true neighbour, so that the other
        copies of a vector count; of a query at most k do. Without them only the ids count.

    Raises
    ------
    KindError
        If `I` or `gt` does not hold integers, or `D` or `gt_D` no real numbers.
    InputError, DimensionError
        If the shapes do not fit each other or `k` and `r`; or if only one of `D` and `gt_D` is
        given, or a row of `gt_D` is not in ranked order.

    Examples
    --------
    >>> I = [[4, 7, 1], [0, 2, -1]]
    >>> gt = [[7, 4, 9], [5, 0, 2]]
    >>> recall(I, gt, k=1, r=1)
    0.0
    >>> recall(I, gt, k=1, r=3)
    0.5
    >>> recall(I, gt, k=2, r=2)
    0.75
    """
    ids, true = as_ranked_ids(I, "I"), as_ranked_ids(gt, "gt")
    shape, gt_shape = ids.shape, true.shape
    if len(ids) != len(true):
        raise DimensionError(
            f"expected gt with {len(ids)} rows, one for each of I, got {len(true)}"
        )
    k, r = as_integer(k, "k"), ids.shape[1] if r is None else as_integer(r, "r")
    if not 1 <= k <= true.shape[1]:
        raise InputError(f"expected k from 1 to {true.shape[1]}, the width of gt, got {k}")
    if not 1 <= r <= ids.shape[1]:
        raise InputError(f"expected r from 1 to {ids.shape[1]}, the width of I, got {r}")

    ids, true = once(ids[:, :r]), once(true[:, :k])
    both = np.concatenate([ids, true], axis=1, dtype=np.int64, casting="unsafe")
    values, dense = np.unique(both, return_inverse=True)
    keys = dense.reshape(both.shape) + len(values) * np.arange(len(both))[:, None]
    if D is None and gt_D is None:
        found = np.isin(keys[:, r:], keys[:, :r]) & (true >= 0)
        return float(found.sum() / found.size)
    if D is None or gt_D is None:
        raise InputError(f"expected D and gt_D, or neither, got {'gt_D' if D is None else 'D'}")
    scores, true_scores = as_scores(D, shape, "D"), as_scores(gt_D, gt_shape, "gt_D")
    right = np.isin(keys[:, :r], keys[:, r:]) | _as_near(scores[:, :r], true_scores, k)
    counted = np.minimum((right & (ids >= 0)).sum(axis=1), k)
    return float(counted.sum() / (k * len(ids)))


def _as_near(D: Array, gt_D: Array, k: int) -> Array:
    """Whether each result is as near as the k-th true neighbour; which way is near, `gt_D` shows.

    Where it does not, in equal numbers only, equal ones are as near.
    """
    steps = np.diff(gt_D, axis=1)
    rises, falls = (steps > 0).any(), (steps < 0).any()
    if (rises and falls) or np.isnan(gt_D).any():
        raise InputError("expected rows of gt_D that all rise, or all fall, got others")
    last = gt_D[:, k - 1 : k]
    near: Array = (last >= D) if rises else (last <= D) if falls else (last == D)
    return near
