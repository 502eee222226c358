"""Results of several shards as those of one index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids

Limits = NDArray[np.uint64]


def best(D: Floats, I: Ids, k: int, metric: int) -> NDArray[np.intp]:
    """Columns (n, k) of the k best scores `D` (n, m), of equal ones those with the smaller ids.

    A column whose id is -1 comes behind all others. faiss's merge takes the last of tied inner
    products first; this is the order of one index.
    """
    keys = -D if metric == METRIC_INNER_PRODUCT else D
    m = D.shape[1]
    if k < m // 2:  # no more than have to be are sorted: all that tie with the k-th best are kept
        limit = np.partition(np.where(I < 0, np.inf, keys), k, axis=1)[:, k : k + 1]
        width = int((keys <= limit).sum(axis=1).max(initial=k))
        if width < m:
            some = np.argsort(np.where(I < 0, np.inf, keys), axis=1, kind="stable")[:, :width]
            part = np.take_along_axis(keys, some, 1), np.take_along_axis(I, some, 1)
            order = np.lexsort((part[1], part[0], part[1] < 0), axis=1)[:, :k]
            return np.take_along_axis(some, order, axis=1)
    return np.lexsort((I, keys, I < 0), axis=1)[:, :k]


def merged(
    parts: Sequence[tuple[Floats, Ids, Codes | None]], k: int, metric: int
) -> tuple[Floats, Ids, Codes | None]:
    """Scores, ids and codes, if there are any, of the k best of all parts, each (n, k) or more."""
    D, I = (np.concatenate([part[i] for part in parts], axis=1) for i in (0, 1))
    columns = best(D, I, k, metric)
    codes = None
    if parts[0][2] is not None:
        every = np.concatenate([part[2] for part in parts if part[2] is not None], axis=1)
        codes = every[np.arange(len(D))[:, None], columns]
    return np.take_along_axis(D, columns, 1), np.take_along_axis(I, columns, 1), codes


def merged_ranges(parts: Sequence[tuple[Limits, Floats, Ids]]) -> tuple[Limits, Floats, Ids]:
    """`range_search` results of all parts: those of a query in ascending order of id."""
    n = len(parts[0][0]) - 1
    counts = (np.diff(lims).astype(np.int64) for lims, _, _ in parts)
    query = np.concatenate([np.repeat(np.arange(n), each) for each in counts])
    D, I = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    order = np.lexsort((I, query))
    ends = np.cumsum(np.bincount(query, minlength=n))
    lims = np.concatenate([[0], ends]).astype(np.uint64)
    return lims, D[order], I[order]
