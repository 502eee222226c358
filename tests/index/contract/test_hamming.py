"""The searches that use codes alone: symmetric, Hamming, polysemous, signs."""

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import DIM, IP, L2, XB, XQ, XT, M

bytewise = pytest.mark.parametrize("nbits", [8])
l2_only = pytest.mark.parametrize("metric", [L2], ids=["l2"])


def query_codes(index):
    return index.sa_encode(XQ)


def hamming_scores(index):
    return oracle.hamming(query_codes(index), oracle.codes(index)).astype(np.float64)


def by_params(index, search_type, ht=0):
    """Search as ``index.search_type`` would, through search parameters."""
    params = faiss.SearchParametersPQ()
    params.search_type, params.polysemous_ht = search_type, ht
    return index.search(XQ, 5, params=params)


def symmetric(index):
    """Return squared distances between the codewords of queries and stored vectors."""
    z, stored = oracle.codewords(index, query_codes(index)), oracle.codewords(index)
    return ((z[:, None].astype(np.float64) - stored[None]) ** 2).sum(-1)


def eight_bytes(kind):
    """Some of faiss's Hamming code counts in units of eight bytes."""
    index = kind.build(DIM, 8, 8, L2)
    index.train(XT)
    index.add(XB)
    return index


@bytewise
@l2_only
@kinds.flat_only
def test_symmetric_search_compares_codewords_with_codewords(index):
    index.pq.compute_sdc_table()
    assert index.pq.sdc_table.size() == M * 256 * 256
    right = oracle.top(symmetric(index), 25, L2)
    oracle.assert_same_neighbours(by_params(index, index.ST_SDC), right)
    index.search_type = index.ST_SDC
    oracle.assert_same_neighbours(index.search(XQ, 5), right)


@kinds.ours_flat_only
@bytewise
@l2_only
def test_symmetric_search_needs_no_call_to_prepare_it(index):
    index.search_type = index.ST_SDC
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.top(symmetric(index), 25, L2))


@bytewise
@l2_only
@kinds.flat_only
def test_a_distance_computer_gives_symmetric_distances(index):
    index.pq.compute_sdc_table()
    stored = oracle.codewords(index)
    right = ((stored[3] - stored[8]) ** 2).sum()
    np.testing.assert_allclose(index.get_distance_computer().symmetric_dis(3, 8), right, rtol=1e-4)


@kinds.flat_only
@pytest.mark.parametrize("nbits", [4, 8])
def test_hamming_search_counts_differing_bits(index):
    right = oracle.top(hamming_scores(index), len(XB), L2)
    oracle.assert_same_neighbours(by_params(index, index.ST_HE), right)
    index.search_type = index.ST_HE
    oracle.assert_same_neighbours(index.search(XQ, 5), right)


@kinds.flat_only
def test_the_hamming_distance_table_is_all_against_all(kind):
    index = eight_bytes(kind)
    xq, table = XQ.copy(), np.empty((len(XQ), len(XB)), np.int32)
    index.hamming_distance_table(len(xq), faiss.swig_ptr(xq), faiss.swig_ptr(table))
    np.testing.assert_array_equal(table, oracle.hamming(query_codes(index), oracle.codes(index)))


@kinds.flat_only
def test_generalized_hamming_search_counts_differing_words(kind):
    index = eight_bytes(kind)
    index.search_type = index.ST_generalized_HE
    differ = query_codes(index)[:, None] != oracle.codes(index)[None]
    right = oracle.top(differ.sum(-1).astype(np.float64), len(XB), L2)
    oracle.assert_same_neighbours(index.search(XQ, 5), right)


@kinds.flat_only
def test_the_hamming_histogram_counts_every_pair(kind):
    index = eight_bytes(kind)
    xq, histogram = XQ.copy(), np.zeros(8 * 8 + 1, np.int64)
    index.hamming_distance_histogram(
        len(xq), faiss.swig_ptr(xq), 0, None, faiss.swig_ptr(histogram)
    )
    assert histogram.sum() == len(XQ) * len(XB)
    distances = oracle.hamming(query_codes(index), oracle.codes(index)).ravel()
    np.testing.assert_array_equal(histogram, np.bincount(distances, minlength=65))


def filtered(index, ht):
    """Score as search does, but only where the codes differ in fewer than ht bits."""
    return np.where(hamming_scores(index) < ht, oracle.scores(index, XQ), np.inf)


def assert_polysemous(index, got, ht):
    D, I = got
    scores = filtered(index, ht)
    enough = np.isfinite(scores).sum(axis=1)
    assert (I[np.arange(I.shape[1]) >= enough[:, None]] == -1).all()
    full = enough >= I.shape[1]
    assert full.any()
    oracle.assert_same_neighbours((D[full], I[full]), oracle.top(scores[full], 6, L2))


@bytewise
@l2_only
@pytest.mark.parametrize("ht", [12, 33])
@kinds.flat_only
def test_polysemous_search_ranks_what_the_hamming_filter_lets_through(index, ht):
    assert_polysemous(index, by_params(index, index.ST_polysemous, ht), ht)
    index.search_type, index.polysemous_ht = index.ST_polysemous, ht
    assert_polysemous(index, index.search(XQ, 5), ht)
    D, I = np.empty((len(XQ), 5), np.float32), np.empty((len(XQ), 5), np.int64)
    xq = XQ.copy()
    pointers = [faiss.swig_ptr(a) for a in (D, I)]
    index.search_core_polysemous(len(xq), faiss.swig_ptr(xq), 5, *pointers, ht, False)
    assert_polysemous(index, (D, I), ht)


@kinds.flat_only
@bytewise
@pytest.mark.parametrize("metric", [IP], ids=["ip"])
def test_polysemous_search_is_for_l2_only(index):
    index.search_type, index.polysemous_ht = index.ST_polysemous, 20
    with pytest.raises(RuntimeError):
        index.search(XQ, 5)


@bytewise
@l2_only
@kinds.flat_only
def test_polysemous_training_reorders_the_codewords_and_changes_no_distance(kind, untrained):
    untrained.do_polysemous_training = True
    untrained.polysemous_training.n_iter = 500
    untrained.train(XT)
    untrained.add(XB)
    plain = kinds.filled(kind, L2, 8)
    oracle.assert_same_neighbours(untrained.search(XQ, 5), plain.search(XQ, 25))
    np.testing.assert_array_equal(oracle.codes(untrained), untrained.sa_encode(XB))
    untrained.search_type, untrained.polysemous_ht = untrained.ST_polysemous, 12
    assert_polysemous(untrained, untrained.search(XQ, 5), 12)


@kinds.flat_only
def test_signs_of_the_query_are_compared_with_one_bit_codes(kind, metric):
    index = kind.build(DIM, DIM, 1, metric)
    index.train(XT)
    index.add(XB)
    index.encode_signs, index.search_type = True, index.ST_HE
    signs = np.packbits(oracle.embed(index, XQ) >= 0, axis=1, bitorder="little")
    scores = oracle.hamming(signs, oracle.codes(index)).astype(np.float64)
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.top(scores, len(XB), L2))


@kinds.ours_flat_only
@pytest.mark.parametrize("search_type", [17, -1])
def test_an_unknown_search_type_is_refused(index, search_type):
    with pytest.raises(ValueError, match=str(search_type)):
        index.search_type = search_type
    assert index.search_type == index.ST_PQ
    with pytest.raises(ValueError, match=str(search_type)):
        by_params(index, search_type)
