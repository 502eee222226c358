"""Searches among cells with parameters of faiss's, in codes of any width."""

from __future__ import annotations

import contextlib

import faiss
import numpy as np
import pytest

import deepq

from .builders import DIM, EVERYWHERE, IP, L2, NLIST, XQ, M, X, assert_same_results, ours, plain

WIDTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("nbits", WIDTHS)
@pytest.mark.parametrize(("metric", "by_residual"), [(L2, True), (IP, True), (L2, False)])
def test_codes_of_any_width_are_searched(nbits, metric, by_residual):
    index, right = ours(nbits, metric, by_residual=by_residual), None
    right = plain(nbits, metric, by_residual=by_residual)
    assert_same_results(index.search(XQ, 6), right.search(XQ, 6))
    few = np.arange(0, len(X), 3)
    sel = faiss.IDSelectorBatch(few)
    params = faiss.SearchParametersIVF(sel=sel, nprobe=5)
    got = index.search(XQ, 6, params=params)
    assert (got[1] % 3 == 0).all()
    assert_same_results(got, right.search(XQ, 6, params=params))
    thresh = float(right.search(XQ, 9)[0][:, -1].mean())
    for each in (None, params):
        lims, _, I = index.range_search(XQ, thresh, params=each)
        theirs = right.range_search(XQ, thresh, params=each)
        assert abs(int(lims[-1]) - int(theirs[0][-1])) <= 2  # what lies at the very edge
        assert len(set(I.tolist()) ^ set(theirs[2].tolist())) <= 2
        for q in range(len(XQ)):
            assert (np.diff(I[int(lims[q]) : int(lims[q + 1])]) > 0).all()
    _, I, R = index.search_and_reconstruct(XQ, 3)
    np.testing.assert_allclose(R[2, 1], index.reconstruct(int(I[2, 1])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nbits", [4, 5])
def test_nothing_gives_nothing(nbits):
    index = ours(nbits)
    assert index.search(XQ[:0], 3)[1].shape == (0, 3)
    assert index.range_search(XQ[:0], 3.0)[0].tolist() == [0]
    index.reset()
    assert (index.search(XQ, 3)[1] == -1).all()
    assert index.range_search(XQ, 1e9)[0][-1] == 0
    nowhere = np.full((len(XQ), 2), -1)
    assert (index.search_preassigned(XQ, 3, nowhere, None)[1] == -1).all()
    spoiled = np.full((2, DIM), np.nan, np.float32)
    assert (index.search(spoiled, 3)[1] == -1).all()
    for each in (index, ours(nbits)):
        for none in (np.empty((len(XQ), 0), np.int64), nowhere):
            assert (each.search_preassigned(XQ, 3, none, None)[1] == -1).all()
            assert each.range_search_preassigned(XQ, 1e9, none, None)[0][-1] == 0
        params = deepq.SearchParameters(sel=np.empty(0, np.int64))
        assert (each.search(XQ, 3, params=params)[1] == -1).all()
        assert (each.search(XQ, 2000)[1][:, 1500:] == -1).all()


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nbits", [4, 5])
@pytest.mark.parametrize("most", [1, 40, 150, 400, 10**9])
@pytest.mark.parametrize("selected", [False, True])
def test_no_more_codes_are_scored_than_asked_for(nbits, most, selected):
    sel = faiss.IDSelectorBatch(np.arange(0, len(X), 3)) if selected else None
    params = faiss.SearchParametersIVF(nprobe=5, max_codes=most, sel=sel)
    index, right = ours(nbits), plain(nbits)
    for k in (4, 300):
        got, theirs = index.search(XQ, k, params=params), right.search(XQ, k, params=params)
        np.testing.assert_array_equal((got[1] >= 0).sum(axis=1), (theirs[1] >= 0).sum(axis=1))
        assert_same_results(got, theirs)


def test_the_index_has_a_limit_of_its_own():
    index, right = ours(), plain()
    for each in (index, right):
        each.max_codes = 60
    assert_same_results(index.search(XQ, 99), right.search(XQ, 99))
    kept = index.search(XQ, 99, params=deepq.SearchParameters(nprobe=2))
    assert ((kept[1] >= 0).sum(axis=1) == 60).all()
    params = faiss.SearchParametersIVF(nprobe=4)  # which brings no limit
    assert_same_results(index.search(XQ, 500, params=params), right.search(XQ, 500, params=params))
    assert index.range_search(XQ, 1e9)[0][-1] == right.range_search(XQ, 1e9)[0][-1]
    _, cells = index.quantizer.search(XQ, 4)
    assert_same_results(index.search_preassigned(XQ, 99, cells, None), right.search(XQ, 99))


@pytest.mark.skipif(
    not hasattr(faiss.SearchParametersIVF, "ensure_topk_full"), reason="came with faiss 1.15"
)
def test_a_limit_may_be_soft():
    index, right = ours(), plain()
    for most in (3, 80, 200):
        params = faiss.SearchParametersIVF(nprobe=5, max_codes=most, ensure_topk_full=True)
        for k in (5, 120):
            assert_same_results(
                index.search(XQ, k, params=params), right.search(XQ, k, params=params)
            )
    with pytest.raises(deepq.InputError, match="expected max_empty_result_buckets = 0, got 2"):
        index.range_search(
            XQ, 1.0, params=faiss.SearchParametersIVF(nprobe=4, max_empty_result_buckets=2)
        )


@pytest.mark.parametrize("bad", [0, -1])
def test_an_nprobe_below_one_is_refused(bad):
    index = ours()
    with contextlib.suppress(TypeError, OverflowError):  # of faiss, for -1
        index.nprobe = bad
        with pytest.raises(deepq.InputError, match="nprobe of at least 1"):
            index.search(XQ, 3)
    with pytest.raises(deepq.InputError, match="nprobe of at least 1"):
        deepq.SearchParameters(nprobe=bad)


def test_an_nprobe_above_nlist_is_all_cells():
    index = ours()
    index.nprobe = 10 * NLIST
    np.testing.assert_array_equal(index.search(XQ, 5)[1], index.search(XQ, 5, params=EVERYWHERE)[1])


def test_parameters_of_another_class_are_refused():
    index = ours()
    for params in (
        faiss.SearchParametersPQ(),
        faiss.SearchParametersHNSW(),
        faiss.SearchParametersPreTransform(),
    ):
        with pytest.raises(deepq.InputError, match="SearchParametersIVF, got SearchParam"):
            index.search(XQ, 3, params=params)
    for call in (index.search, index.range_search):
        with pytest.raises(deepq.KindError, match="SearchParameters, got int"):
            call(XQ, 3, params=4)
    plain_ones = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, 40))
    assert index.search(XQ, 3, params=plain_ones)[1].max() < 40


