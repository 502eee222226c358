"""Indexes with additive codes: their files, copies and composites, and what plain faiss answers."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.decoders import AdditiveDecoder
from deepq.quantizers import unpack
from deepq.training import fitting, stages

D, M = 12, 4
ROWS, QUERIES, K = 900, 25, 6


def vectors(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((D, D))
    return (rng.standard_normal((n, D)) @ mix + 3).astype(np.float32)


X, Q = vectors(ROWS, 1), vectors(QUERIES, 2)


@pytest.fixture(scope="module", params=[1, 0, "cosine"], ids=["l2", "ip", "cosine"])
def index(request):
    with pytest.MonkeyPatch.context() as patch:
        made = untrained(patch, request.param)
        made.train(X)
    assert isinstance(made.product_quantizer.decoder, AdditiveDecoder)
    made.add(X)
    return made


def untrained(patch: pytest.MonkeyPatch, metric: Any = 1) -> deepq.DeepQuantIndex:
    """An index whose training will make additive codes."""
    patch.setattr(fitting, "pays", lambda *_: True)
    patch.setattr(fitting, "_SPARES", ())
    patch.setattr(fitting, "_HOPE", 1.0)
    patch.setattr(stages.Stages, "learn_decoder", lambda _: None)
    config = deepq.TrainConfig(epochs=3, validation=0.25)
    return deepq.DeepQuantIndex(D, M, 4, metric, rerank=50, training=config)


def decoded(index: Any) -> tuple[np.ndarray, np.ndarray]:
    """What its codes and the queries are compared as."""
    coder = index.product_quantizer.decoder
    words = unpack(np.concatenate(list(index.code_blocks())), M, 4)
    return coder.level(coder.decode(words)), coder.narrow(index.encoder.encode(Q))


def test_results_are_ranked_by_decoded_vectors(index) -> None:
    z, q = decoded(index)
    D_, I = index.search(Q, K)
    if index.metric_type == faiss.METRIC_L2:
        all_scores = np.square(q[:, None] - z).sum(axis=2)
    else:
        all_scores = q @ z.T
    np.testing.assert_allclose(D_, np.take_along_axis(all_scores, I, 1), rtol=1e-3, atol=1e-3)
    sign = 1 if index.metric_type == faiss.METRIC_L2 else -1
    _, whole = index.search(Q, K, params=deepq.SearchParameters(rerank=ROWS))
    best = np.sort(sign * all_scores, axis=1)[:, :K]
    got = np.sort(sign * np.take_along_axis(all_scores, whole, 1), axis=1)
    np.testing.assert_allclose(got, best, rtol=1e-3, atol=1e-3)


def test_few_are_decoded_where_that_is_set(index) -> None:
    coder = index.product_quantizer.decoder
    assert coder.spare == 0
    spared = copy.copy(index)
    spare = 35 if coder.levelling else 10  # sums of summands do not know of other lengths
    spared.product_quantizer.decoder = coder.with_settings(spare=spare)
    spared._decoded._keeps = False
    np.testing.assert_allclose(spared.search(Q, K)[0], index.search(Q, K)[0], rtol=1e-3, atol=1e-3)


def test_plain_faiss_answers_from_the_tables(index, tmp_path) -> None:
    tables = index.search(Q, K, params=deepq.SearchParameters(rerank=0))
    faiss.write_index(index, str(tmp_path / "i.faiss"))
    plain = faiss.read_index(str(tmp_path / "i.faiss"))
    assert type(plain) is faiss.IndexPreTransform
    np.testing.assert_allclose(plain.search(Q, K)[0], tables[0], rtol=1e-4, atol=1e-3)
    back = deepq.from_faiss(plain)
    assert back.fingerprint == index.fingerprint
    assert_same_results(back, index)


def test_what_plain_faiss_adds_is_near(index) -> None:
    plain = deepq.to_faiss(index)
    plain.reset()
    plain.add(X)
    back = deepq.from_faiss(plain)
    error = np.square(back.reconstruct_n() - rows_of(index)).sum(axis=1).mean()
    assert error < 0.9 * np.square(rows_of(index) - rows_of(index).mean(axis=0)).sum(axis=1).mean()


def rows_of(index: Any) -> np.ndarray:
    """What reconstructions are near to."""
    cosine = isinstance(index.encoder.members[0], deepq.encoders.Normalize)
    return X / np.linalg.norm(X, axis=1, keepdims=True) if cosine else X


def assert_same_results(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.search(Q, K)[1], b.search(Q, K)[1])
    np.testing.assert_array_equal(a.search(Q, K)[0], b.search(Q, K)[0])


@pytest.mark.parametrize("way", ["pickle", "copy", "file", "mapped"])
def test_copies_and_files(way, index, tmp_path) -> None:
    if way == "pickle":
        other = pickle.loads(pickle.dumps(index))
    elif way == "copy":
        other = copy.deepcopy(index)
    else:
        deepq.write_index(index, tmp_path / "i")
        other = deepq.read_index(tmp_path / "i", **({"mmap": True} if way == "mapped" else {}))
    assert other.fingerprint == index.fingerprint
    assert_same_results(other, index)


def test_codes_say_what_is_stored(index) -> None:
    codes = index.sa_encode(X[:40])
    np.testing.assert_array_equal(codes, next(index.code_blocks(40)))
    np.testing.assert_allclose(index.sa_decode(codes), index.reconstruct_n(0, 40), rtol=1e-6)
    lost = np.square(index.reconstruct_n() - rows_of(index)).sum()
    assert lost < 0.5 * np.square(rows_of(index) - rows_of(index).mean(axis=0)).sum()


def test_merging_and_empty_copies(index) -> None:
    left, right = index.copy_empty(), index.copy_empty()
    left.add(X[:500])
    right.add(X[500:])
    left.merge_from(right)
    assert_same_results(left, index)


def test_range_search_is_by_the_tables(index) -> None:
    scores = index.search(Q[:3], ROWS, params=deepq.SearchParameters(rerank=0))[0]
    limit = float(scores[0, 9])
    better = scores < limit if index.metric_type == faiss.METRIC_L2 else scores > limit
    assert index.range_search(Q[:3], limit)[0].tolist() == [0, *np.cumsum(better.sum(axis=1))]


def test_a_composite_trains_it_where_it_is(monkeypatch) -> None:
    inside = untrained(monkeypatch)
    mapped = faiss.IndexIDMap2(inside)
    mapped.train(X)
    assert isinstance(inside.product_quantizer.decoder, AdditiveDecoder)
    mapped.add_with_ids(X, np.arange(ROWS) + 1000)
    _, I = mapped.search(Q, K)
    np.testing.assert_array_equal(I - 1000, inside.search(Q, K)[1])
    inside.reset()
    inside.rerank = 0
    inside.train(X)
    assert inside.encoder.d_out == D
    inside.add(X)
    assert (mapped.index.search(Q, K)[1] == inside.search(Q, K)[1]).all()


def test_other_codewords_end_it(index) -> None:
    other = copy.deepcopy(index)
    books = faiss.vector_to_array(other.pq.centroids)
    faiss.copy_array_to_vector(books * 2, other.pq.centroids)
    assert other.product_quantizer.decoder is None
    assert other.search(Q, K)[1].shape == (QUERIES, K)
