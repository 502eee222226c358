"""Codes of an index with a decoder: added, edited, merged, decoded once and kept."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq.decoders import Decoder
from deepq.quantizers import reranking

from .builders import (
    L2,
    RERANK,
    XB,
    XQ,
    XT,
    D,
    M,
    assert_same,
    check,
    empty,
    exact,
    few,
    filled,
    parts,
    tables,
)


def test_adding_in_pieces_is_adding_at_once(index) -> None:
    pieces = empty(
        "cosine" if isinstance(index.encoder, encoders.Chain) else index.metric_type,
        index.quantizer.nbits,
    )
    for first, last in ((0, 1), (1, 130), (130, 131), (131, 600)):
        pieces.add(XB[first:last])
    codes = faiss.vector_to_array(index.codes).reshape(len(XB), -1)
    np.testing.assert_array_equal(faiss.vector_to_array(pieces.codes).reshape(len(XB), -1), codes)
    np.testing.assert_array_equal(index.sa_encode(XB), codes)
    np.testing.assert_array_equal(index.quantizer.encode(index.encoder.encode(XB)), codes)


def test_adding_nothing() -> None:
    index = filled()
    index.add(XB[:0])
    assert index.ntotal == len(XB)
    assert index.sa_encode(XB[:0]).shape == (0, 2)
    assert index.sa_decode(np.empty((0, 2), np.uint8)).shape == (0, D)
    assert index.reconstruct_n(0, 0).shape == (0, D)


def test_codes_of_the_decoder_are_nearer_than_nearest_codes() -> None:
    index = filled()
    quantizer, z = index.quantizer, index.encoder.encode(XB)

    def error(words: np.ndarray) -> float:
        decoded = quantizer.decoder.with_settings(shrink=1.0).decode(words)
        return float(np.square(z - decoded).sum())

    assert error(quantizer.choose(z)) < error(quantizer.decoder.nearest(z)[:, :, 0])


def test_removing_and_permuting_keep_the_decoder(metric) -> None:
    index, whole = filled(metric), filled(metric).reconstruct_n()
    gone = few(200)
    kept = np.setdiff1d(np.arange(len(XB)), gone)
    assert index.remove_ids(gone) == 200
    np.testing.assert_allclose(index.reconstruct_n(), whole[kept], rtol=1e-3, atol=1e-5)
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])
    order = np.random.default_rng(0).permutation(index.ntotal)
    index.permute_entries(order)
    np.testing.assert_allclose(index.reconstruct_n(), whole[kept][order], rtol=1e-3, atol=1e-5)
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])
    index.reset()
    index.add(XB)
    assert_same(filled(metric), index)


@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_decoded_vectors_that_are_kept_follow_the_codes(monkeypatch, kept) -> None:
    monkeypatch.setattr(reranking, "_NUMBERS_KEPT", kept)
    index = filled()

    def check_against_a_new_one() -> None:
        new = empty()
        new.add_sa_codes(faiss.vector_to_array(index.codes).reshape(index.ntotal, -1))
        (D1, I1), (D2, I2) = index.search(XQ, 10), new.search(XQ, 10)
        np.testing.assert_array_equal(I1, I2)
        np.testing.assert_allclose(D1, D2, rtol=1e-5)

    check_against_a_new_one()
    index.permute_entries(np.random.default_rng(0).permutation(index.ntotal))
    check_against_a_new_one()
    index.remove_ids(np.arange(0, 300, 3))
    check_against_a_new_one()
    for row in XT[:40]:
        index.add(row[None])
    check_against_a_new_one()
    index.reset()
    faiss.IndexIDMap(index).add_with_ids(XT[:500], np.arange(500))  # by C++ code
    check_against_a_new_one()


def test_what_was_searched_before_does_not_show() -> None:
    warm, cold = filled(), filled()
    for query in XQ:
        warm.search(query[None], 3)
    (D1, I1), (D2, I2) = warm.search(XQ, 10), cold.search(XQ, 10)
    np.testing.assert_allclose(D1, D2, rtol=1e-5)
    np.testing.assert_array_equal(I1, I2)


def test_a_search_that_is_stopped_while_it_decodes_does_no_harm(monkeypatch) -> None:
    index, decode = filled(), Decoder.decode

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Decoder, "decode", stopped)
    with pytest.raises(KeyboardInterrupt):
        index.search(XQ, 10)
    monkeypatch.setattr(Decoder, "decode", decode)
    np.testing.assert_allclose(index.search(XQ, 10)[0], filled().search(XQ, 10)[0], rtol=1e-5)


def test_settings_of_a_decoder_count_at_once() -> None:
    index = filled()
    before = index.search(XQ, 10)[0]
    index.quantizer.decoder.shrink = 0.5
    other = index.search(XQ, 10)[0]
    assert not np.array_equal(before, other)
    index.quantizer.decoder.shrink = 0.9
    np.testing.assert_allclose(index.search(XQ, 10)[0], before, rtol=1e-5)


def test_little_is_kept_and_nothing_for_many(monkeypatch) -> None:
    index = filled()
    monkeypatch.setattr(reranking, "_NUMBERS_KEPT", D * (index.ntotal + 1))
    index.add(XT[:1])
    index.search(XQ, 10)
    assert index._decoded._kept.vectors.size == D * index.ntotal
    index.add(XT[:1])
    index.search(XQ, 10)
    assert index._decoded._kept is None


def test_decoded_vectors_are_decoded_once(monkeypatch) -> None:
    index = filled()
    decoded = []
    decode = Decoder.decode
    monkeypatch.setattr(Decoder, "decode", lambda *a: decoded.append(len(a[1])) or decode(*a))
    D1, I1 = index.search(XQ, 10)
    assert sum(decoded) <= len(XQ) * RERANK
    decoded.clear()
    D2, I2 = index.search(XQ, 10)
    assert not decoded
    np.testing.assert_array_equal(D1, D2)
    np.testing.assert_array_equal(I1, I2)


def test_an_index_of_the_same_decoder_is_merged(metric) -> None:
    first, second = empty(metric), empty(metric)
    first.add(XB[:250])
    second.add(XB[250:])
    first.merge_from(second)
    assert second.ntotal == 0
    assert_same(filled(metric), first)
    second = pickle.loads(pickle.dumps(empty(metric)))
    second.add(XB[:10])
    first.merge_from(second)
    assert first.ntotal == len(XB) + 10


def with_parts(**changes: Any) -> deepq.DeepQuantIndex:
    encoder, quantizer = parts(L2, 4)
    quantizer = copy.copy(quantizer)
    for name, value in changes.items():
        setattr(quantizer, name, value)
    return deepq.DeepQuantIndex(D, M, 4, encoder=encoder, quantizer=quantizer, rerank=RERANK)


@pytest.mark.parametrize("what", ["no decoder", "other numbers", "other settings", "other sites"])
def test_merging_refuses_another_decoder(what) -> None:
    decoder = parts(L2, 4)[1].decoder
    arrays = {**decoder.arrays, "bias": decoder.arrays["bias"] + 1}
    sites = {**decoder.arrays, "sites": decoder.arrays["sites"] + 1}
    other = with_parts(
        **{
            "no decoder": {"decoder": None},
            "other numbers": {"decoder": Decoder(arrays, **decoder.settings)},
            "other settings": {"decoder": decoder.with_settings(shrink=0.8)},
            "other sites": {"decoder": Decoder(sites, **decoder.settings)},
        }[what]
    )
    other.add(XB[:20])
    index = filled()
    with pytest.raises(ValueError, match="expected an index with the same encoder and codebooks"):
        index.merge_from(other)
    assert (index.ntotal, other.ntotal) == (len(XB), 20)


def test_setting_codebooks_forgets_the_decoder(tmp_path) -> None:
    index = empty()
    books = 2 * np.array(index.codebooks)
    index.codebooks = books
    assert index.quantizer.decoder is None
    index.add(XB)
    np.testing.assert_array_equal(index.sa_encode(XB), deepq.to_faiss(index).sa_encode(XB))
    faiss.write_index(index, str(tmp_path / "i"))
    assert deepq.from_faiss(faiss.read_index(str(tmp_path / "i"))).quantizer.decoder is None


def write_centroids(index: deepq.DeepQuantIndex) -> np.ndarray:
    books = np.array(index.codebooks)[:, ::-1] + np.float32(0.25)
    faiss.copy_array_to_vector(np.ascontiguousarray(books).ravel(), index.pq.centroids)
    return books


def test_writing_other_centroids_forgets_the_decoder() -> None:
    index = empty()
    books = write_centroids(index)
    index.add(XB)
    assert index.quantizer.decoder is None
    np.testing.assert_array_equal(index.codebooks, books)
    np.testing.assert_array_equal(index.sa_encode(XB), deepq.to_faiss(index).sa_encode(XB))
    want = deepq.to_faiss(index).search(XQ, 5)[0]
    np.testing.assert_allclose(index.search(XQ, 5)[0], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(exact(index, XQ).min(axis=1), want[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", ["ours", "plain faiss"])
def test_a_forgotten_decoder_does_not_come_back(where) -> None:
    index = empty()
    if where == "ours":
        write_centroids(index)
        index.add(XB)
        plain = deepq.to_faiss(index)
    else:
        plain = deepq.to_faiss(index)
        inner = faiss.downcast_index(plain.index)
        books = faiss.vector_to_array(inner.pq.centroids) + np.float32(0.25)
        faiss.copy_array_to_vector(books, inner.pq.centroids)
        plain.add(XB)
    back = deepq.from_faiss(plain)
    assert back.quantizer.decoder is None
    np.testing.assert_allclose(back.search(XQ, 5)[0], plain.search(XQ, 5)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("nbits", [4, 3])
@pytest.mark.parametrize("is_trained", [True, False], ids=["trained", "untrained"])
def test_a_rotation_may_be_used_with_another_quantizer(nbits, is_trained) -> None:
    plain = deepq.to_faiss(empty())
    rotation = faiss.downcast_VectorTransform(plain.chain.at(0))
    other = faiss.IndexPreTransform(rotation, faiss.IndexPQ(D, M, nbits))
    if is_trained:
        other.train(XT)
        other.add(XB)
    back = deepq.from_faiss(other)
    assert back.quantizer.decoder is None
    if is_trained:
        want = other.search(XQ, 5)[0]
        np.testing.assert_allclose(back.search(XQ, 5)[0], want, rtol=1e-4, atol=1e-4)


def test_training_again_forgets_the_decoder() -> None:
    index = empty(rerank=0)
    index.training = deepq.TrainConfig(epochs=1, ranking=False, validation=0)
    index.train(XT)
    assert index.quantizer.decoder is None
    assert deepq.from_faiss(deepq.to_faiss(index)).quantizer.decoder is None
