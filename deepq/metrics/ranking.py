"""How good a ranking is: plain functions of the ids that a search returned.

Every function takes ``I``, (nq, depth) integer ids in ranked order, best first, as ``search``
returns them. The id -1 stands for "nothing found" and never counts. An id counts once, at its
first place in a row: where it comes again (pieces of a document under its number), it is as -1.

``recall`` compares with true neighbours. The others compare classes: a base vector is relevant to a
query when the two share at least one. Published code differs in what it divides by and in the
queries it leaves out; ``docs/evaluation.md`` says which does what, and which argument it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepq._common.arrays import as_array, as_labels
from deepq._common.checks import as_integer
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.metrics.relevance import (
    Array,
    Numbers,
    expected_gain,
    gain,
    hits,
    interpolated_precision,
    once,
)

Denominator = Literal["possible", "relevant", "found"]


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
    ids, true = _as_ids(I, "I"), _as_ids(gt, "gt")
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
    scores, true_scores = _as_scores(D, shape, "D"), _as_scores(gt_D, gt_shape, "gt_D")
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


def average_precision(
    I: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    base_labels: npt.ArrayLike,
    *,
    top: int | None = None,
    denominator: Denominator = "possible",
    D: npt.ArrayLike | None = None,
) -> Numbers:
    """Return each query's average precision of the first `top` results.

    With ``rel_i`` = 1 if the i-th result is relevant and ``prec_i`` the part of relevant ones among
    the first i::

        AP = sum(rel_i * prec_i for i in 1..top) / denominator

    and 0 for a query without a hit.

    Parameters
    ----------
    I : (nq, depth) int
        Ids of base vectors in ranked order; -1 is skipped, and takes no rank.
    query_labels : (nq,) int or str, or (nq, c) bool
        One class for each query, or a multi-hot row of bools, or of 0 and 1.
    base_labels : (nb,) int or str, or (nb, c) bool
        The same for the base.
    top : int, optional
        How many results are looked at, all of `I` by default. It may exceed the depth of `I` only
        where `I` is as deep as the base.
    denominator : {"possible", "relevant", "found"}
        With R the number of relevant vectors in the whole base: "possible" is min(`top`, R), the
        most that can be found; "relevant" is R; "found" is the number of relevant ones among the
        first `top`, which rewards a query for finding few.
    D : (nq, depth) float or int, optional
        The distances or similarities beside `I`, in the same order. Equal ones in a row are ties,
        and AP is its exact expectation over all orders of the ties [1]_. Without `D` ties count in
        the order of `I`.

    Returns
    -------
    (nq,) float64

    Raises
    ------
    KindError
        If `I` does not hold integers, `D` no real numbers, or the labels are neither integers nor
        bools.
    InputError, DimensionError
        If shapes, ids, `top` or `denominator` do not fit; if a row of `D` is not in ranked order;
        if the ties at rank `top` may go on past the depth of `I`; or if `top` cuts ties and the
        denominator is "found", which then depends on the order.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
       efficiently in the presence of tied scores", ECIR 2008.

    Examples
    --------
    Two of three relevant vectors are found, at ranks 1 and 3: (1/1 + 2/3) / 3, or / 2.

    >>> float(average_precision([[2, 0, 3]], [7], [5, 7, 7, 7])[0])
    0.5555555555555555
    >>> float(average_precision([[2, 0, 3]], [7], [5, 7, 7, 7], denominator="found")[0])
    0.8333333333333333

    The first two are tied, so that AP is 1 in one order and 1/2 in the other.

    >>> float(average_precision([[0, 1]], [7], [7, 5], D=[[3, 3]])[0])
    0.75
    """
    ids, labels_q, labels_b = _as_ranking(I, query_labels, base_labels)
    depth, nb = ids.shape[1], len(labels_b)
    top = depth if top is None else as_integer(top, "top")
    if top < 1 or (top > depth and depth < nb):
        raise InputError(f"expected top from 1 to {depth}, the width of I, got {top}")
    if denominator not in ("possible", "relevant", "found"):
        raise InputError(
            f"expected denominator 'possible', 'relevant' or 'found', got {denominator!r}"
        )
    scores = None if D is None else _as_scores(D, ids.shape, "D")
    result = np.empty(len(ids))
    for rows, hit, relevant in hits(ids, labels_q, labels_b):
        retrieved = ids[rows] >= 0
        bounds = np.concatenate([[0], retrieved.sum(axis=1).cumsum()])
        if scores is None:
            gained, found = gain(hit[retrieved], bounds, top)
        else:
            _check_ties(scores[rows], retrieved, top, whole=depth >= nb)
            gained, found = expected_gain(hit[retrieved], bounds, top, scores[rows][retrieved])
            if denominator == "found" and np.isnan(found).any():
                raise InputError(
                    "expected denominator 'possible' or 'relevant' where top cuts ties, got 'found'"
                )
        divisor = {
            "possible": np.minimum(top, relevant),
            "relevant": relevant,
            "found": found,
        }[denominator]
        result[rows] = gained / np.maximum(divisor, 1)
    return result


def mean_average_precision(
    I: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    base_labels: npt.ArrayLike,
    *,
    top: int | None = None,
    denominator: Denominator = "possible",
    drop_zero_hits: bool = False,
    D: npt.ArrayLike | None = None,
) -> float:
    """Return the mean over queries of `average_precision`, which see for the other arguments.

    Parameters
    ----------
    drop_zero_hits : bool
        Leave out queries without a relevant vector among the first `top`, as some published code
        does; otherwise they count as 0. With `D`, those that have none in any order of the ties.
        The mean of no query at all is 0.

    Examples
    --------
    >>> mean_average_precision([[0, 1], [0, 1]], [7, 8], [7, 5])
    0.5
    >>> mean_average_precision([[0, 1], [0, 1]], [7, 8], [7, 5], drop_zero_hits=True)
    1.0
    """
    scores = average_precision(I, query_labels, base_labels, top=top, denominator=denominator, D=D)
    if drop_zero_hits:
        scores = scores[scores > 0]
    return float(scores.mean()) if len(scores) else 0.0


def precision_at(
    I: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    base_labels: npt.ArrayLike,
    top: int | Sequence[int] | npt.NDArray[np.integer[Any]],
) -> float | Numbers:
    """Return the mean over queries of the part of relevant vectors among the first `top` results.

    What papers call P@R; for several `top`, the curve of precision over the number of results.

    Parameters
    ----------
    I, query_labels, base_labels
        As for `average_precision`, but that -1 takes a rank, as a result that is not relevant.
    top : int or (n,) int
        How many results are looked at, from 1 to the depth of `I`.

    Returns
    -------
    float or (n,) float64
        As `top` is one number or several.

    Raises
    ------
    KindError, InputError, DimensionError
        As `average_precision` does.

    Examples
    --------
    >>> precision_at([[2, 0, 3, -1]], [7], [5, 7, 7, 7], 4)
    0.5
    >>> precision_at([[2, 0, 3, -1]], [7], [5, 7, 7, 7], [1, 2]).tolist()
    [1.0, 0.5]
    """
    ids, labels_q, labels_b = _as_ranking(I, query_labels, base_labels)
    wanted = as_array(top, "top")
    if wanted.dtype.kind not in "iu":
        raise KindError(f"expected integers for top, got dtype {wanted.dtype}")
    if wanted.ndim > 1 or not wanted.size or wanted.min() < 1 or wanted.max() > ids.shape[1]:
        raise InputError(f"expected top from 1 to {ids.shape[1]}, the width of I, got {top}")
    at_rank = np.zeros(wanted.max(), np.int64)
    for _, hit, _ in hits(ids[:, : wanted.max()], labels_q, labels_b):
        at_rank += hit.sum(axis=0)
    precision: Numbers = at_rank.cumsum()[wanted - 1] / (wanted * len(ids))
    return precision if wanted.ndim else float(precision)


def precision_recall_curve(
    I: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    base_labels: npt.ArrayLike,
    *,
    levels: npt.ArrayLike | None = None,
) -> tuple[Numbers, Numbers]:
    """Return precision and recall, averaged over queries, at each rank or at levels of recall.

    Parameters
    ----------
    I, query_labels, base_labels
        As for `average_precision`, but that -1 takes a rank, as a result that is not relevant.
    levels : (n,) float, optional
        Levels of recall from 0 to 1. At each the precision of a query is interpolated as TREC does:
        the highest at any rank whose recall is at least the level, 0 if there is none.

    Returns
    -------
    precision, recall : (depth,) float64
        At the ranks 1 to depth, the mean over queries of the part of relevant vectors among the
        first results, and of the part of all relevant vectors that is there. A query to which
        nothing is relevant counts as 0 in both. With `levels`, (n,): the interpolated precision,
        and `levels`.

    Raises
    ------
    KindError, InputError, DimensionError
        As `average_precision` does, or if a level is not from 0 to 1.

    Examples
    --------
    >>> precision, recall = precision_recall_curve([[2, 0, 3]], [7], [5, 7, 7, 9])
    >>> precision.tolist(), recall.tolist()
    ([1.0, 0.5, 0.3333333333333333], [0.5, 0.5, 0.5])
    """
    ids, labels_q, labels_b = _as_ranking(I, query_labels, base_labels)
    nq, depth = ids.shape
    if levels is not None:
        wanted = as_array(levels, "levels")
        if wanted.dtype.kind not in "fiu":
            raise KindError(f"expected real numbers for levels, got dtype {wanted.dtype}")
        wanted = wanted.astype(np.float64)
        if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= 1)).all():
            raise InputError(f"expected levels of shape (n,) from 0 to 1, got {levels}")
        total = np.zeros(len(wanted))
        for _, hit, relevant in hits(ids, labels_q, labels_b):
            for row, R in zip(hit, relevant, strict=True):
                total += interpolated_precision(row, R, wanted)
        return total / nq, wanted
    at_rank, parts = np.zeros(depth), np.zeros(depth)
    for _, hit, relevant in hits(ids, labels_q, labels_b):
        at_rank += hit.sum(axis=0)
        parts += (1 / np.maximum(relevant, 1)) @ hit
    return at_rank.cumsum() / (np.arange(1, depth + 1) * nq), parts.cumsum() / nq


def _as_ranking(
    I: npt.ArrayLike, query_labels: npt.ArrayLike, base_labels: npt.ArrayLike
) -> tuple[Array, Array, Array]:
    ids = _as_ids(I, "I")
    labels_q = _as_labels(query_labels, "query_labels")
    labels_b = _as_labels(base_labels, "base_labels")
    if len(labels_q) != len(ids):
        raise DimensionError(
            f"expected {len(ids)} query_labels, one for each row of I, got {len(labels_q)}"
        )
    if labels_q.shape[1:] != labels_b.shape[1:]:
        raise DimensionError(
            "expected query_labels and base_labels of the same form, got shapes "
            f"{labels_q.shape} and {labels_b.shape}"
        )
    if (labels_q.dtype.kind == "U") != (labels_b.dtype.kind == "U"):
        raise KindError(
            "expected names, or integers, in both query_labels and base_labels, got "
            f"{labels_q.dtype} and {labels_b.dtype}"
        )
    if ids.min() < -1 or ids.max() >= len(labels_b):
        raise InputError(
            f"expected ids from -1 to {len(labels_b) - 1}, got {ids.min()} to {ids.max()}"
        )
    return once(ids), labels_q, labels_b


def _as_scores(values: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    scores = as_array(values, name)
    if scores.dtype.kind not in "iuf":
        raise KindError(f"expected real numbers in {name}, got dtype {scores.dtype}")
    if scores.shape != shape:
        raise DimensionError(f"expected {name} of the shape {shape} of its ids, got {scores.shape}")
    return scores


def _check_ties(D: Array, retrieved: Array, top: int, *, whole: bool) -> None:
    """Refuse rows that are not in order, or whose ties at rank `top` may go on past the last."""
    rising, falling = (D[:, 1:] >= D[:, :-1]).all(axis=1), (D[:, 1:] <= D[:, :-1]).all(axis=1)
    if not (rising | falling).all():
        raise InputError("expected rows of D that rise or fall, as search returns them")
    before_last = ((D[:, -1:] != D) & retrieved).sum(axis=1)
    if not whole and (retrieved[:, -1] & (before_last < top)).any():
        raise InputError(
            f"expected I and D deep enough to show where the ties at rank {top} end, "
            f"got ties up to the depth {D.shape[1]}"
        )


def _as_ids(ids: npt.ArrayLike, name: str) -> Array:
    a = as_array(ids, name)
    if a.dtype.kind not in "iu":
        raise KindError(f"expected integer ids in {name}, got dtype {a.dtype}")
    if a.ndim != 2 or a.size == 0:
        raise DimensionError(f"expected {name} of shape (nq, depth), not empty, got {a.shape}")
    return a


def _as_labels(labels: npt.ArrayLike, name: str) -> Array:
    a = as_array(labels, name)
    if a.ndim not in (1, 2) or a.size == 0:
        raise DimensionError(f"expected {name} of shape (n,) or (n, c), not empty, got {a.shape}")
    return as_labels(a, name)
