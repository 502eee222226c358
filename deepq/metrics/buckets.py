"""Measures of hash tables: what buckets say of classes, and how much of a base is looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deepq._common.arrays import as_array, as_whole
from deepq._common.checks import as_real
from deepq._common.errors import DimensionError, InputError
from deepq.metrics.arguments import as_ranked_ids
from deepq.metrics.relevance import Array, Numbers


def normalized_mutual_information(buckets: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return how much buckets and classes say of each other: 0 nothing, 1 everything.

    Their mutual information over the mean of their entropies, 2 I(B; C) / (H(B) + H(C)) (Strehl &
    Ghosh, "Cluster ensembles", JMLR 2002, has the geometric mean). A row in several buckets counts
    once for each. Where both have only one value, which say all there is, it is 1.

    Parameters
    ----------
    buckets : (n,) or (n, s) int
        The buckets of each row: `HashTableIndex.bucket_ids`, or the clusters of another method.
    labels : (n,) int or str
        A class for each row.

    Raises
    ------
    DimensionError, KindError, InputError
        If the shapes do not fit, or there are no rows.

    Examples
    --------
    >>> normalized_mutual_information([4, 4, 9, 9], ["cat", "cat", "dog", "dog"])
    1.0
    >>> normalized_mutual_information([4, 9, 4, 9], ["cat", "cat", "dog", "dog"])
    0.0
    """
    numbers, classes = as_whole(buckets, "buckets"), as_array(labels, "labels")
    if numbers.ndim not in (1, 2) or classes.shape != numbers.shape[:1] or not numbers.size:
        raise DimensionError(
            f"expected buckets (n,) or (n, s) and labels (n,), not empty, got {numbers.shape} and "
            f"{classes.shape}"
        )
    rows = numbers.reshape(len(numbers), -1)
    _, b = np.unique(rows.ravel(), return_inverse=True)
    _, c = np.unique(np.repeat(classes, rows.shape[1]), return_inverse=True)
    joint = np.unique(b.ravel() * (int(c.max()) + 1) + c.ravel(), return_counts=True)[1]
    of_buckets, of_classes = _entropy(np.bincount(b.ravel())), _entropy(np.bincount(c.ravel()))
    if of_buckets + of_classes == 0:
        return 1.0
    shared = of_buckets + of_classes - _entropy(joint)
    return float(np.clip(2 * shared / (of_buckets + of_classes), 0, 1))


def speed_up(candidates: float) -> float:
    """Return the speed-up factor: how many times fewer vectors are looked at than there are.

    Jeong & Song, ICML 2018, call 1 / `candidates` SUF; `candidates` is the mean share of the base
    that a query looks at, such as `HashTableIndex.candidates`. Infinite for 0.

    Raises InputError where it is not from 0 to 1.

    >>> speed_up(0.02)
    50.0
    """
    share = as_real(candidates, "candidates")
    if not 0 <= share <= 1:
        raise InputError(f"expected candidates from 0 to 1, got {share}")
    return 1 / share if share else float("inf")


def without_self(I: npt.ArrayLike, ids: npt.ArrayLike | None = None) -> Array:
    """Drop from each row of results the query itself, where the queries are stored vectors.

    Parameters
    ----------
    I : (nq, depth) int
        Ids in ranked order; -1 where there is none.
    ids : (nq,) int, optional
        The id of each query; by default its row number.

    Returns
    -------
    (nq, depth - 1) int
        Rows without their id; without their last one where they do not have it.

    Raises
    ------
    DimensionError, KindError
        If `I` is not of integers (nq, depth) with a depth of at least 2, or `ids` not (nq,).

    Examples
    --------
    >>> without_self([[0, 4, 2], [7, 1, 3]]).tolist()
    [[4, 2], [7, 3]]
    """
    found = as_ranked_ids(I, "I")
    own = np.arange(len(found)) if ids is None else as_whole(ids, "ids")
    if own.shape != (len(found),) or found.shape[1] < 2:
        raise DimensionError(
            f"expected I (nq, depth) of at least 2 columns and ids (nq,), got {found.shape} and "
            f"{own.shape}"
        )
    is_self = found == own[:, None]
    at: Array = np.where(is_self.any(axis=1), is_self.argmax(axis=1), found.shape[1] - 1)
    kept = np.arange(found.shape[1]) != at[:, None]
    others: Array = found[kept].reshape(len(found), -1)
    return others


def _entropy(counts: Array) -> float:
    """Entropy in bits of what comes so many times, each at least once."""
    p: Numbers = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())
