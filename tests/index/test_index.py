"""What DeepQuantIndex adds to the contract of IndexPQ, and mistakes it once made."""

from __future__ import annotations

import copy
import logging
import os
import pickle
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


def test_a_subclass_of_an_encoder_is_not_taken_for_its_parent():
    class Rooted(encoders.Affine):
        def encode(self, x):
            return super().encode(np.sign(x) * np.sqrt(np.abs(x)))

    index = deepq.DeepQuantIndex(16, 4, 4, encoder=Rooted(np.eye(16)))
    index.train(X)
    index.add(X[:500])
    oracle = deepq.DeepQuantIndex.from_codebooks(index.codebooks)
    oracle.add(np.sign(X[:500]) * np.sqrt(np.abs(X[:500])))
    rooted = np.sign(Q) * np.sqrt(np.abs(Q))
    np.testing.assert_array_equal(index.search(Q, 5), oracle.search(rooted, 5))
    with pytest.raises(TypeError, match="Rooted"):
        pickle.dumps(index)


def test_the_numbers_of_a_used_encoder_cannot_be_changed(index):
    given = deepq.DeepQuantIndex(16, 4, 4, encoder=encoders.Affine(np.eye(16), np.ones(16)))
    for encoder in (index.encoder, given.encoder, copy.deepcopy(given.encoder)):
        with pytest.raises(ValueError, match="read-only"):
            encoder.A[:] = np.eye(16)
    with pytest.raises(ValueError, match="read-only"):
        given.encoder.b[:] = 0


def test_codebooks_in_use_cannot_be_written_into(index):
    with pytest.raises(ValueError, match="read-only"):
        index.codebooks[0, 0, 0] = np.nan


def test_reserved_options_cannot_be_set(index):
    with pytest.raises(AttributeError):
        index.objective = 10


def test_training_settings_are_checked(index):
    with pytest.raises(TypeError, match="expected a TrainConfig"):
        index.training = 5
    with pytest.raises(TypeError, match="expected epochs to be an integer"):
        deepq.TrainConfig(epochs=2.5)
    assert type(deepq.TrainConfig(seed=np.int64(3)).seed) is int


def test_a_composite_does_not_train_a_filled_index_again():
    index = deepq.DeepQuantIndex(16, 4, 4, encoder=encoders.Identity(16))
    index.train(X)
    index.add(X[:500])
    before = index.search(Q, 5)
    replicas = faiss.IndexReplicas(16)
    replicas.add_replica(index)
    replicas.train(X[::-1] * 2)
    np.testing.assert_array_equal(index.search(Q, 5), before)


def test_raw_methods_know_what_a_composite_has_trained():
    quick = deepq.TrainConfig(epochs=1, ranking=False)
    index = deepq.DeepQuantIndex(16, 8, 8, training=quick)
    faiss.IndexIDMap2(index).train(X)
    index.add(X[:8])
    table = np.zeros((4, 8), np.int32)
    index.hamming_distance_table(4, faiss.swig_ptr(X), faiss.swig_ptr(table))
    assert not np.diag(table[:, :4]).any()


@pytest.mark.parametrize("call", ["train", "add", "sa_encode"])
def test_every_way_in_refuses_numbers_too_large(index, call):
    index.reset()
    with pytest.raises(ValueError, match="expected numbers up to"):
        getattr(index, call)(X * 1e25)


def test_settings_survive_a_copy_from_faiss(index):
    index.pq.cp.niter, index.pq.cp.seed = 7, 99
    index.metric_arg = 2.5
    copied = deepq.from_faiss(faiss.downcast_index(index))
    assert (copied.pq.cp.niter, copied.pq.cp.seed, copied.metric_arg) == (7, 99, 2.5)


OUTPUTS = """
import faiss, numpy as np, torch, faiss.contrib.torch_utils, deepq
x = torch.randn(500, 16)
index = deepq.DeepQuantIndex(16, 4, 4)
index.train(x); index.add(x)
D = torch.zeros(5, 3, dtype=torch.bfloat16)
found = index.search(x[:5], 3, D=D)[0]
assert found is D and bool((D > 0).any())
"""


def test_output_tensors_of_another_dtype_are_filled():
    pytest.importorskip("torch")
    subprocess.run([sys.executable, "-c", OUTPUTS], check=True)


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

    monkeypatch.setattr("deepq._scan.accumulate", interrupt)
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
    assert "rotation" in err
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
    measures = {"rotation": "error", "codebooks": "error", "order": "loss", "held out": "error"}
    assert {entry["stage"] for entry in index.history} == set(measures)
    assert all(entry[measures[entry["stage"]]] > 0 for entry in index.history)


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


def test_what_an_encoder_makes_nothing_of_is_not_added():
    class Logarithm(encoders.Encoder):
        def encode(self, x):
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.log(x)

    x = np.random.default_rng(0).uniform(1, 2, (300, 4)).astype(np.float32)
    index = deepq.DeepQuantIndex(4, 2, 4, encoder=Logarithm(4, 4))
    index.train(x)
    index.add(x)
    x[7, 2] = -1
    for use in (index.add, index.sa_encode):
        with pytest.raises(ValueError, match=r"finite numbers in embeddings, got .* in row 7$"):
            use(x)
    assert index.ntotal == 300
