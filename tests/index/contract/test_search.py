"""search and range_search against the oracle, at their edges, and under every layout."""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import IP, XB, XQ, ours_only
from .test_training import cast, plain_copy

every_width = pytest.mark.parametrize("nbits", [1, 4, 6, 8, 10])


def wide(index, xq=XQ, k=25):
    """The right answer, wide enough to see ties across a cut at 5."""
    return oracle.search(index, xq, k)


@every_width
def test_the_neighbours_are_the_right_ones(index):
    oracle.assert_same_neighbours(index.search(XQ, 5), wide(index))
    oracle.assert_same_neighbours(index.search(XQ, 1), wide(index))
    assert index.ntotal == len(XB)


@pytest.mark.parametrize("nbits", [4, 8])
def test_all_neighbours_are_the_right_ones(index):
    n = index.ntotal
    oracle.assert_same_neighbours(index.search(XQ, n), oracle.search(index, XQ, n))


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("nq", [1, 15, 16, 17, 33, 64, 100])
def test_the_number_of_queries_does_not_matter(index, nq):
    xq = kinds.XT[:nq]
    oracle.assert_same_neighbours(index.search(xq, 5), wide(index, xq))


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33])
def test_the_number_of_vectors_does_not_matter(trained, n):
    trained.add(XB[:n])
    oracle.assert_same_neighbours(trained.search(XQ, 5), wide(trained))


def test_distances_are_sorted(index, metric):
    D, _ = index.search(XQ, 50)
    steps = np.diff(D, axis=1)
    assert (steps <= 0).all() if metric == IP else (steps >= 0).all()


@cast
def test_every_layout_of_the_queries_gives_the_same_answer(index, cast):
    got, want = index.search(cast(XQ), 5), index.search(plain_copy(cast(XQ)), 5)
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[0], want[0])


def test_one_by_one_is_the_same_as_all_at_once(index):
    rows = [index.search(XQ[i : i + 1], 5) for i in range(len(XQ))]
    oracle.assert_same_neighbours(
        (np.vstack([D for D, _ in rows]), np.vstack([I for _, I in rows])), index.search(XQ, 25)
    )


def test_beyond_the_last_vector_there_is_padding(index, metric):
    D, I = index.search(XQ, len(XB) + 3)
    assert (I[:, :-3] >= 0).all()
    assert (I[:, -3:] == -1).all()
    assert (D[:, -3:] == oracle.WORST[metric]).all()


def test_an_empty_index_gives_only_padding(trained, metric):
    D, I = trained.search(XQ, 3)
    assert I.shape == D.shape == (len(XQ), 3)
    assert (I == -1).all()
    np.testing.assert_array_equal(D, oracle.WORST[metric])


