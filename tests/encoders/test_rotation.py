"""Encoders: maps that invert, and a learned rotation that pays."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from deepq._common.errors import DimensionError, InputError, StateError
from deepq.encoders import Affine, Chain, Encoder, Identity, Normalize, Rotation, rotation
from deepq.quantizers import ProductQuantizer


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows whose variance falls steeply over directions that no axis follows."""
    spectrum = 2.0 ** -np.arange(d) * np.linalg.qr(normal(d, d, seed=99))[0]
    return normal(n, d, seed) @ spectrum.T.astype(np.float32)


def error(x: np.ndarray, encoder: Encoder, quantizer: ProductQuantizer) -> float:
    x_hat = encoder.decode(quantizer.decode(quantizer.encode(encoder.encode(x))))
    return float(np.square(x - x_hat).sum() / len(x))


def learned(
    x: np.ndarray, M: int, nbits: int, **settings: int
) -> tuple[Rotation, ProductQuantizer]:
    encoder, quantizer = Rotation(x.shape[1]), ProductQuantizer(M, nbits)
    encoder.fit(x, quantizer, **settings)
    return encoder, quantizer


@pytest.mark.parametrize("cast", [np.asfortranarray, np.float64, lambda x: x[::-1][::-1]])
def test_encode_takes_any_layout(cast: object) -> None:
    x = normal(10, 4)
    for encoder in (Identity(4), Normalize(4), Affine(normal(4, 4)), Chain([Identity(4)])):
        z = encoder.encode(cast(x))
        assert z.dtype == np.float32
        assert z.flags.c_contiguous
        np.testing.assert_array_equal(z, encoder.encode(x))


def test_encode_refuses_another_width() -> None:
    for encoder in (Identity(4), Normalize(4), Affine(normal(2, 4)), Chain([Identity(4)])):
        with pytest.raises(DimensionError, match="rows of 4 numbers"):
            encoder.encode(normal(10, 3))
        with pytest.raises(DimensionError):
            encoder.encode(normal(1, 4)[0])


def test_normalize_is_that_of_faiss() -> None:
    x = normal(50, 7) * 1e3
    x[3] = 0
    z = Normalize(7).encode(x)
    twin = faiss.NormalizationTransform(7, 2.0)
    np.testing.assert_allclose(z, twin.apply(x), rtol=1e-6)
    assert not z[3].any()
    assert x.max() > 100


def test_affine_is_that_of_faiss() -> None:
    A, b, x = normal(3, 5), normal(1, 3)[0], normal(20, 5, seed=1)
    twin = faiss.LinearTransform(5, 3, True)
    faiss.copy_array_to_vector(A.ravel(), twin.A)
    faiss.copy_array_to_vector(b, twin.b)
    twin.is_trained = True
    np.testing.assert_allclose(Affine(A, b).encode(x), twin.apply(x), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 8), st.integers(0, 8), st.booleans(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_affine_decode_undoes_encode(d: int, more: int, offset: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, _, right = np.linalg.svd(rng.standard_normal((d + more, d)), full_matrices=False)
    encoder = Affine(left * rng.uniform(0.5, 2, d) @ right, rng.normal(size=d + more) * offset)
    x = normal(5, d)
    np.testing.assert_allclose(encoder.decode(encoder.encode(x)), x, atol=2e-5)


def test_affine_decode_to_more_dimensions_is_the_shortest_solution() -> None:
    encoder = Affine([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [1.0, 0.0])
    np.testing.assert_allclose(encoder.decode([[5.0, 3.0]]), [[2.0, 0.0, 3.0]])
    rows = np.linalg.qr(normal(5, 5))[0][:2]
    assert Affine(rows).is_orthonormal
    assert not Affine(2 * rows).is_orthonormal
    np.testing.assert_array_equal(Affine(rows).decode(np.eye(2)), rows.astype(np.float32))


def test_affine_refuses_what_cannot_be() -> None:
    with pytest.raises(DimensionError, match="matrix"):
        Affine([1.0, 2.0])
    with pytest.raises(DimensionError, match="offset"):
        Affine(np.eye(2), [1.0])
    with pytest.raises(InputError, match="finite"):
        Affine([[np.nan]])
    with pytest.raises(InputError, match="finite"):
        Affine([[1.0]], [np.inf])


def test_chain_is_its_members_in_order() -> None:
    members = [Normalize(4), Affine(normal(3, 4)), Affine(normal(3, 3, seed=1), [1, 2, 3])]
    chain = Chain(members)
    assert (chain.d_in, chain.d_out, chain.is_fitted) == (4, 3, True)
    x = normal(10, 4)
    z = members[2].encode(members[1].encode(members[0].encode(x)))
    np.testing.assert_array_equal(chain.encode(x), z)
    np.testing.assert_array_equal(
        chain.decode(z), members[0].decode(members[1].decode(members[2].decode(z)))
    )


def test_chain_fits_each_member_on_what_comes_before() -> None:
    x = 100 * correlated(600, 8)
    chain, quantizer = Chain([Normalize(8), Rotation(8)]), ProductQuantizer(2, 4)
    assert not chain.is_fitted
    chain.fit(x, quantizer, iterations=5)
    alone, twin = learned(Normalize(8).encode(x), 2, 4, iterations=5)
    np.testing.assert_array_equal(chain.members[1].A, alone.A)
    np.testing.assert_array_equal(quantizer.codebooks, twin.codebooks)


def test_chain_refuses_members_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="at least one"):
        Chain([])
    with pytest.raises(DimensionError, match="4 inputs next, got 3"):
        Chain([Identity(4), Identity(3)])


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
