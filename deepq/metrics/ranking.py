"""Measures of rankings by class: a base vector is relevant to a query that it shares a class with.

Published code differs in what it divides by and in the queries it leaves out;
``docs/evaluation.md`` says which does what, and which argument it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deepq._common.arrays import as_array
from deepq._common.checks import as_integer
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.metrics.arguments import as_classes, as_ranked_ids, as_scores
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
    scores = None if D is None else as_scores(D, ids.shape, "D")
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
    ids = as_ranked_ids(I, "I")
    labels_q = as_classes(query_labels, "query_labels")
    labels_b = as_classes(base_labels, "base_labels")
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
