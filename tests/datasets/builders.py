"""Vectors, and files of them."""

from __future__ import annotations

import numpy as np


def write_vecs(path, x, dtype):
    x = np.asarray(x, dtype=dtype)
    width = np.full((len(x), 1), x.shape[1], dtype="<i4").view(np.uint8)
    path.write_bytes(np.hstack([width, x.view(np.uint8).reshape(len(x), -1)]).tobytes())
    return path


def write_bin(path, x):
    path.write_bytes(np.array(x.shape, "<u4").tobytes() + x.tobytes())
    return path


def vectors(n, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
