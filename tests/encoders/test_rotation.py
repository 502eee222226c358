"""The rotation: orthonormal, repeatable, and better than none on unseen rows."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from sklearn.datasets import load_digits

from deepq._common.errors import InputError, StateError
from deepq.encoders import Encoder, Identity, Rotation, rotation
from deepq.quantizers import ProductQuantizer

from .builders import correlated, learned, normal


def error(x: np.ndarray, encoder: Encoder, quantizer: ProductQuantizer) -> float:
    x_hat = encoder.decode(quantizer.decode(quantizer.encode(encoder.encode(x))))
    return float(np.square(x - x_hat).sum() / len(x))


def test_rotation_must_be_fitted() -> None:
    encoder = Rotation(4)
    assert not encoder.is_fitted
    with pytest.raises(StateError):
        encoder.encode(normal(3, 4))


@pytest.mark.parametrize(("d", "M", "nbits"), [(2, 2, 3), (16, 4, 4), (24, 2, 6), (8, 1, 4)])
def test_rotation_is_orthonormal_and_keeps_lengths(d: int, M: int, nbits: int) -> None:
    x = correlated(1500, d)
    encoder, quantizer = learned(x, M, nbits, iterations=8)
    A = encoder.A.astype(np.float64)
    np.testing.assert_allclose(A @ A.T, np.eye(d), atol=1e-5)
    np.testing.assert_allclose(encoder.decode(encoder.encode(x)), x, atol=1e-5)
    assert quantizer.codebooks.shape == (M, 2**nbits, d // M)


def test_rotation_beats_the_plain_quantizer_and_faiss_on_unseen_rows() -> None:
    x, unseen = correlated(4000, 16), correlated(1000, 16, seed=1)
    plain = ProductQuantizer(4, 4)
    plain.train(x)
    opq = faiss.OPQMatrix(16, 4)
    opq.pq = faiss.ProductQuantizer(16, 4, 4)
    opq.train(x)
    theirs = faiss.ProductQuantizer(16, 4, 4)
    z = opq.apply(x)
    theirs.train(z)
    z = opq.apply(unseen)
    theirs_error = np.square(z - theirs.decode(theirs.compute_codes(z))).sum() / len(z)
    ours = error(unseen, *learned(x, 4, 4))
    assert ours < 0.7 * error(unseen, Identity(16), plain)
    assert ours < 1.02 * theirs_error


@pytest.mark.parametrize("M", [8, 16])
def test_rotation_pays_on_unseen_digits(M: int) -> None:
    """Coarse codes and fine ones: noise too strong for fine codes would fail here."""
    digits = load_digits().data.astype(np.float32)
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    plain = ProductQuantizer(M, 4)
    plain.train(digits[:1300])
    ours = error(digits[1300:], *learned(digits[:1300], M, 4))
    assert ours < 0.95 * error(digits[1300:], Identity(64), plain)


def test_rotation_stays_away_where_it_cannot_help() -> None:
    """Two clusters a dimension: without a rotation 8 bits are lossless."""
    corners = np.random.default_rng(0).choice([-1.0, 1.0], (3000, 8)).astype(np.float32)
    encoder, quantizer = learned(corners, 2, 4, iterations=10)
    assert error(corners, encoder, quantizer) < 1e-9


def test_rotation_needs_no_more_rows_than_codewords() -> None:
    x = correlated(16, 8)
    encoder, quantizer = learned(x, 2, 4)
    np.testing.assert_array_equal(encoder.A, np.eye(8))
    assert error(x, encoder, quantizer) == 0
    with pytest.raises(InputError, match="at least 16"):
        learned(x[:15], 2, 4)


@pytest.mark.parametrize("odd", ["constant columns", "one vector", "duplicates", "huge", "tiny"])
def test_rotation_copes_with_odd_data(odd: str) -> None:
    x = correlated(600, 8)
    if odd == "constant columns":
        x[:, 2:] = 7
    elif odd == "one vector":
        x[:] = x[0]
    elif odd == "duplicates":
        x = x[np.arange(600) % 5]
    else:
        x *= {"huge": 1e12, "tiny": 1e-12}[odd]
    encoder, quantizer = learned(x, 2, 4, iterations=6)
    assert np.isfinite(quantizer.codebooks).all()
    A = encoder.A.astype(np.float64)
    np.testing.assert_allclose(A @ A.T, np.eye(8), atol=1e-5)
    plain = ProductQuantizer(2, 4)
    plain.train(x, iterations=6)
    energy = float(np.square(x, dtype=np.float64).sum() / len(x))
    assert error(x, encoder, quantizer) <= 1.1 * error(x, Identity(8), plain) + 1e-6 * energy


def test_seed_decides_the_rotation() -> None:
    x = correlated(1000, 8)
    (a, qa), (b, qb), (c, _) = (learned(x, 2, 4, iterations=4, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.A, b.A)
    np.testing.assert_array_equal(qa.codebooks, qb.codebooks)
    assert not np.array_equal(a.A, c.A)


def test_rotation_starts_afresh_each_time() -> None:
    x = correlated(1000, 8)
    encoder, quantizer = learned(x, 2, 4, iterations=4)
    first = encoder.A.copy(), quantizer.codebooks.copy()
    encoder.fit(x, quantizer, iterations=4)
    np.testing.assert_array_equal(encoder.A, first[0])
    np.testing.assert_array_equal(quantizer.codebooks, first[1])


def test_eigenvalue_allocation_balances_products() -> None:
    deviations = np.sqrt(np.array([64, 32, 16, 9, 4, 2], dtype=np.float32))
    x = normal(50_000, 6) * deviations + 100
    R = rotation.eigenvalue_allocation(x, 2)
    np.testing.assert_allclose(R @ R.T, np.eye(6), atol=1e-10)
    # By hand: 64 | 32, then 16 joins 32, 9 joins 64, 4 joins 512 and 2 joins 576.
    axes = np.abs(R).argmax(axis=1).tolist()
    assert [set(axes[:3]), set(axes[3:])] == [{0, 3, 5}, {1, 2, 4}]


@pytest.mark.parametrize(("bits", "want"), [(0, 1), (2, 2), (5, 3), (40, 4)])
def test_bits_go_to_the_axes_above_the_water(bits: int, want: int) -> None:
    """Variances 16, 4, 1, 1/4: a bit for each factor of four above the level."""
    assert rotation.axes_with_bits(np.array([16, 4, 1, 0.25]), bits) == want


def test_errors_are_those_of_the_vectors_as_they_are() -> None:
    x = correlated(2000, 16) * np.float32(1000) + 500
    entries: list[dict] = []
    quantizer = ProductQuantizer(2, 4)
    encoder = Rotation(16)
    encoder.fit(x, quantizer, iterations=10, progress=entries.append)
    assert {entry["stage"] for entry in entries} == {"rotation", "codebooks"}
    assert entries[0]["error"] > entries[-1]["error"] > 0.1 * entries[0]["error"]
    assert entries[-1]["error"] == pytest.approx(error(x, encoder, quantizer), rel=0.1)