def test_a_coarse_quantizer_has_parameters_of_its_own():
    coarse = faiss.IndexHNSWFlat(DIM, 4)
    coarse.add(X[:200])
    index = deepq.DeepQuantIVFIndex(coarse, DIM, 200, M, 4)
    index.train(X)
    index.add(X)
    right = deepq.to_faiss(index)
    inner = faiss.extract_index_ivf(right)
    for ef in (1, 300):
        params = faiss.SearchParametersIVF(
            nprobe=3, quantizer_params=faiss.SearchParametersHNSW(efSearch=ef)
        )
        theirs = inner.search(index.encoder.encode(XQ), 5, params=params)
        assert_same_results(index.search(XQ, 5, params=params), theirs)
    faiss.ParameterSpace().set_index_parameter(index, "quantizer_efSearch", 77)
    assert index.quantizer.hnsw.efSearch == 77


def test_a_parameter_space_sets_what_it_knows():
    index = ours()
    space = faiss.ParameterSpace()
    space.set_index_parameter(index, "nprobe", 9)
    space.set_index_parameters(index, "max_codes=500,ht=12")
    assert (index.nprobe, index.max_codes, index.polysemous_ht) == (9, 500, 12)


@pytest.mark.parametrize("nbits", [4, 5])
@pytest.mark.parametrize("mode", [1, 2, 3, 1024])  # of no heaps
def test_a_way_to_share_work_changes_no_result(nbits, mode):
    index = ours(nbits)
    right = index.search(XQ, 5)
    index.parallel_mode = mode
    index.polysemous_ht = 3
    np.testing.assert_array_equal(index.search(XQ, 5), right)
    index.max_codes = 50
    assert (index.search(XQ, 60)[1] >= 0).sum() == 50 * len(XQ)


