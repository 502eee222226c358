"""Vectors and a small index to measure."""

from __future__ import annotations

import numpy as np

from deepq import DeepQuantIndex, TrainConfig


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Normal vectors whose principal axes have the lengths 1, 1/2, 1/3, ..."""
    return (normal(n, d, seed) / np.arange(1, d + 1) @ rotation(d)).astype(np.float32)


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]


def small_index(M: int = 4, nbits: int = 4, n: int = 300) -> DeepQuantIndex:
    index = DeepQuantIndex(12, M, nbits, training=TrainConfig(epochs=3))
    index.train(correlated(700, 12))
    index.add(correlated(n, 12, 1))
    return index
