"""An index with a decoder: what re-ranked searches give, and everything that carries it along."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq.decoders import Decoder
from deepq.quantizers import ProductQuantizer, reranking

D, M, RERANK = 16, 4, 20
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
WORST = {L2: np.finfo("f4").max, IP: np.finfo("f4").min}


def clustered(n: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((30, D))
    rng = np.random.default_rng(seed)
    x = (centres[rng.integers(30, size=n)] + 0.5 * rng.standard_normal((n, D))).astype("f4")
    x.flags.writeable = False
    return x


XT, XB, XQ = clustered(1000, 1), clustered(600, 2), clustered(15, 3)
TURN = np.linalg.qr(np.random.default_rng(4).standard_normal((D, D)))[0]


@cache
def parts(metric: Any, nbits: int) -> tuple[encoders.Encoder, ProductQuantizer]:
    """A rotation, and a quantizer whose codewords and decoder differ."""
    rng = np.random.default_rng(5)
    encoder: encoders.Encoder = encoders.Rotation.of(TURN)
    if metric == "cosine":
        encoder = encoders.Chain([encoders.Normalize(D), encoder])
    z = encoder.encode(XT)
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(z, iterations=3)
    books, scale = quantizer.trained(), float(z.std())
    tables = np.zeros((M, quantizer.ksub, M, D // M))
    tables[np.arange(M), :, np.arange(M)] = books
    shapes = {"features": (M, quantizer.ksub, 6), "inner": (6, 6), "bias": (6,), "outer": (6, 6)}
    numbers = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    numbers["tables"] = tables.reshape(M, quantizer.ksub, D)
    numbers["tables"] += 0.1 * scale * rng.standard_normal(numbers["tables"].shape)
    numbers["output"] = 0.2 * scale * rng.standard_normal((6, D))
    numbers["centre"], numbers["sites"] = z.mean(axis=0), books
    shrink = 0.9 if metric == L2 else 1.0
    quantizer.decoder = Decoder(numbers, shrink=shrink, candidates=4, sweeps=2)
    quantizer.share((0.9 * books + 0.02 * scale).astype(np.float32))
    return encoder, quantizer


def empty(metric: Any = L2, nbits: int = 4, rerank: int = RERANK) -> deepq.DeepQuantIndex:
    encoder, quantizer = parts(metric, nbits)
    number = IP if metric == "cosine" else metric
    return deepq.DeepQuantIndex(
        D, M, nbits, number, encoder=encoder, quantizer=quantizer, rerank=rerank
    )


def filled(metric: Any = L2, nbits: int = 4, rerank: int = RERANK) -> deepq.DeepQuantIndex:
    index = empty(metric, nbits, rerank)
    index.add(XB)
    return index


@pytest.fixture(params=[L2, IP, "cosine"], ids=["l2", "ip", "cosine"])
def metric(request):
    return request.param


@pytest.fixture(params=[4, 8])
def index(request, metric):
    return filled(metric, request.param)


def exact(index: deepq.DeepQuantIndex, x: np.ndarray) -> np.ndarray:
    """Scores (nq, ntotal) float64 of queries and reconstructions."""
    if isinstance(index.encoder, encoders.Chain):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    x, x_hat = x.astype(np.float64), index.reconstruct_n().astype(np.float64)
    if index.metric_type == IP:
        return x @ x_hat.T
    return np.square(x[:, None] - x_hat[None]).sum(axis=2)


def tables(count: int = 0, **settings: Any) -> deepq.SearchParameters:
    return deepq.SearchParameters(rerank=count, **settings)


def check(index: deepq.DeepQuantIndex, got: Any, short: np.ndarray, x: np.ndarray = XQ) -> None:
    """Hold (D, I) against a short list of ids (-1 at its end), ranked by reconstructions."""
    (D, I), right = got, exact(index, x)
    sign = -1 if index.metric_type == IP else 1
    k = D.shape[1]
    for i, ids in enumerate(short):
        ids = ids[ids >= 0]
        found = I[i, : len(ids)]
        assert (I[i, len(ids) :] == -1).all()
        assert (D[i, len(ids) :] == WORST[index.metric_type]).all()
        assert len(np.unique(found)) == len(found)
        assert set(found) <= set(ids)
        np.testing.assert_allclose(D[i, : len(found)], right[i, found], rtol=2e-4, atol=2e-4)
        want = np.sort(sign * right[i, ids])[:k]
        np.testing.assert_allclose(sign * D[i, : len(found)], want, rtol=2e-4, atol=2e-4)
        assert (np.diff(sign * D[i]) >= 0).all()


def assert_same_answers(a: Any, b: Any, *params: Any) -> None:
    for each in params or (None, tables(0), tables(50)):
        for got, want in zip(
            a.search(XQ, 7, params=each), b.search(XQ, 7, params=each), strict=True
        ):
            np.testing.assert_array_equal(got, want)


def assert_same(a: Any, b: Any) -> None:
    """The same training and codes: decoder and setting included."""
    assert (a.rerank, a.ntotal) == (b.rerank, b.ntotal)
    assert b.quantizer.decoder is not None
    assert a.quantizer.decoder.settings == b.quantizer.decoder.settings
    for name, array in a.quantizer.decoder.arrays.items():
        np.testing.assert_array_equal(array, b.quantizer.decoder.arrays[name])
    np.testing.assert_array_equal(a.codebooks, b.codebooks)
    np.testing.assert_array_equal(a.reconstruct_n(), b.reconstruct_n())
    np.testing.assert_array_equal(a.sa_encode(XQ), b.sa_encode(XQ))
    assert_same_answers(a, b)


# ---- search --------------------------------------------------------------------------------------


def test_the_scene_has_what_it_is_to_test() -> None:
    index = filled()
    assert (index.search(XQ, 5)[1] != index.search(XQ, 5, params=tables())[1]).any()
    codewords = index.quantizer.gather(index.quantizer.choose(index.encoder.encode(XB)))
    assert not np.allclose(index.encoder.decode(codewords), index.reconstruct_n(), atol=1e-2)
    assert (index.sa_encode(XB) != deepq.to_faiss(index).sa_encode(XB)).any()


@pytest.mark.parametrize("k", [1, 7, RERANK])
def test_the_short_list_is_ranked_by_distances_to_reconstructions(index, k) -> None:
    short = index.search(XQ, RERANK, params=tables())[1]
    check(index, index.search(XQ, k), short)


@pytest.mark.parametrize("k", [RERANK + 1, 100])
def test_more_results_than_are_to_be_ranked_are_all_ranked(index, k) -> None:
    short = index.search(XQ, k, params=tables())[1]
    check(index, index.search(XQ, k), short)


def test_without_re_ranking_the_answers_are_those_of_plain_faiss(index) -> None:
    D, I = index.search(XQ, 30, params=tables())
    wantD, wantI = deepq.to_faiss(index).search(XQ, 40)
    tolerance = 2e-5 * np.abs(wantD).max()
    np.testing.assert_allclose(D, wantD[:, :30], rtol=0, atol=tolerance)
    for d, ids, right in zip(D, I, wantI, strict=True):
        distinct = np.flatnonzero(np.abs(np.diff(d[:-1])) > 4 * tolerance)
        assert set(ids[:-1]) - set(right) == set() or len(distinct) < 20
    index.rerank = 0
    np.testing.assert_array_equal(index.search(XQ, 30), (D, I))


def test_counts_of_the_index_and_of_a_call_are_obeyed(index) -> None:
    for count in (1, 3, 40, 10_000):
        short = index.search(XQ, min(max(count, 5), len(XB)), params=tables())[1]
        by_call = index.search(XQ, 5, params=tables(count))
        check(index, by_call, short)
        other = copy.deepcopy(index)
        other.rerank = count
        np.testing.assert_array_equal(other.search(XQ, 5), by_call)
        plain = deepq.SearchParameters()  # which leaves it to the index
        np.testing.assert_array_equal(other.search(XQ, 5, params=plain), by_call)
        plain = faiss.SearchParameters()
        np.testing.assert_array_equal(other.search(XQ, 5, params=plain), by_call)
    assert index.rerank == RERANK


def test_a_call_may_re_rank_where_the_index_does_not(index) -> None:
    want = index.search(XQ, 5)
    index.rerank = 0
    assert not np.array_equal(index.search(XQ, 5)[0], want[0])
    np.testing.assert_array_equal(index.search(XQ, 5, params=tables(RERANK)), want)


@pytest.mark.parametrize("rerank", [0, 2, 20, 5000])
def test_beyond_what_is_stored_there_is_padding(metric, rerank) -> None:
    index = empty(metric, rerank=rerank)
    index.add(XB[:9])
    D, I = index.search(XQ, 14)
    assert (I[:, 9:] == -1).all()
    assert (D[:, 9:] == WORST[index.metric_type]).all()
    np.testing.assert_array_equal(np.sort(I[:, :9], axis=1), np.broadcast_to(np.arange(9), (15, 9)))
    if rerank:
        check(index, (D, I), np.broadcast_to(np.arange(9), (15, 9)))


def test_an_empty_index_finds_nothing(metric) -> None:
    D, I = empty(metric).search(XQ, 3)
    assert (I == -1).all()
    np.testing.assert_array_equal(D, WORST[L2 if metric == L2 else IP])


def few(n: int) -> np.ndarray:
    return np.sort(np.random.default_rng(6).choice(len(XB), n, replace=False))


SELECTORS = {
    "ids": lambda ids: ids,
    "mask": lambda ids: np.isin(np.arange(len(XB)), ids),
    "batch": faiss.IDSelectorBatch,
    "not": lambda ids: faiss.IDSelectorNot(
        faiss.IDSelectorBatch(np.setdiff1d(np.arange(len(XB)), ids))
    ),
}


@pytest.mark.parametrize("make", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("n", [1, 8, 60, 500])
def test_only_selected_vectors_are_found_and_ranked(metric, make, n) -> None:
    index, ids = filled(metric), few(n)
    sel = make(ids)
    short = index.search(XQ, RERANK, params=tables(0, sel=sel))[1]
    assert set(short.ravel()) - {-1} <= set(ids)
    check(index, index.search(XQ, 5, params=deepq.SearchParameters(sel=sel)), short)
    one = index.search(XQ[:1], 5, params=deepq.SearchParameters(sel=sel))
    check(index, one, short[:1], XQ[:1])


@pytest.mark.parametrize(
    "sel",
    [np.empty(0, np.int64), np.zeros(len(XB), bool), faiss.IDSelectorRange(7, 7), np.array([-5])],
    ids=["no ids", "mask", "range", "unknown id"],
)
def test_where_nothing_is_selected_nothing_is_found(metric, sel) -> None:
    index = filled(metric)
    D, I = index.search(XQ, 3, params=deepq.SearchParameters(sel=sel))
    assert (I == -1).all()
    np.testing.assert_array_equal(D, WORST[index.metric_type])


def test_a_range_of_ids_is_searched(metric) -> None:
    index = filled(metric)
    sel = faiss.IDSelectorRange(100, 130)
    short = index.search(XQ, RERANK, params=tables(0, sel=sel))[1]
    check(index, index.search(XQ, 5, params=deepq.SearchParameters(sel=sel)), short)
    assert short.min() >= 100


@pytest.mark.parametrize("k", [3, 40])
def test_queries_that_are_not_finite_find_nothing_and_do_no_harm(index, k) -> None:
    x = XQ.copy()
    x[[0, 4, 14], [1, 2, 3]] = np.nan, np.inf, np.nan
    D, I = index.search(x, k)
    bad = [0, 4, 14]
    assert (I[bad] == -1).all()
    assert (D[bad] == WORST[index.metric_type]).all()
    good = np.setdiff1d(np.arange(15), bad)
    np.testing.assert_array_equal((D[good], I[good]), index.search(x[good], k))
    D, I = index.search(np.full((2, 16), np.nan, np.float32), k)
    assert (I == -1).all()


def test_no_queries(index) -> None:
    D, I = index.search(XQ[:0], 5)
    assert (D.shape, I.shape, D.dtype, I.dtype) == ((0, 5), (0, 5), np.float32, np.int64)


@pytest.mark.parametrize("k", [5, 20, 40])
def test_results_go_where_the_caller_says(index, k) -> None:
    want = index.search(XQ, k)
    D, I = np.empty((15, k), np.float32), np.empty((15, k), np.int64)
    got = index.search(XQ, k, D=D, I=I)
    assert got[0] is D
    assert got[1] is I
    np.testing.assert_array_equal(got, want)


def test_queries_do_not_depend_on_each_other(index) -> None:
    whole = index.search(XQ, 6)
    alone = [index.search(XQ[i : i + 1], 6) for i in range(15)]
    np.testing.assert_array_equal(np.concatenate([I for _, I in alone]), whole[1])
    np.testing.assert_allclose(
        np.concatenate([D for D, _ in alone]), whole[0], rtol=1e-4, atol=1e-5
    )


def test_the_number_of_threads_does_not_show(index) -> None:
    queries = np.tile(XQ, (40, 1))
    one = index.search(queries, 5, params=deepq.SearchParameters(num_threads=1))
    two = index.search(queries, 5, params=deepq.SearchParameters(num_threads=2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("copies", [2, 3, 5, 17, 129])
def test_equal_codes_come_in_the_order_of_their_ids(metric, copies) -> None:
    index = empty(metric)
    index.add(np.repeat(XB[:3], copies, axis=0))
    D, I = index.search(XQ, 3 * copies)
    for row, scores in zip(I.reshape(-1, 3, copies), D.reshape(-1, 3, copies), strict=True):
        assert (np.diff(row, axis=1) == 1).all()
        assert (scores == scores[:, :1]).all()


def test_found_vectors_are_reconstructed_by_the_decoder(index) -> None:
    D, I, R = index.search_and_reconstruct(XQ, 6)
    np.testing.assert_array_equal((D, I), index.search(XQ, 6))
    want = index.reconstruct_n()
    np.testing.assert_allclose(R, want[I], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(index.reconstruct(3), want[3], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(index.sa_decode(index.sa_encode(XB)), want)


def test_assign_and_range_search_use_the_tables(index) -> None:
    D, I = index.search(XQ, 30, params=tables())
    np.testing.assert_array_equal(index.assign(XQ, 30), I)
    edge = float(np.median(D))
    lims, found, ids = index.range_search(XQ, edge)
    bare = copy.deepcopy(index)
    bare.rerank = 0
    for got, want in zip((lims, found, ids), bare.range_search(XQ, edge), strict=True):
        np.testing.assert_array_equal(got, want)
    sign = 1 if index.metric_type == L2 else -1
    better = sign * (D - edge) < 0
    for i in range(15):
        part = slice(int(lims[i]), int(lims[i + 1]))
        assert set(I[i, better[i]]) <= set(ids[part])


def test_other_modes_do_not_re_rank() -> None:
    index = filled(L2, 8)
    index.search_type, index.polysemous_ht = index.ST_polysemous, M * 8 + 1
    want = deepq.to_faiss(index).search(XQ, 5)
    np.testing.assert_allclose(index.search(XQ, 5)[0], want[0], rtol=1e-5)


def test_without_a_decoder_the_count_has_no_effect() -> None:
    index = empty()
    index.codebooks = index.codebooks
    assert index.quantizer.decoder is None
    index.add(XB)
    want = index.search(XQ, 5, params=tables())
    np.testing.assert_array_equal(index.search(XQ, 5), want)
    np.testing.assert_array_equal(index.search(XQ, 5, params=tables(100)), want)


@pytest.mark.parametrize("value", [-1, 1.5, "20", None])
def test_a_count_that_is_none_is_refused(value) -> None:
    index = filled()
    with pytest.raises((ValueError, TypeError), match=r"expected rerank .*got"):
        index.rerank = value
    assert index.rerank == RERANK
    with pytest.raises((ValueError, TypeError), match=r"expected rerank .*got"):
        empty(rerank=value)
    if value is not None:
        with pytest.raises((ValueError, TypeError), match=r"expected rerank .*got"):
            deepq.SearchParameters(rerank=value)


# ---- codes ---------------------------------------------------------------------------------------


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


# ---- faiss's composites --------------------------------------------------------------------------


def assert_found(
    got: Any, index: deepq.DeepQuantIndex, x: np.ndarray = XQ, ids: Any = None
) -> None:
    """Hold a composite's answer against the tables of an index with the same codes."""
    D, I = index.search(x, got[0].shape[1], params=tables())
    np.testing.assert_allclose(got[0], D, rtol=2e-5, atol=1e-4)
    right = I if ids is None else ids[I]
    apart = np.ones(D.shape, bool)  # where scores are not nearly equal to a neighbour's
    near = np.abs(np.diff(D, axis=1)) < 1e-3
    apart[:, 1:][near] = apart[:, :-1][near] = apart[:, -1] = False
    assert apart.any()
    np.testing.assert_array_equal(got[1][apart], right[apart])


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_id_map_answers_as_the_tables_do(metric, composite) -> None:
    inside, ids = empty(metric, 8), np.arange(len(XB)) * 3 + 100
    mapped = composite(inside)
    mapped.add_with_ids(XB, ids)
    assert_found(mapped.search(XQ, 5), inside, ids=ids)
    check(inside, inside.search(XQ, 5), inside.search(XQ, RERANK, params=tables())[1])
    gc.collect()
    if composite is faiss.IndexIDMap2 and metric != "cosine":
        assert mapped.reconstruct(100).shape == (D,)


