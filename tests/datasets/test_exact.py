"""Exact neighbours are those of the definition."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common import neighbours
from deepq._common.errors import InputError
from deepq.datasets import exact_neighbours, load

from .builders import vectors


def first_of_all(base, query, k, metric):
    """The first k by (score, id), in double precision."""
    x, q = base.astype(float), query.astype(float)
    if metric == faiss.METRIC_L2:
        scores = np.square(x[None] - q[:, None]).sum(axis=2)
    else:
        scores = -(x[None] * q[:, None]).sum(axis=2)
    return np.argsort(scores, axis=1, kind="stable")[:, :k]


class TestExactNeighbours:
    @pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
    @pytest.mark.parametrize("k", [1, 7, 50])
    def test_equals_the_definition(self, monkeypatch, metric, k):
        monkeypatch.setattr(neighbours, "_BASE_BLOCK", 13)
        monkeypatch.setattr(neighbours, "_NUMBERS", 40)
        base, query = vectors(50), vectors(30, seed=1)
        D, I = exact_neighbours(base, query, k, metric)
        if metric == faiss.METRIC_L2:
            scores = ((base[None].astype(float) - query[:, None]) ** 2).sum(axis=2)
            order = np.argsort(scores, axis=1, kind="stable")[:, :k]
        else:
            scores = query.astype(float) @ base.T.astype(float)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(I, order)
        np.testing.assert_allclose(D, np.take_along_axis(scores, order, axis=1), rtol=1e-6)
        assert (D.dtype, I.dtype) == (np.float32, np.int64)

    def test_survives_a_large_offset(self):
        """Single precision alone ranks these wrongly: |x|^2 - 2xy + |y|^2 cancels."""
        base, query = vectors(3000, 64) + 1000, vectors(2000, 64, seed=1) + 1000
        _, I = exact_neighbours(base, query, 1)
        scores = ((base[None].astype(float) - query[:20, None]) ** 2).sum(axis=2)
        np.testing.assert_array_equal(I[:20, 0], scores.argmin(axis=1))
        assert (faiss.knn(query, base, 1)[1][:20] != I[:20]).any()

    @pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
    @pytest.mark.parametrize("gap", [0.0, 1e2, 1e4, 1e6])
    @pytest.mark.parametrize("unit", [1e-30, 1.0, 1e12])
    def test_groups_far_apart(self, metric, gap, unit):
        rng = np.random.default_rng(5)
        places = gap * rng.permutation(20)[:, None] * np.ones(8)
        x = places[rng.integers(0, 20, 2100)] + rng.standard_normal((2100, 8))
        x = (x * unit).astype(np.float32)
        base, query = x[:2000], x[2000:]
        _, I = exact_neighbours(base, query, 10, metric)
        np.testing.assert_array_equal(I, first_of_all(base, query, 10, metric))

    @pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
    @pytest.mark.parametrize("block", [100, 1 << 18])
    def test_many_equals_come_in_ascending_order(self, monkeypatch, metric, block):
        monkeypatch.setattr(neighbours, "_BASE_BLOCK", block)
        rng = np.random.default_rng(6)
        pictures = rng.standard_normal((9, 6)).astype(np.float32)
        base = pictures[rng.integers(0, 9, 700)]
        base[[3, 650]] *= 2
        _, I = exact_neighbours(base, pictures, 30, metric)
        np.testing.assert_array_equal(I, first_of_all(base, pictures, 30, metric))

    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from([faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT]),
        st.sampled_from([1, 3, 16]),
        st.sampled_from([0, 10, 3000]),
        st.integers(1, 60),
    )
    def test_small_numbers_with_ties(self, seed, metric, d, offset, k):
        rng = np.random.default_rng(seed)
        x = (rng.integers(0, 4, (80, d)) + offset).astype(np.float32)
        _, I = exact_neighbours(x[:60], x[60:], k, metric)
        np.testing.assert_array_equal(I, first_of_all(x[:60], x[60:], k, metric))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_names_the_row_that_is_not_finite(self, monkeypatch, value):
        monkeypatch.setattr(neighbours, "_BASE_BLOCK", 13)
        base, query = vectors(50), vectors(30, seed=1)
        base[31, 2] = value
        with pytest.raises(InputError, match=r"finite numbers in base, got .* in row 31$"):
            exact_neighbours(base, query, 3)
        query[29, 0] = value
        with pytest.raises(InputError, match=r"finite numbers in query, got .* in row 29$"):
            exact_neighbours(base, query, 3)

    @pytest.mark.parametrize(
        ("k", "metric", "query", "text"),
        [
            (0, faiss.METRIC_L2, vectors(2), "k from 1 to 5, the size of the base, got 0"),
            (6, faiss.METRIC_L2, vectors(2), "k from 1 to 5, the size of the base, got 6"),
            (1, faiss.METRIC_L1, vectors(2), "METRIC_L2 or METRIC_INNER_PRODUCT, got 2"),
            (1, faiss.METRIC_L2, vectors(2, 5), r"got \(5, 6\) and \(2, 5\)"),
        ],
    )
    def test_refuses(self, k, metric, query, text):
        with pytest.raises(ValueError, match=text):
            exact_neighbours(vectors(5), query, k, metric)


@pytest.mark.data
@pytest.mark.parametrize("name", ["sift_bsds", "text_wordnet"])
def test_stored_ground_truth_of_the_big_sets(big_data, name):
    data = load(big_data / f"{name}.npz")
    D, _ = exact_neighbours(data.base, data.query[:20], 100)
    stored = ((data.base[data.gt[:20]] - data.query[:20, None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(stored, D, rtol=1e-5)
