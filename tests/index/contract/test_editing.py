"""What changes the stored codes: add, add_sa_codes, remove_ids, merge_from, permute, reset."""

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import DIM, L2, XB, XQ, M, ours_only, require
from .test_training import cast, plain_copy


@kinds.flat_only
def test_add_returns_nothing_and_counts(trained):
    assert trained.add(XB[:10]) is None
    assert trained.ntotal == 10
    trained.add(XB[:0])
    assert trained.ntotal == 10
    assert faiss.vector_to_array(trained.codes).size == 10 * trained.code_size


def test_adding_in_pieces_is_adding_at_once(trained, index):
    for start, end in [(0, 1), (1, 100), (100, 100), (100, len(XB))]:
        trained.add(XB[start:end])
    np.testing.assert_array_equal(oracle.codes(trained), oracle.codes(index))


@cast
def test_every_layout_of_the_vectors_gives_the_same_codes(trained, cast):
    trained.add(cast(XB))
    np.testing.assert_array_equal(oracle.codes(trained), trained.sa_encode(plain_copy(cast(XB))))


@kinds.flat_only
def test_add_with_ids_is_not_for_this_index(trained):
    with pytest.raises(RuntimeError):
        trained.add_with_ids(XB, np.arange(len(XB)))
    assert trained.ntotal == 0


def test_codes_may_be_added_as_they_are(index, trained):
    require(index, "add_sa_codes")
    trained.add_sa_codes(oracle.codes(index))
    assert trained.ntotal == len(XB)
    np.testing.assert_array_equal(oracle.codes(trained), oracle.codes(index))
    oracle.assert_same_neighbours(trained.search(XQ, 5), index.search(XQ, 25))


@kinds.flat_only
def test_the_raw_methods_that_take_pointers_do_the_same(trained, index):
    require(index, "add_sa_codes_c", "permute_entries_c")
    pointer, x, n = faiss.swig_ptr, XB.copy(), len(XB)
    trained.add_c(n, pointer(x))
    assert trained.ntotal == n
    np.testing.assert_array_equal(oracle.codes(trained), oracle.codes(index))
    D, I = np.empty((len(XQ), 5), np.float32), np.empty((len(XQ), 5), np.int64)
    xq = XQ.copy()
    trained.search_c(len(xq), pointer(xq), 5, pointer(D), pointer(I))
    oracle.assert_same_neighbours((D, I), oracle.search(index, XQ, 25))
    trained.assign_c(len(xq), pointer(xq), pointer(I), 5)
    oracle.assert_same_neighbours((D, I), oracle.search(index, XQ, 25))
    codes = np.empty((n, index.code_size), np.uint8)
    trained.sa_encode_c(n, pointer(x), pointer(codes))
    np.testing.assert_array_equal(codes, oracle.codes(index))
    trained.add_sa_codes_c(n, pointer(codes), None)
    assert trained.ntotal == 2 * n
    backwards = np.arange(2 * n)[::-1].copy()
    trained.permute_entries_c(pointer(backwards))
    np.testing.assert_array_equal(oracle.codes(trained)[n:], codes[::-1])
    assert trained.remove_ids_c(faiss.IDSelectorRange(0, n)) == n
    assert trained.ntotal == n


@kinds.flat_only
def test_codebooks_and_codes_may_be_put_into_the_vectors(kind, metric, index):
    """The way in which faiss's users bring codes of their own."""
    other = kind.build(DIM, M, 4, metric)
    faiss.copy_array_to_vector(oracle.codebooks(index).ravel(), other.pq.centroids)
    other.is_trained = True
    faiss.copy_array_to_vector(oracle.codes(index).ravel(), other.codes)
    other.ntotal = index.ntotal
    np.testing.assert_array_equal(oracle.codes(other), oracle.codes(index))
    oracle.assert_same_neighbours(other.search(XQ, 5), oracle.search(other, XQ, 25))
    other.add(XB[:3])
    assert other.ntotal == len(XB) + 3


@kinds.ours_flat_only
def test_memory_beyond_the_codes_is_never_read(index):
    index.ntotal *= 2
    with pytest.raises(RuntimeError):
        index.search(XQ, 3)
    with pytest.raises(AttributeError):
        index.code_size *= 2


def test_search_subset_is_not_for_this_index(index):
    xq, ids = XQ.copy(), np.zeros((len(XQ), 2), np.int64)
    D, I = np.empty((len(XQ), 1), np.float32), np.empty((len(XQ), 1), np.int64)
    pointers = [faiss.swig_ptr(a) for a in (xq, ids, D, I)]
    require(index, "search_subset")
    with pytest.raises(RuntimeError):
        index.search_subset(len(xq), pointers[0], 2, pointers[1], 1, *pointers[2:])


REMOVALS = {
    "an array": (np.array([3, 1, 399]), [1, 3, 399]),
    "small integers": (np.array([3, 1], np.int32), [1, 3]),
    "nothing": (np.array([], np.int64), []),
    "an id twice": (np.array([5, 5]), [5]),
    "unknown ids": (np.array([-1, 10**6]), []),
    "every id": (np.arange(400), range(400)),
    "a range": (faiss.IDSelectorRange(10, 20), range(10, 20)),
    "a batch": (faiss.IDSelectorBatch(np.array([4, 2])), [2, 4]),
    "all but": (faiss.IDSelectorNot(faiss.IDSelectorRange(10, 20)), [*range(10), *range(20, 400)]),
}