@pytest.mark.parametrize("threaded", [False, True], ids=["serial", "threaded"])
def test_shards_answer_as_the_tables_do(metric, threaded) -> None:
    shards = faiss.IndexShards(D, threaded, True)
    for part in (XB[:150], XB[150:]):
        shard = empty(metric, 8)
        shard.add(part)
        shards.add_shard(shard)
    assert_found(shards.search(XQ, 5), filled(metric, 8))


def test_a_transform_in_front_answers_as_the_tables_do(metric) -> None:
    turn = faiss.RandomRotationMatrix(D, D)
    turn.init(5)
    inside = empty(metric, 8)
    outer = faiss.IndexPreTransform(turn, inside)
    inside.add(turn.apply(XB))
    assert_found(outer.search(XQ, 5), inside, turn.apply(XQ))


def test_codes_that_composites_add_are_read_by_the_decoder(metric) -> None:
    index = empty(metric)
    mapped = faiss.IndexIDMap2(index)
    mapped.add_with_ids(XB, np.arange(len(XB)))
    words = index.quantizer.assign(index.encoder.encode(XB))  # nearest codewords
    decoded = index.encoder.decode(index.quantizer.decoder.decode(words))
    np.testing.assert_allclose(index.reconstruct_n(), decoded, rtol=1e-4, atol=1e-4)
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])


