"""Vectors to encode."""

from __future__ import annotations

import numpy as np

from deepq.encoders import Rotation
from deepq.quantizers import ProductQuantizer


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows whose variance falls steeply over directions that no axis follows."""
    spectrum = 2.0 ** -np.arange(d) * np.linalg.qr(normal(d, d, seed=99))[0]
    return normal(n, d, seed) @ spectrum.T.astype(np.float32)


def learned(
    x: np.ndarray, M: int, nbits: int, **settings: int
) -> tuple[Rotation, ProductQuantizer]:
    encoder, quantizer = Rotation(x.shape[1]), ProductQuantizer(M, nbits)
    encoder.fit(x, quantizer, **settings)
    return encoder, quantizer
