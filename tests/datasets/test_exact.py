"""Exact neighbours are those of the definition."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from deepq.datasets import exact, exact_neighbours, load

from .builders import vectors


class TestExactNeighbours:
    @pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
    @pytest.mark.parametrize("k", [1, 7, 50])
    def test_equals_the_definition(self, monkeypatch, metric, k):
        monkeypatch.setattr(exact, "_BASE_BLOCK", 13)
        monkeypatch.setattr(exact, "_QUERY_BLOCK", 4)
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
