"""Multiplying all rows by one number changes no ranking, and groups may lie far apart."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq
from deepq import TrainConfig, metrics
from deepq.datasets import exact_neighbours

UNITS = [2.0**-98, 2.0**-60, 2.0**49]  # powers of two change no digit
QUICK = TrainConfig(epochs=2)


def rows(n: int, seed: int = 0) -> np.ndarray:
    scale = np.linspace(0.2, 2, 16)
    return (np.random.default_rng(seed).standard_normal((n, 16)) * scale).astype(np.float32)


@pytest.fixture(scope="module", params=["L2", "ip"])
def plain(request):
    metric = faiss.METRIC_L2 if request.param == "L2" else faiss.METRIC_INNER_PRODUCT
    index = deepq.DeepQuantIndex(16, 8, 4, metric, training=QUICK)
    index.train(rows(2500))
    index.add(rows(700, 1))
    return index, index.search(rows(20, 2), 10)


@pytest.mark.parametrize("unit", UNITS)
def test_training_and_searching_do_not_follow_the_unit(plain, unit):
    usual, (D, I) = plain
    index = deepq.DeepQuantIndex(16, 8, 4, usual.metric_type, training=QUICK)
    index.train(rows(2500) * np.float32(unit))
    index.add(rows(700, 1) * np.float32(unit))
    found, ids = index.search(rows(20, 2) * np.float32(unit), 10)
    np.testing.assert_array_equal(index.codebooks, usual.codebooks * np.float32(unit))
    np.testing.assert_array_equal(ids, I)
    with np.errstate(under="ignore"):
        expected = (D.astype(np.float64) * unit**2).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("unit", UNITS)
def test_range_search_does_not_follow_the_unit(plain, unit):
    usual, (D, _) = plain
    index = deepq.DeepQuantIndex.from_codebooks(
        usual.codebooks * np.float32(unit), usual.encoder, usual.metric_type
    )
    index.add_sa_codes(usual.code_blocks(1000).__next__())
    radius = float(D[:, 5].mean())
    expected = usual.range_search(rows(20, 2), radius)
    found = index.range_search(rows(20, 2) * np.float32(unit), radius * unit**2)
    if radius * unit**2 > np.finfo(np.float32).tiny:
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[2], expected[2])


def test_labels_teach_tiny_vectors_as_well():
    kinds = np.arange(600) % 3
    x = np.random.default_rng(0).standard_normal((600, 8))
    x[:, :3] += 3 * np.eye(3)[kinds]
    values = []
    for unit in (1.0, 1e-12):
        training = TrainConfig(epochs=2, batch_size=100, device="cpu")
        index = deepq.recipes.dqn(8, 16, nbits=4, training=training)
        index.train((x * unit).astype(np.float32), kinds)
        index.add((x * unit).astype(np.float32))
        _, I = index.search((x[:30] * unit).astype(np.float32), 100)
        values.append(metrics.mean_average_precision(I, kinds[:30], kinds))
    assert values[1] == pytest.approx(values[0], abs=0.05)


def test_groups_far_apart_are_found_as_well_as_by_faiss():
    rng = np.random.default_rng(0)
    places = 1e4 * rng.permutation(20)[:, None] * np.ones(16)
    x = places[rng.integers(0, 20, 6100)] + rng.standard_normal((6100, 16))
    train, base, query = np.split(x.astype(np.float32), [4000, 6000])
    _, gt = exact_neighbours(base, query, 10)
    theirs = faiss.IndexPQ(16, 8, 6)
    theirs.train(train)
    theirs.add(base)
    recalls = []
    codebooks = faiss.vector_to_array(theirs.pq.centroids).reshape(8, 64, 2)
    own = deepq.DeepQuantIndex(16, 8, 6, training=TrainConfig(epochs=5))
    own.train(train)
    for index in (own, deepq.DeepQuantIndex.from_codebooks(codebooks), theirs):
        index.reset()
        index.add(base)
        recalls.append(metrics.recall(index.search(query, 10)[1], gt, 10))
    assert recalls[1] == pytest.approx(recalls[2], abs=0.02)
    assert recalls[0] > recalls[2] - 0.02
