"""Searches of an index with a decoder: a short list by the tables, ranked anew."""

from __future__ import annotations

import copy

import faiss
import numpy as np
import pytest

import deepq
from deepq.quantizers import reranking

from .builders import IP, L2, RERANK, WORST, XB, XQ, M, check, empty, few, filled, tables


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


@pytest.mark.parametrize("at_a_time", [1, 1 << 12, 1 << 22])
def test_the_number_of_threads_does_not_show(index, at_a_time, monkeypatch) -> None:
    monkeypatch.setattr(reranking, "_NUMBERS", at_a_time)
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
