"""Re-ranking: the first results of a scan, ordered by scores of their decoded vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deepq._checks import Floats, Ids
from deepq.quantizers import METRIC_INNER_PRODUCT

_ROWS = 1 << 15  # decoded vectors that are held at a time


def rerank(queries: Floats, found: Ids, decode: Callable[[Ids], Floats], metric: int) -> Floats:
    """Put each row of `found` into the order of the decoded vectors, in place.

    Parameters
    ----------
    queries : (nq, d) float32
        Embeddings of queries.
    found : (nq, k) int64
        Ids; -1 where there is none, which comes last.
    decode : callable
        Gives the vectors (n, d) float32 of ids (n,). It is asked once for every id in a block of
        queries.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    (nq, k) float32
        Squared distances, ascending, or inner products, descending; equal ones in ascending
        order of id. Beside -1 infinity, or minus infinity.
    """
    scores = np.empty(found.shape, np.float32)
    step = max(1, _ROWS // max(1, found.shape[1]))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        ids = np.sort(found[block], axis=1)
        distinct, places = np.unique(np.maximum(ids, 0), return_inverse=True)
        costs = _costs(queries[block], decode(distinct), places.reshape(ids.shape), metric)
        costs[ids < 0] = np.inf
        order = np.argsort(costs, axis=1, kind="stable")
        found[block] = np.take_along_axis(ids, order, axis=1)
        scores[block] = np.take_along_axis(costs, order, axis=1)
    return np.negative(scores, out=scores) if metric == METRIC_INNER_PRODUCT else scores


def _costs(queries: Floats, vectors: Floats, places: Ids, metric: int) -> Floats:
    """Squared distances, or negative inner products, (nq, k) of queries to some vectors each."""
    costs = np.empty(places.shape, np.float32)
    for i, row in enumerate(places):
        near = vectors[row]
        if metric == METRIC_INNER_PRODUCT:
            np.negative(np.einsum("kd,d->k", near, queries[i]), out=costs[i])
        else:
            near -= queries[i]
            np.einsum("kd,kd->k", near, near, out=costs[i])
    return costs
