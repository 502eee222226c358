"""True nearest neighbours."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import ArrayLike

from deepq._common.checks import as_integer, as_numbers
from deepq._common.errors import DimensionError, InputError
from deepq._common.threads import openmp_threads
from deepq._common.types import Floats, Ids

_BASE_BLOCK, _QUERY_BLOCK = 1 << 18, 256  # rows that are looked at together
_SPARE = 16  # candidates past k: single precision may have ranked them wrongly


def exact_neighbours(
    base: ArrayLike, query: ArrayLike, k: int, metric: int = faiss.METRIC_L2
) -> tuple[Floats, Ids]:
    """Return the k best base vectors for each query by exhaustive search.

    The base is read block by block, so it may be memory-mapped. faiss finds the candidates in
    single precision, and double precision ranks them.

    Parameters
    ----------
    base, query : (n, d) array
        What is searched, and for what: real numbers.
    k : int
        Neighbours of a query, from 1 to the number of base vectors.
    metric : int
        ``faiss.METRIC_L2`` (squared distances) or ``faiss.METRIC_INNER_PRODUCT``.

    Returns
    -------
    D : (nq, k) float32
        Squared distances, ascending, or inner products, descending.
    I : (nq, k) int64
        Their ids; equals in ascending id.

    Raises
    ------
    InputError, DimensionError, KindError
        If `k`, `metric` or the shapes are unusable, or the arrays are not of real numbers.
    """
    base, query = as_numbers(base, "base"), as_numbers(query, "query")
    k, metric = as_integer(k, "k"), as_integer(metric, "metric")
    if base.ndim != 2 or query.ndim != 2 or base.shape[1] != query.shape[1]:
        raise DimensionError(
            f"expected base (nb, d) and query (nq, d), got {base.shape} and {query.shape}"
        )
    if not 1 <= k <= len(base):
        raise InputError(f"expected k from 1 to {len(base)}, the size of the base, got {k}")
    if metric not in (faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT):
        raise InputError(f"expected metric METRIC_L2 or METRIC_INNER_PRODUCT, got {metric}")
    candidates = _candidates(base, query, min(k + _SPARE, len(base)), metric)
    D = np.empty((len(query), k), dtype=np.float32)
    I = np.empty((len(query), k), dtype=np.int64)
    sign = 1.0 if metric == faiss.METRIC_L2 else -1.0
    for start in range(0, len(query), _QUERY_BLOCK):
        rows = slice(start, start + _QUERY_BLOCK)
        ids = np.sort(candidates[rows], axis=1)
        x, q = base[ids].astype(np.float64), query[rows, None, :].astype(np.float64)
        scores = ((x - q) ** 2).sum(axis=2) if sign > 0 else -(x * q).sum(axis=2)
        order = np.argsort(scores, axis=1, kind="stable")[:, :k]
        D[rows] = sign * np.take_along_axis(scores, order, axis=1)
        I[rows] = np.take_along_axis(ids, order, axis=1)
    return D, I


def _candidates(base: Floats, query: Floats, k: int, metric: int) -> Ids:
    """Return the ids (nq, k) that single precision takes for the k best, in any order.

    faiss expands |x - y|^2, which cancels far from the origin, so L2 is measured from the centre.
    """
    centre = np.zeros(base.shape[1], dtype=np.float32)
    if metric == faiss.METRIC_L2:
        centre = base[:_BASE_BLOCK].mean(axis=0, dtype=np.float64).astype(np.float32)
    query = np.ascontiguousarray(query - centre, dtype=np.float32)
    ids = np.empty((len(query), 0), dtype=np.int64)
    scores = np.empty((len(query), 0), dtype=np.float32)
    for start in range(0, len(base), _BASE_BLOCK):
        block = np.ascontiguousarray(base[start : start + _BASE_BLOCK] - centre, dtype=np.float32)
        with openmp_threads():
            D, I = faiss.knn(query, block, min(k, len(block)), metric=metric)
        scores = np.concatenate([scores, D if metric == faiss.METRIC_L2 else -D], axis=1)
        ids = np.concatenate([ids, I + start], axis=1)
        best = np.argsort(scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, best, axis=1)
        ids = np.take_along_axis(ids, best, axis=1)
    return ids
