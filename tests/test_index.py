"""What DeepQuantIndex adds to the contract of IndexPQ, and mistakes it once made."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders

X = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
Q = X[:12] + np.float32(0.1)


@pytest.fixture
def index():
    made = deepq.DeepQuantIndex(16, 4, 8, training=deepq.TrainConfig(epochs=3))
    made.train(X)
    made.add(X[:500])
    return made


def test_from_codebooks_is_trained_and_says_what_it_holds(index):
    made = deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder)
    assert made.is_trained
    np.testing.assert_array_equal(made.codebooks, index.codebooks)
    made.add(X[:500])
    np.testing.assert_array_equal(made.search(Q, 5), index.search(Q, 5))


def test_codebooks_and_codes_lie_once_in_the_faiss_object(index):
    assert np.shares_memory(index.codebooks, index.quantizer.codebooks)
    centroids = faiss.rev_swig_ptr(index.pq.centroids.data(), index.codebooks.size)
    assert np.shares_memory(centroids, index.codebooks)


def test_codebooks_outlive_the_index(index):
    books, kept = index.codebooks, index.codebooks.copy()
    del index
    np.testing.assert_array_equal(books, kept)


def test_codebooks_under_codes_cannot_be_replaced(index):
    before = faiss.serialize_index(index)
    with pytest.raises(RuntimeError, match="expected an empty index when codebooks are set"):
        index.codebooks = index.codebooks * 2
    np.testing.assert_array_equal(faiss.serialize_index(index), before)


def test_an_encoder_may_change_the_width():
    A = np.linalg.qr(np.random.default_rng(1).standard_normal((16, 16)))[0][:12]
    index = deepq.DeepQuantIndex(16, 3, encoder=encoders.Affine(A))
    index.train(X)
    index.add(X)
    assert (index.d, index.pq.d) == (16, 12)
    assert index.reconstruct(5).shape == (16,)


def test_symmetric_tables_follow_a_new_training(index):
    index.search_type = index.ST_SDC
    index.search(Q, 5)
    index.reset()
    index.train(X[::-1] * 2 + 1)
    index.add(X[:500])
    found = index.search(Q, 5)
    index.pq.compute_sdc_table()
    np.testing.assert_array_equal(found, index.search(Q, 5))


def test_an_encoder_that_faiss_cannot_express_is_refused():
    class Rooted(encoders.Affine):
        def encode(self, x):
            return super().encode(np.sign(x) * np.sqrt(np.abs(x)))

    with pytest.raises(TypeError, match="Rooted"):
        deepq.DeepQuantIndex(16, 4, encoder=Rooted(np.eye(16)))


def test_the_numbers_of_a_used_encoder_cannot_be_changed(index):
    with pytest.raises(ValueError, match="read-only"):
        index.encoder.A[:] = np.eye(16)


def test_training_through_a_composite_leaves_a_rotation(index):
    index.reset()
    bare = deepq.DeepQuantIndex(16, 4, 8)
    faiss.IndexIDMap2(bare).train(X)
    assert isinstance(bare.encoder, encoders.Rotation)
    bare.add(X[:500])
    np.testing.assert_array_equal(bare.search(Q, 5)[1], deepq.to_faiss(bare).search(Q, 5)[1])


def test_an_untrained_rotation_of_faiss_becomes_one_of_ours():
    index = deepq.from_faiss(
        faiss.IndexPreTransform(faiss.OPQMatrix(16, 4), faiss.IndexPQ(16, 4, 4))
    )
    assert not index.is_trained
    index.train(X)
    assert index.is_trained
    pca = faiss.IndexPreTransform(faiss.PCAMatrix(16, 8), faiss.IndexPQ(8, 4, 4))
    with pytest.raises(ValueError, match="expected trained transforms"):
        deepq.from_faiss(pca)


def test_numbers_too_large_for_distances_are_refused():
    index = deepq.DeepQuantIndex(16, 4, 4)
    with pytest.raises(ValueError, match="expected numbers up to"):
        index.train(X * 1e25)
    assert not index.is_trained


def test_interrupted_training_changes_nothing(index, monkeypatch):
    index.reset()
    before, history = faiss.serialize_index(index), index.history

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepq.quantizers._scan.accumulate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.train(X)
    np.testing.assert_array_equal(faiss.serialize_index(index), before)
    assert index.history == history


def test_progress_bars_are_shown_only_when_verbose(index, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    index.reset()
    index.train(X)
    index.add(X)
    assert capfd.readouterr() == ("", "")
    index.reset()
    index.verbose = True
    index.train(X)
    index.add(X)
    out, err = capfd.readouterr()
    assert not out
    assert "train" in err
    assert "encode" in err


def test_results_do_not_depend_on_the_number_of_threads(index):
    queries = np.tile(Q, (500, 1))
    usual = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        one = index.search(queries, 5)
        faiss.omp_set_num_threads(4)
        np.testing.assert_array_equal(index.search(queries, 5), one)
    finally:
        faiss.omp_set_num_threads(usual)


def test_history_tells_of_every_iteration(index):
    stages = {entry["stage"] for entry in index.history}
    assert stages == {"rotation", "codebooks"}
    assert all(entry["error"] > 0 for entry in index.history)


SCRIPT = """
import sys, numpy as np, deepq
x = np.load(sys.argv[1])
index = deepq.DeepQuantIndex(16, 4, 4)
index.train(x); index.add(x); index.search(x[:9], 3); index.reconstruct_n()
deepq.write_index(index, sys.argv[2]); deepq.read_index(sys.argv[2]).search(x[:9], 3)
sys.exit("torch" in sys.modules)
"""


def test_linear_encoders_search_and_files_never_import_torch(tmp_path):
    np.save(tmp_path / "x.npy", X)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "x.npy"), str(tmp_path / "i.dpq")]
    subprocess.run(command, check=True, env=dict(os.environ))
