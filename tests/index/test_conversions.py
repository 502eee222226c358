"""What other libraries make of an index: faiss's constructors that take an IndexPQ."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq

X = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)


def test_a_fast_scan_says_what_to_convert_and_that_works():
    index = deepq.DeepQuantIndex(32, 8, 4, training=deepq.TrainConfig(ranking=False, epochs=2))
    index.train(X)
    index.add(X)
    with pytest.raises(TypeError, match=r"plain = deepq.to_faiss\(index\)"):
        faiss.IndexPQFastScan(index)
    plain = deepq.to_faiss(index)
    fast = faiss.IndexPQFastScan(faiss.downcast_index(plain.index))
    found = fast.search(index.encoder.encode(X[:50]), 1)[1]
    assert (found == index.search(X[:50], 1)[1]).mean() > 0.8


def test_a_fast_scan_of_an_index_of_faiss_is_left_alone():
    plain = faiss.IndexPQ(32, 8, 4)
    plain.train(X)
    plain.add(X)
    assert faiss.IndexPQFastScan(plain).ntotal == len(X)
    assert faiss.IndexPQFastScan(32, 8, 4).d == 32
