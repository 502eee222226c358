"""True nearest neighbours."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import ArrayLike

from deepq._common.arrays import as_numbers
from deepq._common.checks import as_integer
from deepq._common.errors import DimensionError, InputError
from deepq._common.neighbours import nearest
from deepq._common.types import Floats, Ids


def exact_neighbours(
    base: ArrayLike, query: ArrayLike, k: int, metric: int = faiss.METRIC_L2
) -> tuple[Floats, Ids]:
    """Return the k best base vectors for each query by exhaustive search.

    The base is read block by block, so it may be memory-mapped. Results are those of double
    precision, for any distance between groups of vectors, and in any unit.

    Parameters
    ----------
    base, query : (n, d) array
        What is searched, and for what: finite real numbers.
    k : int
        Neighbours of a query, from 1 to the number of base vectors.
    metric : int
        ``faiss.METRIC_L2`` (squared distances) or ``faiss.METRIC_INNER_PRODUCT``.

    Returns
    -------
    D : (nq, k) float32
        Squared distances, ascending, or inner products, descending; 0 or infinity where they are
        out of float32's range.
    I : (nq, k) int64
        Their ids; equals in ascending id.

    Raises
    ------
    InputError, DimensionError, KindError
        If `k`, `metric` or the shapes are unusable, or the arrays are not of real numbers; or if a
        row is not finite: the message names it.
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
    costs, I = nearest(base, query, k, metric)
    with np.errstate(over="ignore", under="ignore"):
        D = costs.astype(np.float32)
    return (D if metric == faiss.METRIC_L2 else -D), I