# ---- copies and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(index, protocol) -> None:
    assert_same(index, pickle.loads(pickle.dumps(index, protocol)))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_live_by_themselves(index, make) -> None:
    twin = make(index)
    assert_same(index, twin)
    twin.rerank = 0
    twin.reset()
    twin.codebooks = np.zeros_like(twin.codebooks)
    assert index.rerank == RERANK
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])


@pytest.mark.parametrize("kind", ["path", "file"])
def test_files(index, kind, tmp_path) -> None:
    path = tmp_path / "i.dpq"
    if kind == "path":
        deepq.write_index(index, path)
        back = deepq.read_index(path)
    else:
        with path.open("wb") as file:
            deepq.write_index(index, file)
        with path.open("rb") as file:
            back = deepq.read_index(file)
    assert_same(index, back)
    back.add(XQ)
    index.add(XQ)
    assert_same(index, back)


def test_damaged_files_are_refused(tmp_path) -> None:
    deepq.write_index(filled(), tmp_path / "i")
    content = (tmp_path / "i").read_bytes()
    for at in range(0, len(content), 997):
        damaged = bytearray(content)
        damaged[at] ^= 0x5A
        (tmp_path / "i").write_bytes(damaged)
        try:
            back = deepq.read_index(tmp_path / "i")
        except deepq.FormatError:
            continue
        assert_same(filled(), back)  # a byte of padding


