"""Indexes of a line of text: what the parts mean, and that faiss means the same."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq
from deepq import index_factory
from deepq.encoders import Affine, Identity, Normalize, Rotation

X = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)


def members(index):
    return [type(member) for member in index.encoder.members]


@pytest.mark.parametrize(
    ("text", "encoders", "M", "nbits", "rerank"),
    [
        ("PQ4", [Identity], 4, 8, 0),
        ("PQ4x6np", [Identity], 4, 6, 0),
        ("OPQ8,PQ8x4", [Rotation], 8, 4, 0),
        ("L2norm,OPQ4,PQ4,Rerank50", [Normalize, Rotation], 4, 8, 50),
        ("Pad20,OPQ5,PQ5", [Affine, Rotation], 5, 8, 0),
    ],
)
def test_flat(text, encoders, M, nbits, rerank):
    index = index_factory(16, text)
    assert type(index) is deepq.DeepQuantIndex
    assert members(index) == encoders
    assert (index.d, index.pq.M, index.pq.nbits, index.rerank) == (16, M, nbits, rerank)
    assert (index.metric_type, index.is_trained) == (faiss.METRIC_L2, False)


@pytest.mark.parametrize(
    ("text", "nlist", "coarse"),
    [
        ("IVF30,PQ4", 30, faiss.IndexFlatL2),
        ("OPQ4,IVF30,PQ4x4", 30, faiss.IndexFlatL2),
        ("IVF30_HNSW8,PQ4", 30, faiss.IndexHNSWFlat),
        ("IMI2x3,PQ4", 64, faiss.MultiIndexQuantizer),
    ],
)
def test_cells(text, nlist, coarse):
    index = index_factory(16, text)
    assert type(index) is deepq.DeepQuantIVFIndex
    assert (index.nlist, type(index.quantizer)) == (nlist, coarse)
    assert members(index) == ([Rotation] if "OPQ" in text else [Identity])


@pytest.mark.parametrize("text", ["PQ4x4", "OPQ4,PQ4x4", "IVF8,PQ4x4", "OPQ4,IVF8,PQ4x4"])
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_faiss_means_the_same(text, metric):
    ours, its = index_factory(16, text, metric), faiss.index_factory(16, text, metric)
    inside = its if "OPQ" not in text else faiss.downcast_index(its.index)
    assert isinstance(ours, type(inside))
    assert (ours.metric_type, ours.pq.M, ours.pq.nbits) == (metric, inside.pq.M, inside.pq.nbits)
    ours.training = deepq.TrainConfig(epochs=2)
    for index in (ours, its):
        index.train(X)
        index.add(X)
    assert np.mean(ours.search(X, 1)[1] == np.arange(600)[:, None]) > 0.3


def test_cosine_and_recipes():
    assert members(index_factory(16, "PQ4", "cosine")) == [Normalize, Identity]
    index = index_factory((3, 32, 32), "DQN24")
    assert (index.d, index.pq.M * index.pq.nbits) == (3072, 24)
    index = index_factory(16, "DSH12x4")
    assert (index.d, index.pq.M, index.pq.nbits) == (16, 3, 4)


@pytest.mark.parametrize(
    "text",
    ["", "Flat", "PQ", "PQ0", "PQ4,", "PQ4 ", "ivf8,PQ4", "PQ4,IVF8", "PQ4x4fs", "DQN", "PQ4+8"],
)
def test_other_texts(text):
    with pytest.raises(ValueError, match=r"expected a description such as .*, got"):
        index_factory(16, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OPQ8,PQ4", "expected OPQ4 before PQ4"),
        ("PQ5", "M to divide"),
        ("Pad8,PQ4", "Pad of at least d = 16, got 8"),
        ("PQ4x99", "nbits"),
        ("IMI2x99,PQ4", "IMI2x12 at most"),
    ],
)
def test_numbers_that_do_not_fit(text, words):
    with pytest.raises(ValueError, match=words):
        index_factory(16, text)


def test_other_arguments():
    with pytest.raises(TypeError, match="expected a description, got int"):
        index_factory(16, 4)
    with pytest.raises(ValueError, match='or "cosine", got'):
        index_factory(16, "PQ4", "l2")
    with pytest.raises(ValueError, match="expected metric L2 with DSH32"):
        index_factory(16, "DSH32", "cosine")
