"""The judge is judged first: the oracle by hand, the comparator by cases it must reject."""

import faiss
import numpy as np
import pytest

from . import oracle

D = np.array([[1.0, 2.0, 2.0, 3.0]], np.float32)
I = np.array([[7, 4, 5, 6]])


@pytest.fixture
def by_hand():
    """Two sub-spaces of one bit: codewords 0, 1 and 0, 10; stored (1, 0), (0, 10), (1, 10)."""
    index = faiss.IndexPQ(2, 2, 1)
    faiss.copy_array_to_vector(np.array([0, 1, 0, 10], np.float32), index.pq.centroids)
    index.is_trained = True
    index.add(np.array([[1, 0], [0, 10], [1, 10]], np.float32))
    return index


def test_the_oracle_finds_the_distances_computed_by_hand(by_hand):
    assert oracle.words(by_hand).tolist() == [[1, 0], [0, 1], [1, 1]]
    assert oracle.codewords(by_hand).tolist() == [[1, 0], [0, 10], [1, 10]]
    xq = np.array([[1, 8]], np.float32)
    assert oracle.scores(by_hand, xq).tolist() == [[64, 5, 4]]
    by_hand.metric_type = faiss.METRIC_INNER_PRODUCT
    assert oracle.scores(by_hand, xq).tolist() == [[1, 80, 81]]
    distances, ids = oracle.search(by_hand, xq, 4)
    assert ids.tolist() == [[2, 1, 0, -1]]
    assert distances.tolist() == [[81, 80, 1, np.finfo("f4").min]]


def test_the_oracle_breaks_ties_by_ascending_id():
    for metric in oracle.WORST:
        assert oracle.top(np.zeros((1, 3)), 2, metric)[1].tolist() == [[0, 1]]


def test_the_comparator_accepts_the_same_and_a_swap_inside_a_tie():
    oracle.assert_same_neighbours((D, I), (D, I))
    oracle.assert_same_neighbours((D, I[:, [0, 2, 1, 3]]), (D, I))
    oracle.assert_same_neighbours((D * np.float32(1 + 1e-6), I), (D, I))


def test_the_comparator_accepts_another_id_at_the_cut_when_it_sees_the_tie():
    oracle.assert_same_neighbours((D[:, :2], np.array([[7, 5]])), (D, I))
    with pytest.raises(AssertionError):
        oracle.assert_same_neighbours((D[:, :2], np.array([[7, 5]])), (D[:, :2], I[:, :2]))


@pytest.mark.parametrize(
    "wrong",
    [
        (D, I[:, [1, 0, 2, 3]]),
        (D, np.array([[7, 4, 4, 6]])),
        (D, np.array([[7, 4, 5, -1]])),
        (D, np.array([[7, 4, 5, 8]])),
        (D + np.float32(3e-4), I),
        (D.astype(np.float64), I),
        (D, I.astype(np.int32)),
        (D[:0], I[:0]),
    ],
    ids=["order", "twice", "padding", "stranger", "distance", "D dtype", "I dtype", "rows"],
)
def test_the_comparator_rejects(wrong):
    with pytest.raises(AssertionError):
        oracle.assert_same_neighbours(wrong, (D, I))


@pytest.mark.parametrize(
    "got",
    [
        ([0, 1], [1.0], [1]),
        ([0, 3], [1.0, 2.0, 5.0], [1, 0, 2]),
        ([0, 2], [1.0, 2.1], [1, 0]),
        ([0, 2], [1.0, 1.0], [1, 1]),
    ],
    ids=["missing", "too far", "distance", "twice"],
)
def test_the_range_comparator_rejects(got):
    scores = np.array([[2.0, 1.0, 5.0]])
    lims, D, I = np.array(got[0], np.uint64), np.array(got[1], np.float32), np.array(got[2])
    right = np.array([0, 2], np.uint64), np.array([1, 2], np.float32), np.array([1, 0])
    oracle.assert_same_range(right, scores, 3.0, faiss.METRIC_L2)
    with pytest.raises(AssertionError):
        oracle.assert_same_range((lims, D, I), scores, 3.0, faiss.METRIC_L2)
