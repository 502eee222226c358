"""What measures are given: ids, scores and labels, checked."""

from __future__ import annotations

import numpy.typing as npt

from deepq._common.arrays import as_array, as_labels
from deepq._common.errors import DimensionError, KindError
from deepq.metrics.relevance import (
    Array,
)


def as_scores(values: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    """Real numbers of a shape. Raises KindError for others, DimensionError for another shape."""
    scores = as_array(values, name)
    if scores.dtype.kind not in "iuf":
        raise KindError(f"expected real numbers in {name}, got dtype {scores.dtype}")
    if scores.shape != shape:
        raise DimensionError(f"expected {name} of the shape {shape} of its ids, got {scores.shape}")
    return scores


def as_ranked_ids(ids: npt.ArrayLike, name: str) -> Array:
    """Integer ids (nq, depth). Raises KindError or DimensionError for anything else."""
    a = as_array(ids, name)
    if a.dtype.kind not in "iu":
        raise KindError(f"expected integer ids in {name}, got dtype {a.dtype}")
    if a.ndim != 2 or a.size == 0:
        raise DimensionError(f"expected {name} of shape (nq, depth), not empty, got {a.shape}")
    return a


def as_classes(labels: npt.ArrayLike, name: str) -> Array:
    """Classes (n,) or tags (n, c): see `as_labels`. Raises DimensionError for another shape."""
    a = as_array(labels, name)
    if a.ndim not in (1, 2) or a.size == 0:
        raise DimensionError(f"expected {name} of shape (n,) or (n, c), not empty, got {a.shape}")
    return as_labels(a, name)
