"""How good a ranking is: plain functions of the ids that a search returned.

Every function takes ``I``, (nq, depth) integer ids in ranked order, best first, as ``search``
returns them. The id -1 stands for "nothing found" and never counts. Ids within a row are distinct.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["mean_average_precision", "recall"]

_BLOCK = 1 << 22  # entries of a temporary (queries, base) matrix


def recall(I: npt.ArrayLike, gt: npt.ArrayLike, k: int = 1, r: int | None = None) -> float:
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

    Raises
    ------
    TypeError
        If `I` or `gt` does not hold integers.
    ValueError
        If the shapes do not fit each other or `k` and `r`.

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
    if len(ids) != len(true):
        raise ValueError(f"expected gt with {len(ids)} rows, one for each of I, got {len(true)}")
    r = ids.shape[1] if r is None else r
    if not 1 <= k <= true.shape[1]:
        raise ValueError(f"expected k from 1 to {true.shape[1]}, the width of gt, got {k}")
    if not 1 <= r <= ids.shape[1]:
        raise ValueError(f"expected r from 1 to {ids.shape[1]}, the width of I, got {r}")

    both = np.concatenate([ids[:, :r], true[:, :k]], axis=1)
    values, dense = np.unique(both, return_inverse=True)
    keys = dense.reshape(both.shape) + len(values) * np.arange(len(both))[:, None]
    found = np.isin(keys[:, r:], keys[:, :r]) & (true[:, :k] >= 0)
    return float(found.sum() / found.size)


def mean_average_precision(
    I: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    base_labels: npt.ArrayLike,
    *,
    top: int | None = None,
) -> float:
    """Return the mean over queries of the average precision of the first `top` results.

    A base vector is relevant to a query when they share at least one class. With ``rel_i`` = 1 if
    the i-th result is relevant, ``prec_i`` the part of relevant ones among the first i, and R the
    number of relevant vectors in the whole base::

        AP = sum(rel_i * prec_i for i in 1..top) / min(top, R)

    A query to which nothing is relevant counts as 0. Some published code divides by the number of
    relevant vectors *among the first top* instead; its figures are never lower.

    Parameters
    ----------
    I : (nq, depth) int
        Ids of base vectors in ranked order; -1 is skipped, and takes no rank.
    query_labels : (nq,) int, or (nq, c) bool
        One class for each query, or a multi-hot row.
    base_labels : (nb,) int, or (nb, c) bool
        The same for the base.
    top : int, optional
        How many results are looked at, all of `I` by default. It may exceed the depth of `I` only
        where `I` is as deep as the base.

    Raises
    ------
    TypeError
        If `I` does not hold integers or the labels are neither integers nor bools.
    ValueError
        If shapes, ids or `top` do not fit.

    Examples
    --------
    Two of three relevant vectors are found, at ranks 1 and 3: (1/1 + 2/3) / 3.

    >>> round(mean_average_precision([[2, 0, 3]], [7], [5, 7, 7, 7]), 4)
    0.5556
    """
    ids = _as_ids(I, "I")
    labels_q, labels_b = (
        _as_labels(query_labels, "query_labels"),
        _as_labels(base_labels, "base_labels"),
    )
    nq, depth = ids.shape
    nb = len(labels_b)
    if len(labels_q) != nq:
        raise ValueError(f"expected {nq} query_labels, one for each row of I, got {len(labels_q)}")
    if labels_q.shape[1:] != labels_b.shape[1:]:
        raise ValueError(
            "expected query_labels and base_labels of the same form, got shapes "
            f"{labels_q.shape} and {labels_b.shape}"
        )
    if ids.min() < -1 or ids.max() >= nb:
        raise ValueError(f"expected ids from -1 to {nb - 1}, got {ids.min()} to {ids.max()}")
    top = depth if top is None else top
    if top < 1 or (top > depth and depth < nb):
        raise ValueError(f"expected top from 1 to {depth}, the width of I, got {top}")

    step = max(1, _BLOCK // max(nb, depth))
    total = 0.0
    for start in range(0, nq, step):
        rows = slice(start, start + step)
        relevant = _share_a_class(labels_q[rows], labels_b)
        total += float(_average_precision(ids[rows], relevant, top).sum())
    return float(total / nq)


def _average_precision(
    ids: npt.NDArray[np.int64], relevant: npt.NDArray[np.bool_], top: int
) -> npt.NDArray[np.float64]:
    """Return AP of each row of ids (n, depth); relevant is (n, nb)."""
    retrieved = ids >= 0
    rank = np.cumsum(retrieved, axis=1)
    hit = np.take_along_axis(relevant, np.maximum(ids, 0), axis=1) & retrieved & (rank <= top)
    precision = np.cumsum(hit, axis=1) / np.maximum(rank, 1)
    possible = np.minimum(top, relevant.sum(axis=1))
    gain: npt.NDArray[np.float64] = np.where(hit, precision, 0.0).sum(axis=1)
    scores: npt.NDArray[np.float64] = gain / np.maximum(possible, 1)
    return scores


def _share_a_class(q: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the (nq, nb) matrix that is True where a query and a base vector share a class."""
    if q.ndim == 1:
        same: npt.NDArray[np.bool_] = q[:, None] == b[None, :]
        return same
    common: npt.NDArray[np.bool_] = q.astype(np.float32) @ b.T.astype(np.float32) > 0.5
    return common


def _as_ids(ids: npt.ArrayLike, name: str) -> npt.NDArray[np.int64]:
    a = np.asarray(ids)
    if a.dtype.kind not in "iu":
        raise TypeError(f"expected integer ids in {name}, got dtype {a.dtype}")
    if a.ndim != 2 or a.size == 0:
        raise ValueError(f"expected {name} of shape (nq, depth), not empty, got {a.shape}")
    return a.astype(np.int64, copy=False)


def _as_labels(labels: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    a = np.asarray(labels)
    if a.ndim not in (1, 2) or a.size == 0:
        raise ValueError(f"expected {name} of shape (n,) or (n, c), not empty, got {a.shape}")
    wanted = "iu" if a.ndim == 1 else "b"
    if a.dtype.kind not in wanted:
        form = "integers in (n,)" if a.ndim == 1 else "bools in (n, c)"
        raise TypeError(f"expected {form} for {name}, got dtype {a.dtype} of shape {a.shape}")
    return a
