"""Recall on real data: at least that of the best of faiss's PQ and OPQ, from both its starts."""

from __future__ import annotations

from dataclasses import replace

import faiss
import numpy as np
import pytest

import deepq
from deepq.metrics import recall

NOISE = 0.01  # one point: what seeds differ by on a thousand queries
TRAIN_ROWS = 12_000


def ten_recall(index, data) -> float:
    index.train(data.train[:TRAIN_ROWS])
    index.add(data.base)
    return recall(index.search(data.query, 10)[1], data.neighbours(10), 10, 10)


def opq(d, M, *, identity):
    rotation = faiss.OPQMatrix(d, M)
    if identity:
        faiss.copy_array_to_vector(np.eye(d, dtype=np.float32).ravel(), rotation.A)
    return faiss.IndexPreTransform(rotation, faiss.IndexPQ(d, M, 8))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sift_bsds", "text_wordnet"])
def test_no_worse_than_the_best_of_pq_and_opq_at_8_bytes(big_data, name):
    data = deepq.datasets.load(big_data / f"{name}.npz")
    d = data.train.shape[1]
    rivals = [faiss.IndexPQ(d, 8, 8), opq(d, 8, identity=False), opq(d, 8, identity=True)]
    best = max(ten_recall(rival, data) for rival in rivals)
    assert ten_recall(deepq.DeepQuantIndex(d, 8), data) > best - NOISE


@pytest.mark.data
@pytest.mark.slow
def test_a_decoder_finds_more_in_the_same_bytes(big_data):
    data = deepq.datasets.load(big_data / "sift_bsds.npz")
    index = deepq.DeepQuantIndex(data.d, 8, rerank=100)
    reranked = ten_recall(index, data)
    by_tables = index.search(data.query, 10, params=deepq.SearchParameters(rerank=0))[1]
    assert reranked > 1.05 * recall(by_tables, data.neighbours(10), 10, 10)
    assert reranked > 1.05 * ten_recall(opq(data.d, 8, identity=True), data)


@pytest.mark.data
@pytest.mark.slow
def test_additive_codes_find_more_of_texts(big_data):
    data = deepq.datasets.load(big_data / "text_wordnet.npz")
    config = deepq.TrainConfig(epochs=3)
    indexes = [
        deepq.DeepQuantIndex(data.d, 8, rerank=100, training=replace(config, additive=additive))
        for additive in (True, False)
    ]
    more, less = (ten_recall(index, data) for index in indexes)
    assert isinstance(indexes[0].product_quantizer.decoder, deepq.decoders.AdditiveDecoder)
    assert more > less + 2 * NOISE


def test_better_than_pq_on_the_shipped_glosses(glosses):
    d = glosses.train.shape[1]
    assert ten_recall(deepq.DeepQuantIndex(d, 8), glosses) > ten_recall(
        faiss.IndexPQ(d, 8, 8), glosses
    )