def through_file(index: Any, folder: Path) -> Any:
    faiss.write_index(index, str(folder / "i"))
    return faiss.read_index(str(folder / "i"))


ROUTES = {
    "file": through_file,
    "bytes": lambda index, _: faiss.deserialize_index(faiss.serialize_index(index)),
    "to_faiss": lambda index, _: deepq.to_faiss(index),
    "clone": lambda index, _: faiss.clone_index(index),
    "itself": lambda index, _: index,
    "handle": lambda index, _: faiss.downcast_index(index),
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_plain_faiss_takes_the_decoder_along(index, route, tmp_path) -> None:
    if route is ROUTES["clone"] and isinstance(index.encoder, encoders.Chain):
        pytest.skip("faiss cannot clone a NormalizationTransform")
    plain = route(index, tmp_path)
    assert_same(index, deepq.from_faiss(plain))
    again = deepq.from_faiss(ROUTES["bytes"](deepq.from_faiss(plain), tmp_path))
    assert_same(index, again)


def test_the_count_set_last_goes_along(tmp_path) -> None:
    index = filled()
    index.rerank = 7
    assert deepq.from_faiss(through_file(index, tmp_path)).rerank == 7
    assert pickle.loads(pickle.dumps(index)).rerank == 7
    deepq.write_index(index, tmp_path / "j")
    assert deepq.read_index(tmp_path / "j").rerank == 7


def test_an_untrained_index_keeps_its_count(tmp_path) -> None:
    index = deepq.DeepQuantIndex(D, M, 4, rerank=9)
    deepq.write_index(index, tmp_path / "i")
    for twin in (deepq.read_index(tmp_path / "i"), copy.deepcopy(index)):
        assert (twin.rerank, twin.is_trained) == (9, False)


# Where the encoder's transforms have no place (no transform, or one with an offset), faiss's files
# cannot take the decoder along. Known, and what comes back must then be right by its codewords.
@pytest.mark.parametrize(
    "encoder", [encoders.Identity(D), encoders.Affine(TURN, np.ones(D))], ids=["none", "offset"]
)
def test_without_a_place_for_it_codewords_are_left(encoder, tmp_path) -> None:
    index = deepq.DeepQuantIndex(D, M, 4, encoder=encoder, quantizer=parts(L2, 4)[1], rerank=20)
    index.add(XB)
    assert_same(index, copy.deepcopy(index))
    deepq.write_index(index, tmp_path / "j")
    assert_same(index, deepq.read_index(tmp_path / "j"))
    back = deepq.from_faiss(through_file(index, tmp_path))
    assert back.quantizer.decoder is None
    want = index.search(XQ, 5, params=tables())
    np.testing.assert_allclose(back.search(XQ, 5)[0], want[0], rtol=1e-4, atol=1e-4)


SCRIPT = """
import sys, faiss, numpy as np, deepq
x = np.load(sys.argv[1])
index = deepq.read_index(sys.argv[2])
assert index.quantizer.decoder is not None
index.add(x); index.search(x[:9], 3); index.reconstruct_n(); index.sa_encode(x)
deepq.write_index(index, sys.argv[3]); deepq.read_index(sys.argv[3]).search(x[:9], 3)
faiss.write_index(index, sys.argv[3])
back = deepq.from_faiss(faiss.read_index(sys.argv[3]))
assert back.quantizer.decoder is not None and back.rerank == index.rerank
np.testing.assert_array_equal(back.search(x[:9], 3), index.search(x[:9], 3))
sys.exit("torch" in sys.modules)
"""


def test_a_decoder_is_used_without_torch(tmp_path) -> None:
    np.save(tmp_path / "x.npy", XB)
    deepq.write_index(empty(), tmp_path / "i")
    names = [str(tmp_path / name) for name in ("x.npy", "i", "j")]
    subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True, env=dict(os.environ))
