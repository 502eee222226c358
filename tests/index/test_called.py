"""Training through faiss's composites is that of the index inside."""

from __future__ import annotations

import copy
import gc
import logging

import faiss
import numpy as np
import pytest

import deepq
from deepq.index import learned
from deepq.index.native import called
from deepq.training.trainer import fit

D = 16
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)
RNG = np.random.default_rng(0)
X = (RNG.standard_normal((900, 6)) @ RNG.standard_normal((6, D))).astype(np.float32)

COMPOSITES = {
    "IDMap2": faiss.IndexIDMap2,
    "RefineFlat": faiss.IndexRefineFlat,
    "PreTransform": lambda index: faiss.IndexPreTransform(index),
    "another around it": lambda index: faiss.IndexIDMap(faiss.IndexPreTransform(index)),
}


def made(**options) -> deepq.DeepQuantIndex:
    return deepq.DeepQuantIndex(D, 4, 4, training=PLAIN, **options)


def test_this_faiss_can_call_us():
    assert called.fault() == ""


@pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, "cosine"])
def test_the_same_codebooks_as_the_bare_index(composite, metric):
    inside, bare = made(metric=metric), made(metric=metric)
    composite(inside).train(X)
    bare.train(X)
    np.testing.assert_array_equal(inside.codebooks, bare.codebooks)
    np.testing.assert_array_equal(inside.sa_encode(X), bare.sa_encode(X))
    assert inside.history
    assert len(inside.history) == len(bare.history)


def test_copies_are_trained_too():
    first, bare = made(), made()
    bare.train(X)
    for inside in (copy.deepcopy(first), deepq.from_faiss(faiss.downcast_index(first))):
        inside.training = PLAIN
        faiss.IndexIDMap2(inside).train(X)
        np.testing.assert_array_equal(inside.codebooks, bare.codebooks)


def test_a_decoder_is_asked_for(monkeypatch):
    asked = []

    def watched(*args, decoder, **options):
        asked.append(decoder)
        return fit(*args, decoder=False, **options)

    monkeypatch.setattr(learned, "fit", watched)
    faiss.IndexIDMap2(made(rerank=20)).train(X)
    assert asked == [True]


def test_as_few_rows_are_enough_as_for_the_bare_index():
    mapped = faiss.IndexIDMap2(made())
    with pytest.raises(RuntimeError, match="at least 16 training vectors"):
        mapped.train(X[:15])
    assert not mapped.is_trained
    mapped.train(X[:16])
    assert mapped.is_trained


def test_as_the_quantizer_of_a_clustering():
    quantizer = made()
    inverted = faiss.IndexIVFFlat(quantizer, D, 20)
    inverted.cp.min_points_per_centroid = 1
    inverted.train(X)
    assert (quantizer.is_trained, quantizer.ntotal) == (True, 20)
    assert quantizer.history
    inverted.add(X)
    inverted.nprobe = 20
    assert (inverted.search(X[:9], 1)[1][:, 0] == np.arange(9)).all()


def test_a_trained_one_stays():
    inside = made()
    inside.train(X)
    before = inside.codebooks.copy()
    faiss.IndexIDMap2(inside).train(X * 3)
    np.testing.assert_array_equal(inside.codebooks, before)


def test_a_class_of_a_user_trains_in_its_way():
    class Halved(deepq.DeepQuantIndex):
        def train(self, x, y=None, **options):
            super().train(x[::2], y, **options)

    inside, bare = Halved(D, 4, 4, training=PLAIN), made()
    faiss.IndexIDMap2(inside).train(X)
    bare.train(X[::2])
    np.testing.assert_array_equal(inside.codebooks, bare.codebooks)


def test_the_chain_without_its_index_is_trained_by_faiss():
    index = made()
    chain = index._native.chain
    del index
    gc.collect()
    chain.train(X)
    assert chain.is_trained


def test_a_clone_of_an_untrained_index_is_trained_by_faiss():
    plain = faiss.clone_index(made())
    plain.train(X)
    plain.add(X)
    assert plain.search(X[:9], 1)[1].min() >= 0


def test_where_faiss_trains_it_is_said_once_seen(monkeypatch, caplog):
    monkeypatch.setattr(faiss, "__version__", "1.16.0")
    called.fault.cache_clear()
    try:
        inside = made(rerank=20)
        faiss.IndexIDMap2(inside).train(X)
        with caplog.at_level(logging.WARNING, "deepq.index"):
            inside.add(X)
            inside.search(X[:3], 1)
    finally:
        called.fault.cache_clear()
    assert caplog.text.count("got what faiss made of its encoder") == 1


def test_codebooks_that_somebody_writes_have_no_decoder_and_it_is_said(caplog):
    index = made(rerank=20)
    faiss.copy_array_to_vector(np.ones(16 * D, np.float32), index.pq.centroids)
    index.is_trained = True
    with caplog.at_level(logging.WARNING, "deepq.index"):
        index.add(X)
    assert "got no decoder" in caplog.text


def test_a_map_of_too_few_ids_is_not_asked():
    ids, every = faiss.Int64Vector(), faiss.IDSelectorAll()
    sel = faiss.IDSelectorTranslated(ids, every)
    faiss.copy_array_to_vector(np.array([7, 8]), ids)
    assert called.members(sel, 0, 2).tolist() == [3]
    assert called.members_of(sel, np.array([1, 0])).tolist() == [3]
    for call in (lambda: called.members(sel, 0, 3), lambda: called.members_of(sel, np.array([2]))):
        with pytest.raises(deepq.StateError, match="somebody has added to the index inside"):
            call()