@pytest.mark.parametrize("nbits", [4, 5])
def test_given_cells_may_be_more_than_there_are(nbits):
    index = ours(nbits)
    _, cells = index.quantizer.search(XQ, NLIST)
    many = np.concatenate([cells[:, :3], np.full((len(XQ), 9), -1), cells, cells], axis=1)
    got = index.search_preassigned(XQ, 5, many, None)
    np.testing.assert_array_equal(got[1], index.search(XQ, 5, params=EVERYWHERE)[1])
    for bad in (cells[:5], cells[0], cells.astype(np.float32)):
        with pytest.raises(deepq.DimensionError, match="expected Iq of integers"):
            index.search_preassigned(XQ, 5, bad, None)


@pytest.mark.parametrize("coarse", [faiss.IndexFlatIP, faiss.IndexFlatL2])
@pytest.mark.parametrize("metric", [L2, IP])
def test_a_coarse_quantizer_may_have_another_metric(coarse, metric):
    index = deepq.DeepQuantIVFIndex(coarse(DIM), DIM, NLIST, M, 4, metric)
    index.train(X)
    index.add(X)
    inner = faiss.extract_index_ivf(right := deepq.to_faiss(index))
    inner.nprobe = index.nprobe = 3
    assert_same_results(index.search(XQ, 5), right.search(XQ, 5))


@pytest.mark.parametrize("nbits", [4, 5, 8])
def test_tables_of_faiss_change_nothing(nbits):
    index = ours(nbits)
    right = index.search(XQ, 5)
    index.precompute_table()
    assert index.use_precomputed_table == 1
    assert index.precomputed_table.size() > 0
    np.testing.assert_allclose(index.search(XQ, 5)[0], right[0], rtol=1e-4, atol=1e-4)
    _, cells = index.quantizer.search(XQ, 4)
    wrong = index.search_preassigned(XQ, 5, cells, np.zeros(cells.shape, np.float32))
    np.testing.assert_allclose(wrong[0], right[0], rtol=1e-4, atol=1e-4)


def test_codebooks_that_are_put_in_count_for_faiss_as_well():
    """faiss goes on using tables of the codebooks before: findings/faiss_ivfpq_codebooks.sh."""
    index = ours(n=0)
    index.precompute_table()
    books = index.codebooks + np.float32(0.5)
    index.codebooks = books
    index.add(X)
    z = index.sa_decode(index.sa_encode(X))
    index.nprobe = NLIST
    exact = np.sort(np.square(XQ[:, None] - z).sum(axis=2), axis=1)[:, :5]
    np.testing.assert_allclose(index.search(XQ, 5)[0], exact, rtol=1e-3, atol=1e-3)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    np.testing.assert_allclose(inner.search(XQ, 5)[0], exact, rtol=1e-3, atol=1e-3)


def test_codewords_that_are_written_into_its_vector_count():
    index = ours()
    index.search(XQ, 5)
    books = faiss.vector_to_array(index.pq.centroids) * np.float32(1.5)
    faiss.copy_array_to_vector(books, index.pq.centroids)
    right = deepq.to_faiss(index)
    faiss.extract_index_ivf(right).nprobe = index.nprobe
    assert_same_results(index.search(XQ, 5), right.search(XQ, 5))
