"""Clusters, and an instance of learning bits from labels."""

from __future__ import annotations

import numpy as np


def clusters(n, d=16, classes=5, seed=0):
    """Rows of classes that are three clusters each, which no plane tells apart."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((classes, 3, d))
    y = rng.integers(classes, size=n)
    x = 2 * centres[y, rng.integers(3, size=n)] + rng.standard_normal((n, d))
    return x.astype(np.float32), y
