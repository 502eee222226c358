"""A rotation and codebooks in turns: what a step does, by hand, and where it leads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from deepq.encoders.alternation import alternate, nearest_rotation, orthonormal
from deepq.quantizers import ProductQuantizer

from .builders import correlated, normal


def centred(n: int, d: int) -> np.ndarray:
    x = correlated(n, d)
    x -= x.mean(axis=0)
    return x / np.abs(x).max()


def test_a_step_is_a_lloyd_step_and_procrustes() -> None:
    x = normal(500, 8)
    quantizer, by_hand = ProductQuantizer(2, 3), ProductQuantizer(2, 3)
    R = alternate(x, quantizer, 1, np.random.default_rng(0))
    by_hand.draw(x, np.random.default_rng(0))
    words = by_hand.assign(x)
    by_hand.update(x, words, np.random.default_rng(1))
    np.testing.assert_allclose(quantizer.codebooks, by_hand.codebooks, atol=1e-5)
    left, _, right = np.linalg.svd(by_hand.gather(words).astype(np.float64).T @ x)
    np.testing.assert_allclose(R, left @ right, atol=1e-4)


def test_without_noise_the_error_does_not_rise() -> None:
    errors: list[float] = []
    x = centred(2000, 16)
    quantizer = ProductQuantizer(4, 4)
    R = alternate(
        x, quantizer, 12, np.random.default_rng(0), progress=lambda e: errors.append(e["error"])
    )
    assert all(b <= a * 1.0001 for a, b in pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]
    np.testing.assert_allclose(R @ R.T, np.eye(16), atol=1e-5)


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_noise_fades(noise: float) -> None:
    x = centred(2000, 16)
    errors: list[float] = []
    alternate(
        x,
        ProductQuantizer(4, 4),
        30,
        np.random.default_rng(0),
        noise=noise,
        progress=lambda e: errors.append(e["error"]),
    )
    assert errors[-1] == min(errors)


def test_the_nearest_rotation_has_the_largest_trace() -> None:
    A = normal(6, 6)
    best = np.trace(nearest_rotation(A) @ A.T)
    for seed in range(20):
        other = np.linalg.qr(normal(6, 6, seed=seed + 1))[0]
        assert np.trace(other @ A.T) <= best + 1e-4


def test_what_is_nearly_orthonormal_becomes_so() -> None:
    R = np.linalg.qr(normal(30, 30).astype(np.float64))[0]
    made = orthonormal(R + 1e-4 * normal(30, 30, seed=1))
    np.testing.assert_allclose(made @ made.T, np.eye(30), atol=1e-14)
    assert np.abs(made - R).max() < 1e-3
