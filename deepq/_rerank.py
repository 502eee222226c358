"""Re-ranking: the first results of a scan, ordered by scores of their decoded vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deepq import _scan
from deepq._checks import Floats, Ids
from deepq.quantizers import METRIC_INNER_PRODUCT

_NUMBERS = 1 << 24  # of decoded vectors that are held at a time


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
    inner_product = metric == METRIC_INNER_PRODUCT
    scores = np.empty(found.shape, np.float32)
    step = max(1, _NUMBERS // max(1, found.shape[1] * queries.shape[1]))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        ids = np.sort(found[block], axis=1)
        distinct, places = _distinct(np.maximum(ids, 0))
        vectors = np.ascontiguousarray(decode(distinct))
        costs = _scan.costs(np.ascontiguousarray(queries[block]), vectors, places, inner_product)
        costs[ids < 0] = np.inf
        order = np.argsort(costs, axis=1, kind="stable")
        found[block] = np.take_along_axis(ids, order, axis=1)
        scores[block] = np.take_along_axis(costs, order, axis=1)
    return np.negative(scores, out=scores) if inner_product else scores


def _distinct(ids: Ids) -> tuple[Ids, Ids]:
    """Return the distinct ids, ascending, and where among them each of `ids` is."""
    most = int(ids.max(initial=-1)) + 1
    if most > 4 * ids.size:
        distinct, places = np.unique(ids, return_inverse=True)
        return distinct, places.reshape(ids.shape)
    seen = np.zeros(most, np.bool_)
    seen[ids] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[ids]