def test_no_queries_give_no_rows(index, trained):
    for each in (index, trained):
        D, I = each.search(XQ[:0], 3)
        assert (D.shape, I.shape) == ((0, 3), (0, 3))
        assert (D.dtype, I.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("nbits", [4, 8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_gets_padding_and_the_others_their_answer(
    kind, index, metric, bad
):
    if metric == IP and np.isinf(bad) and not kind.ours:
        pytest.skip("faiss answers infinite queries under the inner product")
    xq = XQ.copy()
    xq[3, 7] = bad
    D, I = index.search(xq, 5)
    assert (I[3] == -1).all()
    assert (D[3] == oracle.WORST[metric]).all()
    others = np.arange(len(xq)) != 3
    oracle.assert_same_neighbours((D[others], I[others]), wide(index, XQ[others]))


def test_given_buffers_are_filled_and_returned(index):
    D, I = np.empty((len(XQ), 5), np.float32), np.empty((len(XQ), 5), np.int64)
    got = index.search(XQ, 5, D=D, I=I)
    assert got[0] is D
    assert got[1] is I
    oracle.assert_same_neighbours((D, I), wide(index))
    assert index.search(XQ, 5, I=I)[1] is I


@kinds.flat_only
def test_default_parameters_change_nothing(index):
    for params in (None, faiss.SearchParametersPQ()):
        oracle.assert_same_neighbours(index.search(XQ, 5, params=params), wide(index))


def test_assign_is_search_without_distances(index):
    labels = index.assign(XQ, 5)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, index.search(XQ, 5)[1])
    buffer = np.empty((len(XQ), 5), np.int64)
    assert index.assign(XQ, 5, labels=buffer) is buffer
    np.testing.assert_array_equal(buffer, labels)
    assert index.assign(XQ[:0], 2).shape == (0, 2)


def test_threads_that_search_at_once_get_the_same_answer(index):
    want = index.search(XQ, 5)
    with ThreadPoolExecutor(4) as pool:
        for D, I in pool.map(lambda _: index.search(XQ, 5), range(20)):
            np.testing.assert_array_equal(I, want[1])
            np.testing.assert_array_equal(D, want[0])


@ours_only
@pytest.mark.parametrize("nbits", [4, 8])
def test_equal_scores_come_in_ascending_id(trained, metric):
    trained.add(np.repeat(XB[::10], 7, axis=0))
    D, I = trained.search(XQ, 60)
    order = np.lexsort((I, D if metric != IP else -D), axis=1)
    np.testing.assert_array_equal(order, np.broadcast_to(np.arange(60), order.shape))
    assert (np.diff(D, axis=1) == 0).mean() > 0.5


@ours_only
@pytest.mark.parametrize("nbits", [4, 8])
def test_a_tie_at_the_cut_keeps_the_lowest_ids(trained):
    trained.add(np.repeat(XB[:1], 50, axis=0))
    np.testing.assert_array_equal(trained.search(XQ, 9)[1], np.tile(np.arange(9), (len(XQ), 1)))


@ours_only
def test_numpy_integers_serve_as_k(index):
    np.testing.assert_array_equal(index.search(XQ, np.int64(5))[1], index.search(XQ, 5)[1])
    np.testing.assert_array_equal(index.assign(XQ, np.int32(5)), index.assign(XQ, 5))


@ours_only
def test_vectors_added_while_others_search_are_never_half_there(trained):
    """The codes move in memory when rows are added; a search sees all of a block or none of it."""
    trained.add(XB)

    def grow():
        for _ in range(50):
            trained.add(XB)

    with ThreadPoolExecutor(3) as pool:
        growing = pool.submit(grow)
        while not growing.done():
            _, I = trained.search(XQ, 3)
            assert I.min() >= 0
            assert I.max() < trained.ntotal
        growing.result()
    assert trained.ntotal == 51 * len(XB)
    oracle.assert_same_neighbours(trained.search(XQ, 3), oracle.search(trained, XQ, 80))


def radius_of(index, k=20):
    """A radius with about k vectors inside it for the first query."""
    return float(oracle.search(index, XQ[:1], k)[0][0, -1])


@every_width
def test_a_range_search_finds_all_that_is_near_and_no_more(index, metric):
    r, scores = radius_of(index), oracle.scores(index, XQ)
    oracle.assert_same_range(index.range_search(XQ, r), scores, r, metric)


@kinds.not_in_cells_of_faiss
def test_a_range_search_honours_a_selector(index, metric):
    r, scores = radius_of(index), oracle.scores(index, XQ)
    params = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, 100))
    got = index.range_search(XQ, r, params=params)
    oracle.assert_same_range(got, scores[:, :100], r, metric)


def test_a_range_search_may_find_nothing_or_everything(index, trained, metric):
    worst = 1e30 if metric != IP else -1e30
    assert index.range_search(XQ, -worst)[0].tolist() == [0] * (len(XQ) + 1)
    assert index.range_search(XQ, worst)[0][-1] == len(XQ) * len(XB)
    assert trained.range_search(XQ, worst)[0].tolist() == [0] * (len(XQ) + 1)
    assert index.range_search(XQ[:0], worst)[0].tolist() == [0]


def test_a_range_search_takes_numpy_floats(index, metric):
    r = np.float64(radius_of(index))
    oracle.assert_same_range(
        index.range_search(XQ.astype(np.float64), r), oracle.scores(index, XQ), r, metric
    )


@ours_only
def test_a_range_search_finds_nothing_for_a_query_that_is_not_finite(index, metric):
    xq = XQ.copy()
    xq[2, 0], xq[4, 0] = np.nan, np.inf
    lims = index.range_search(xq, 1e30 if metric != IP else -1e30)[0].astype(int)
    found = np.diff(lims)
    assert found[2] == found[4] == 0
    assert (np.delete(found, [2, 4]) == len(XB)).all()
