from __future__ import annotations

import pytest

from deepq import recipes
from deepq.objectives import CompoundCodes, NPair, TripletRanking


@pytest.mark.parametrize(
    ("sparsity", "regularization", "crowding"),
    [(1, 0.03, 0.07), (2, 0.01, 0.1), (3, 0.003, 0.1), (4, 0.001, 0.1), (5, 0.001, 0.1)],
)
def test_n_pair_has_the_settings_of_the_authors(sparsity, regularization, crowding) -> None:
    index = recipes.hierarchical(16, sparsity=sparsity, loss="npair", codes="batch")
    codes = index.hash_objective
    assert isinstance(codes, CompoundCodes)
    assert (codes.levels, codes.width, codes.sparsity) == (2, 32, sparsity)
    assert (codes.regularization, codes.crowding) == (regularization, crowding)
    assert codes.codes == "batch"
    metric = index.objective
    assert isinstance(metric, NPair)
    assert (metric.regularization, metric.rows_per_class) == (0.003, 2)
    assert index.embedder.d_out == 64
    assert index.hasher.d_out == 64


@pytest.mark.parametrize(("sparsity", "margin"), [(1, 0.3), (2, 0.5), (3, 0.3), (4, 0.5)])
def test_triplets_have_the_settings_of_the_authors(sparsity, margin) -> None:
    index = recipes.hierarchical(16, width=64, sparsity=sparsity, loss="triplet")
    assert (index.hash_objective.margin, index.hash_objective.crowding) == (margin, 1.0)
    metric = index.objective
    assert isinstance(metric, TripletRanking)
    assert (metric.margin, metric.unit, metric.rows_per_class) == (0.3, True, 2)
    assert index.embedder.d_out == 256
    assert index.buckets == 4096


def test_softmax_is_the_default() -> None:
    index = recipes.hierarchical(16, levels=1, width=100, embedding=8)
    assert index.hash_objective.loss == "softmax"
    assert index.embedder.d_out == 8
    assert index.buckets == 100
    assert not index.is_trained
