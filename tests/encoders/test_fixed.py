"""Encoders that learn nothing: those of faiss, to the bit where it has them."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError
from deepq.encoders import Affine, Chain, Identity, Normalize

from .builders import normal


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
