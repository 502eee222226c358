"""Whether vectors have structure that more than a rotation can use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError, KindError
from deepq.encoders.rotation import eigenvalue_allocation
from deepq.quantizers import ProductQuantizer
from deepq.training.structure import has_structure, sample, structure
from tests.evaluation.builders import correlated, normal, rotation


def clusters(n: int, d: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((20, d))
    return (centres[rng.integers(0, 20, n)] + spread * rng.standard_normal((n, d))).astype("f4")


def relative_error_by_loops(x: np.ndarray, seed: int) -> float:
    error = variance = 0.0
    for held, kept in [(x[:300], x[300:]), (x[300:], x[:300])]:
        R = eigenvalue_allocation(kept, 2)
        quantizer = ProductQuantizer(2, 6)
        quantizer.train(kept @ R.T.astype("f4"), iterations=10, seed=seed)
        for row in held:
            variance += float(row @ row)
            for part, book in zip(np.split(R @ row, 2), quantizer.codebooks, strict=True):
                error += min(float((part - word) @ (part - word)) for word in book)
    return error / variance


def test_structure_by_loops():
    x, seed = correlated(600, 16) * 3 + 1, 7
    rng = np.random.default_rng(seed)
    sampled = x[rng.permutation(600)] - x.mean(axis=0)
    normals = rng.standard_normal((600, 16), dtype=np.float32)
    expected = 1 - relative_error_by_loops(sampled, seed) / relative_error_by_loops(normals, seed)
    assert structure(x, seed=seed) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("d", [32, 100, 127, 256])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_normal_vectors_have_no_structure(d, seed):
    x = normal(4000, d, seed)
    assert abs(structure(x, seed=seed)) < 0.015
    assert not has_structure(x, seed=seed)


def test_independent_columns_have_no_structure():
    assert not has_structure(np.random.default_rng(0).random((10_000, 64), dtype=np.float32))
    assert not has_structure(np.random.default_rng(0).integers(0, 2, (10_000, 64)))


def test_real_and_correlated_vectors_have_structure(glosses):
    assert structure(glosses.base) > 0.3
    assert structure(correlated(3000, 64)) > 0.3
    assert has_structure(normal(3000, 64) @ (np.eye(64) + 0.1 * normal(64, 64, 1)))
    assert has_structure(correlated(3000, 127))


def test_shuffled_columns_lose_it():
    x = correlated(6000, 64)
    x /= x.std(axis=0)
    assert structure(x) > 0.5
    assert not has_structure(np.random.default_rng(0).permuted(x, axis=0))


def test_tighter_clusters_have_more_structure():
    found = [structure(clusters(4000, 64, spread)) for spread in (0.1, 0.5, 1.0, 2.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9
    assert found[-1] > 0.02


@given(st.floats(-30, 14), st.floats(-100, 100), st.booleans())
@settings(max_examples=10)
def test_structure_does_not_depend_on_scale_offset_and_rotation(exponent, offset, turn):
    x = correlated(1500, 16).astype(np.float64)
    moved = (x @ rotation(16)[::-1] if turn else x) + offset * x.std()
    assert structure(moved * 10.0**exponent) == pytest.approx(structure(x), abs=0.03)


def test_extremes_of_structure():
    assert structure(np.full((300, 5), 3.0)) == 1
    assert structure(np.repeat(normal(2, 40), 200, axis=0)) > 0.99


def test_structure_looks_at_a_sample(monkeypatch):
    monkeypatch.setattr("deepq.training.structure._MOST_ROWS", 400)
    x = np.concatenate([correlated(500, 16), correlated(500, 16, 1)])
    assert structure(x, seed=3) == structure(x, seed=3) != structure(x, seed=4)
    rows = sample(x, 400, np.random.default_rng(3))
    assert len(np.unique(rows, axis=0)) == 400
    assert {row.tobytes() for row in rows} <= {row.tobytes() for row in x}


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (normal(255, 8), InputError),
        (np.full((300, 8), np.inf), InputError),
        (normal(300, 8)[0], DimensionError),
        (np.zeros((300, 0)), DimensionError),
        (normal(300, 8).tolist(), KindError),
        (np.full((300, 8), "a"), KindError),
    ],
)
def test_vectors_without_an_answer(x, error):
    with pytest.raises(error, match="expected"):
        structure(x)