@kinds.flat_only
@pytest.mark.parametrize(("ids", "gone"), REMOVALS.values(), ids=REMOVALS)
def test_removing_counts_and_shifts_the_ids(index, ids, gone):
    left = np.delete(oracle.codes(index), list(gone), axis=0)
    assert index.remove_ids(ids) == len(gone)
    assert index.ntotal == len(left)
    np.testing.assert_array_equal(oracle.codes(index), left)
    oracle.assert_same_neighbours(index.search(XQ, 3), oracle.search(index, XQ, 25))


def test_what_was_removed_can_be_added_again(index):
    index.remove_ids(np.arange(100, 400))
    index.add(XB[100:])
    np.testing.assert_array_equal(oracle.codes(index), index.sa_encode(XB))


@kinds.not_in_cells_of_faiss
def test_merging_moves_the_vectors(index, trained):
    trained.add(XB[:50])
    index.check_compatible_for_merge(trained)
    assert index.merge_from(trained) is None
    assert (index.ntotal, trained.ntotal) == (450, 0)
    assert oracle.codes(trained).size == 0
    np.testing.assert_array_equal(oracle.codes(index), index.sa_encode(np.vstack([XB, XB[:50]])))
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.search(index, XQ, 25))
    assert (trained.search(XQ, 2)[1] == -1).all()


@kinds.not_in_cells_of_faiss
def test_the_emptied_index_may_be_filled_again(index, trained):
    trained.add(XB[:50])
    index.merge_from(trained)
    trained.add(XB[:20])
    oracle.assert_same_neighbours(trained.search(XQ, 2), oracle.search(trained, XQ, 20))


@kinds.not_in_cells_of_faiss
@pytest.mark.parametrize(
    "make_other",
    [
        lambda kind: kind.build(DIM, 2 * M, 4),
        lambda kind: kind.build(2 * DIM, M, 4),
        lambda _: faiss.IndexFlatL2(DIM),
    ],
    ids=["another M", "another d", "another class"],
)
def test_merging_what_does_not_fit_is_refused(kind, make_other):
    index, other = kinds.filled(kind), make_other(kind)
    for call in (index.merge_from, index.check_compatible_for_merge):
        with pytest.raises(RuntimeError):
            call(other)
    assert index.ntotal == len(XB)


@kinds.flat_only
def test_an_offset_in_merge_from_is_refused(index, trained):
    with pytest.raises(RuntimeError):
        index.merge_from(trained, 5)


@ours_only
@pytest.mark.parametrize(
    "make_other",
    [
        lambda *_: kinds.filled(kinds.FAISS),
        lambda kind, _: kinds.filled(kind, kinds.IP),
        lambda kind, _: kinds.untrained(kind),
        lambda _, index: index,
    ],
    ids=["a plain IndexPQ", "another metric", "untrained", "itself"],
)
def test_what_would_be_silently_wrong_to_merge_is_refused(kind, make_other):
    index = kinds.filled(kind, L2)
    other = make_other(kind, index)
    n, before = other.ntotal, faiss.serialize_index(index)
    for call in (index.merge_from, index.check_compatible_for_merge):
        with pytest.raises(RuntimeError):
            call(other)
    assert other.ntotal == n
    np.testing.assert_array_equal(faiss.serialize_index(index), before)


@ours_only
def test_other_codebooks_or_another_encoder_do_not_merge(index, trained, metric):
    trained.codebooks = trained.codebooks + np.float32(0.25)
    with pytest.raises(RuntimeError):
        index.merge_from(trained)
    for other in kinds.OURS:
        stranger = kinds.filled(other, metric)
        if type(stranger.encoder) is not type(index.encoder):
            with pytest.raises(RuntimeError):
                index.merge_from(stranger)
    assert index.ntotal == len(XB)


@kinds.flat_only
def test_entries_may_be_permuted(index):
    before, order = oracle.codes(index), np.random.default_rng(0).permutation(len(XB))
    index.permute_entries(order)
    np.testing.assert_array_equal(oracle.codes(index), before[order])
    oracle.assert_same_neighbours(index.search(XQ, 3), oracle.search(index, XQ, 25))


def test_a_reset_forgets_the_vectors_and_keeps_the_training(index):
    codebooks = oracle.codebooks(index)
    assert index.reset() is None
    assert index.ntotal == 0
    assert index.is_trained
    assert oracle.codes(index).size == 0
    np.testing.assert_array_equal(oracle.codebooks(index), codebooks)
    index.add(XB)
    oracle.assert_same_neighbours(index.search(XQ, 3), oracle.search(index, XQ, 25))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@ours_only
def test_vectors_that_are_not_finite_are_not_added(index, bad):
    before, x = faiss.serialize_index(index), XB.copy()
    x[200, 3] = bad
    for call in (index.add, index.sa_encode):
        with pytest.raises(ValueError, match="200"):
            call(x)
    np.testing.assert_array_equal(faiss.serialize_index(index), before)
