"""Bits of kernels: the parts of learning them, against loops and grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import eigh

from deepq.encoders import kernel_bits

from .kernels import clusters


def instance(n=40, m=6, seed=0, bits=4):
    """K (n, m), similar and known (n, n), and a residue (n, n)."""
    rng = np.random.default_rng(seed)
    K = rng.standard_normal((n, m), dtype=np.float32)
    y = rng.integers(3, size=n)
    upper = np.triu(rng.random((n, n)) < 0.7)
    h = np.sign(rng.standard_normal((n, 2)))
    similar, known = y[:, None] == y, upper | upper.T
    R = (bits * np.where(similar, 1, -1) - h @ h.T) * known
    return K, similar, known, R.astype(np.float32)


def test_kernels() -> None:
    x, _ = clusters(7)
    anchors = x[2:5]
    found = kernel_bits.kernels(x, anchors, 3.0)
    for i in range(7):
        for j in range(3):
            squared = sum((float(a) - float(b)) ** 2 for a, b in zip(x[i], anchors[j], strict=True))
            assert found[i, j] == pytest.approx(math.exp(-squared / 6), rel=1e-5)
    assert found.dtype == np.float32
    assert found.max() <= 1


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_kernels_far_from_the_origin(scale) -> None:
    x, _ = clusters(50)
    away = ((x + 256) * np.float32(scale)).astype(np.float32)
    near = away.astype(np.float64) / np.float32(scale)
    width = kernel_bits.mean_squared_distance(away, away[:9])
    squared = np.square(near[:, None] - near[:9]).sum(axis=2)
    assert width == pytest.approx(squared.mean() * scale**2, rel=1e-5)
    found = kernel_bits.kernels(away, away[:9], width)
    np.testing.assert_allclose(found, np.exp(-squared / (2 * squared.mean())), atol=1e-5)


def test_whitened_kernels_are_orthonormal_but_for_the_ridge() -> None:
    K, *_ = instance(n=500)
    T = kernel_bits.whitening(K)
    gram = K.T.astype(float) @ K
    ridge = 0.01 * np.trace(gram) / 6 * np.eye(6)
    np.testing.assert_allclose(T.T @ (gram + ridge) @ T, 500 * np.eye(6), atol=1e-8)
    equal = kernel_bits.whitening(np.ones_like(K))
    assert np.isfinite(equal).all()
    assert np.isfinite(kernel_bits.whitening(np.zeros_like(K))).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_start_is_the_top_generalized_eigenvector(seed, monkeypatch) -> None:
    K, *_, R = instance(seed=seed)
    starts = []
    monkeypatch.setattr(kernel_bits, "refined", lambda *a: starts.append(a) or a[2])
    T = kernel_bits.whitening(K)
    u = kernel_bits.best_direction((K @ T).astype(np.float32), R)
    np.testing.assert_array_equal(u, starts[0][2])
    K = K.astype(float)
    gram = K.T @ K
    want = eigh(K.T @ R @ K, gram + 0.01 * np.trace(gram) / 6 * np.eye(6))[1][:, -1]
    a = T @ u
    cosine = a @ want / np.linalg.norm(a) / np.linalg.norm(want)
    assert abs(cosine) == pytest.approx(1, abs=1e-5)
    assert np.square(K @ a).mean() == pytest.approx(1, rel=0.02)


def test_the_smooth_value_by_loops_and_its_gradient_by_differences() -> None:
    K, *_, R = instance()
    K, R, u = K.astype(float), R.astype(float), np.random.default_rng(1).standard_normal(6)

    def value(u) -> float:
        p = [2 / (1 + math.exp(-float(row @ u))) - 1 for row in K]
        return -sum(p[i] * R[i, j] * p[j] for i in range(40) for j in range(40))

    found, gradient = kernel_bits.smooth(K, R, u)
    assert found == pytest.approx(value(u))
    for j in range(6):
        step = 1e-5 * np.eye(6)[j]
        slope = (value(u + step) - value(u - step)) / 2e-5
        assert gradient[j] == pytest.approx(slope, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 1e6])
def test_refinement_descends(curvature) -> None:
    for seed in range(5):
        K, *_, R = instance(seed=seed)
        u = np.random.default_rng(seed).standard_normal(6).astype(np.float32)
        before = kernel_bits.smooth(K, R, u)[0]
        after = kernel_bits.smooth(K, R, kernel_bits.refined(K, R, u, curvature))[0]
        assert after < before


def test_refinement_finds_what_a_grid_finds() -> None:
    """Two anchors: the best bit of all directions."""
    gains, spectral, best = [], [], []
    angles = np.linspace(0, 2 * np.pi, 721)
    for seed in range(20):
        K, *_ = instance(m=2, seed=seed)
        y = np.floor(5 * np.arctan2(*K.T) / (2 * np.pi))  # of five sectors
        R = np.where(y[:, None] == y, np.float32(4), np.float32(-4))
        Z = (K @ kernel_bits.whitening(K)).astype(np.float32)

        def gain(u, Z=Z, R=R) -> float:
            h = [1 if row @ u >= 0 else -1 for row in Z]
            return sum(h[i] * R[i, j] * h[j] for i in range(40) for j in range(40))

        top = np.linalg.eigh(Z.T @ R @ Z)[1][:, -1]
        found = kernel_bits.best_direction(Z, R)
        assert kernel_bits.gain(kernel_bits.signs(Z @ found), R) == gain(found)
        gains.append(gain(found))
        spectral.append(gain(top))
        every = np.array([np.cos(angles), np.sin(angles)]).astype(np.float32)
        best.append(max(kernel_bits.gain(h, R) for h in kernel_bits.signs(Z @ every).T))
    gains, spectral, best = map(np.array, (gains, spectral, best))
    assert (gains >= spectral).all()
    assert (gains > spectral).any()
    assert gains.sum() > 0.9 * best.sum()


@pytest.mark.parametrize("some", [False, True])
def test_every_bit_leaves_less_of_the_similarities(some) -> None:
    x, y = clusters(60)
    similar, known = y[:, None] == y, np.ones((60, 60), np.bool_)
    if some:
        known = np.add.outer(np.arange(60), np.arange(60)) % 3 > 0
    K = kernel_bits.kernels(x, x[:20], 20.0)
    K -= K.mean(axis=0)
    entries = []
    A = kernel_bits.learn_kernel_bits(K, similar, known, 8, entries.append)
    H = np.where(K @ A.T < 0, -1, 1)
    known = known | np.eye(60, dtype=np.bool_)
    errors = []
    for t in range(9):
        left = [
            ((1 if similar[i, j] else -1) - H[i, :t] @ H[j, :t] / 8) ** 2
            for i, j in zip(*np.nonzero(known), strict=True)
        ]
        errors.append(np.mean(left))
    assert np.all(np.diff(errors) < 0)
    assert [entry["iteration"] for entry in entries] == list(range(8))
    np.testing.assert_allclose([entry["error"] for entry in entries], errors[1:], rtol=1e-5)


def test_what_is_not_known_does_not_count() -> None:
    K, similar, known, _ = instance()
    A = kernel_bits.learn_kernel_bits(K, similar, known, 4)
    np.testing.assert_array_equal(A, kernel_bits.learn_kernel_bits(K, similar ^ ~known, known, 4))
    assert not np.array_equal(A, kernel_bits.learn_kernel_bits(K, similar, np.ones_like(known), 4))
