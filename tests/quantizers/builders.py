"""Vectors, trained quantizers, and scores by the formula."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer

METRICS = {"l2": METRIC_L2, "ip": METRIC_INNER_PRODUCT}
both_metrics = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def normal(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def on_a_sphere(n: int, seed: int) -> np.ndarray:
    """Clustered directions: quantized coarsely, vectors that a code explains badly are far off."""
    centres = normal(40, 16, seed=99)
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(40, size=n)] + rng.standard_normal((n, 16))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def trained(z: np.ndarray, M: int = 2, nbits: int = 3) -> ProductQuantizer:
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(z, iterations=4)
    return quantizer


def scores(queries: np.ndarray, vectors: np.ndarray, metric: int) -> np.ndarray:
    """Squared distances, or negative inner products, (nq, n) float64."""
    q, x = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == METRIC_INNER_PRODUCT:
        return -q @ x.T
    return np.square(q[:, None] - x[None]).sum(axis=2)
