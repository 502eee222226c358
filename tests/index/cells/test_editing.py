"""Ids, direct maps, removals and merges: nothing collides, and what fails changes nothing."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq
from deepq.index.native import _mapped_lists, lists

from .builders import DIM, EVERYWHERE, NLIST, XQ, X, ours, plain

LARGEST = np.iinfo(np.int64).max
MAPS = {
    "none": faiss.DirectMap.NoMap,
    "array": faiss.DirectMap.Array,
    "hashtable": faiss.DirectMap.Hashtable,
}
every_map = pytest.mark.parametrize("kind", MAPS.values(), ids=MAPS)


def state_of(index):
    ids = np.sort(np.concatenate([index.get_list(cell)[0] for cell in range(NLIST)]))
    return (
        index.ntotal,
        ids.tolist(),
        int(index.direct_map.type),
        *map(np.ndarray.tolist, index.search(XQ, 5)),
    )


def refused(index, call, match="expected", error=deepq.InputError):
    before = state_of(index)
    with pytest.raises(error, match=match):
        call()
    assert state_of(index) == before


# ---- ids -----------------------------------------------------------------------------------------


@every_map
def test_ids_go_on_behind_the_largest(kind):
    index = ours(n=100)
    index.set_direct_map_type(kind)
    assert index.remove_ids(np.arange(90, 100)) == 10
    index.add(X[:2])
    assert sorted(np.concatenate([index.get_list(c)[0] for c in range(NLIST)]))[-2:] == [100, 101]
    np.testing.assert_array_equal(index.reconstruct(101), index.reconstruct(1))
    index.reset()
    index.add(X[:2])
    assert index.search(X[:2], 2, params=EVERYWHERE)[1].max() == 1


def test_the_largest_id_has_none_behind_it():
    index = ours(n=10)
    index.add_with_ids(X[:1], np.array([LARGEST]))
    refused(index, lambda: index.add(X[:1]), "expected ids below")
    index.add(X[:0])
    other = ours(n=3)
    refused(other, lambda: other.merge_from(index, 5))
    refused(index, lambda: index.merge_from(other), "to add to them")
    assert (index.ntotal, other.ntotal) == (11, 3)
    index.add_with_ids(X[:1], np.array([77]))
    assert index.reconstruct(LARGEST).shape == (DIM,)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (np.array([-1, 3]), deepq.InputError),
        (np.array([1 << 63, 3], np.uint64), deepq.InputError),
        (np.array([1.0, 2.0]), deepq.KindError),
        (np.array([1]), deepq.DimensionError),
        (np.array([[1], [2]]), deepq.DimensionError),
        ([1, 2], deepq.KindError),
    ],
    ids=["negative", "too large", "fractions", "too few", "a table", "a list"],
)
def test_ids_of_the_wrong_kind_are_refused(ids, error):
    index = ours(n=50)
    refused(index, lambda: index.add_with_ids(X[:2], ids), error=error)
    codes = index.sa_encode(X[:2])
    refused(index, lambda: index.add_sa_codes(codes, ids), error=error)
    refused(index, lambda: index.update_vectors(ids, X[:2]), error=error)


def test_stand_alone_codes_of_cells_there_are_not_are_refused():
    index = ours(n=50)
    codes = index.sa_encode(X[:2])
    codes[1, 0] = NLIST
    refused(index, lambda: index.add_sa_codes(codes), "expected cells below 12, got 12")


def test_vectors_that_are_not_finite_are_refused():
    index, x = ours(n=50), X[:4].copy()
    x[2, 1] = np.nan
    for call in (
        lambda: index.add(x),
        lambda: index.add_with_ids(x, np.arange(4) + 900),
        lambda: index.update_vectors(np.arange(4), x),
    ):
        refused(index, call, "NaN or infinity in row 2")


def test_nothing_changes_nothing():
    none = np.empty(0, np.int64)
    for index in (ours(n=50), deepq.DeepQuantIVFIndex(DIM, NLIST, 4, 4)):
        assert index.remove_ids(none) == 0
        assert index.remove_ids(faiss.IDSelectorRange(60, 90)) == 0
        index.make_direct_map()
        index.make_direct_map(False)
        if index.is_trained:
            index.add(X[:0])
            index.add_with_ids(X[:0], none)
            index.update_vectors(none, X[:0])
            index.merge_from(ours(n=0))
            index.add_sa_codes(index.sa_encode(X[:0]))
            assert index.get_list(0)[1].shape[1] == index.code_size
        assert index.get_list_size(0) == (len(index.get_list(0)[0]) if index.is_trained else 0)


def test_an_untrained_index_has_nothing_to_give():
    index = deepq.DeepQuantIVFIndex(DIM, NLIST, 4, 4)
    for call in (
        lambda: index.get_list(0),
        lambda: index.reconstruct(0),
        lambda: index.update_vectors(np.array([0]), X[:1]),
        lambda: index.add_with_ids(X[:1], np.array([0])),
        lambda: index.search_preassigned(XQ, 1, np.zeros((len(XQ), 1), int), None),
        lambda: index.search_and_return_codes(XQ, 1),
        lambda: index.range_search_preassigned(XQ, 1.0, np.zeros((len(XQ), 1), int), None),
    ):
        with pytest.raises(RuntimeError, match="expected"):
            call()


# ---- direct maps ---------------------------------------------------------------------------------


@every_map
def test_vectors_are_found_by_id_with_any_map(kind):
    index = ours(n=100)
    index.set_direct_map_type(kind)
    assert index.direct_map.type == kind
    np.testing.assert_array_equal(index.reconstruct(9), index.reconstruct_n()[9])
    index.add(X[100:140])
    right = ours(n=140)
    np.testing.assert_array_equal(index.reconstruct_n(), right.reconstruct_n())
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    if kind == faiss.DirectMap.NoMap:
        return
    for key in (0, 99, 139):
        np.testing.assert_allclose(inner.reconstruct(key), right.reconstruct(key), atol=1e-5)
    index.update_vectors(np.array([3, 130]), X[[5, 6]])
    assert index.direct_map.type == kind
    np.testing.assert_allclose(inner.reconstruct(130), right.reconstruct(6), atol=1e-5)


def test_a_map_follows_what_is_removed():
    index = ours(n=100)
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    right = ours(n=100)
    assert index.remove_ids(np.array([5, 5, 6, 2000])) == 2
    assert index.remove_ids(faiss.IDSelectorRange(10, 20)) == 10
    assert index.ntotal == 88
    np.testing.assert_allclose(inner.reconstruct(99), right.reconstruct(99), atol=1e-5)
    with pytest.raises(RuntimeError):
        inner.reconstruct(15)
    index.add_with_ids(X[15:16], np.array([15]))
    np.testing.assert_allclose(inner.reconstruct(15), right.reconstruct(15), atol=1e-5)
    index.set_direct_map_type(faiss.DirectMap.NoMap)
    index.add_with_ids(X[:1], np.array([15]))  # twice


def test_an_array_ends_with_a_gap():
    index = ours(n=100)
    index.make_direct_map()
    assert index.remove_ids(np.array([4])) == 1
    assert index.direct_map.type == faiss.DirectMap.NoMap
    refused(index, index.make_direct_map, "expected ids from 0 to 98 for a direct map")
    index.make_direct_map(False)


def test_ids_that_do_not_suit_a_map_are_refused():
    index = ours(n=100)
    index.make_direct_map()
    refused(index, lambda: index.add_with_ids(X[:2], np.array([7, 8])), "expected ids from 100 on")
    index.add_with_ids(X[:2], np.array([100, 101]))
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    for ids in ([5, 500], [500, 500]):
        refused(index, lambda ids=ids: index.add_with_ids(X[:2], np.array(ids)), "each id once")
    other = ours(n=10)
    refused(index, lambda: index.merge_from(other, 3), "each id once")
    assert other.ntotal == 10
    index.merge_from(other)
    assert (index.ntotal, other.ntotal) == (112, 0)
    many = np.arange(1200) % 1199 + 300
    refused(index, lambda: index.add_with_ids(X[:1200], many), "each id once")
    twice = ours(n=5)
    twice.add_with_ids(X[:1], np.array([3]))
    refused(twice, lambda: twice.set_direct_map_type(faiss.DirectMap.Hashtable), "each id once")
    refused(twice, lambda: twice.update_vectors(np.array([3]), X[:1]), "ids of one vector each")
    refused(twice, lambda: twice.set_direct_map_type(3), "type of direct map from 0 to 2")


@every_map
def test_a_direct_map_goes_through_files(kind, tmp_path):
    index = ours(n=100)
    index.set_direct_map_type(kind)
    deepq.write_index(index, tmp_path / "index.dpq")
    assert deepq.read_index(tmp_path / "index.dpq").direct_map.type == kind
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    back = deepq.from_faiss(faiss.read_index(str(tmp_path / "index.faiss")))
    assert back.direct_map.type == kind
    np.testing.assert_array_equal(back.search(XQ, 3), index.search(XQ, 3))


# ---- merging -------------------------------------------------------------------------------------


def test_ids_of_merged_indexes_follow_or_are_moved_as_asked():
    index, other = ours(n=100), ours(n=60)
    index.merge_from(other)
    other.add(X[:60])
    index.merge_from(other, 1000)
    ids = np.sort(np.concatenate([index.get_list(cell)[0] for cell in range(NLIST)]))
    np.testing.assert_array_equal(ids, [*range(160), *range(1000, 1060)])
    index.add(X[:1])
    assert index.reconstruct(1060).shape == (DIM,)
    assert (other.search(XQ, 2)[1] == -1).all()
    other.add(X[:1])
    assert other.search(X[:1], 1)[1] == 0


def test_what_faiss_has_read_is_merged(tmp_path):
    index, other = ours(n=100), ours(n=60)
    faiss.write_index(other, str(tmp_path / "other"))
    back = faiss.read_index(str(tmp_path / "other"))
    index.check_compatible_for_merge(back)
    index.merge_from(back)
    assert (index.ntotal, back.ntotal) == (160, 0)
    np.testing.assert_allclose(index.reconstruct(100), index.reconstruct(0))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda _: None, deepq.KindError),
        (lambda index: index, deepq.InputError),
        (lambda _: plain(), deepq.InputError),
        (lambda _: ours(5, n=4), deepq.InputError),
        (lambda _: ours(by_residual=False, n=4), deepq.InputError),
        (lambda _: ours(metric=faiss.METRIC_INNER_PRODUCT, n=4), deepq.InputError),
        (lambda _: deepq.DeepQuantIndex(DIM, 4, 4), deepq.InputError),
        (lambda _: deepq.DeepQuantIVFIndex(DIM, NLIST, 4, 4), deepq.InputError),
    ],
    ids=["none", "itself", "faiss", "width", "residual", "metric", "flat", "untrained"],
)
def test_what_does_not_fit_is_not_merged(make, error):
    index = ours(n=50)
    other = make(index)
    count = 0 if other is None else other.ntotal
    refused(index, lambda: index.merge_from(other), error=error)
    refused(index, lambda: index.check_compatible_for_merge(other), error=error)
    if other is not None:
        assert other.ntotal == count


def test_a_part_is_copied_as_faiss_does():
    index, right = ours(), plain()
    for kind, a1, a2 in ((0, 100, 300), (1, 3, 1), (2, 100, 900), (4, 2, 7)):
        mine, theirs = ours(n=0), plain(n=0)
        index.copy_subset_to(mine, kind, a1, a2)
        right.copy_subset_to(theirs, kind, a1, a2)
        assert mine.ntotal == theirs.ntotal > 0
        for cell in range(NLIST):
            assert mine.get_list_size(cell) == theirs.get_list_size(cell)
        mine.add(X[:1])
        assert len(X) in mine.get_list(int(mine.quantizer.assign(X[:1], 1)[0, 0]))[0]
    mapped = ours(n=0)
    mapped.make_direct_map()
    with pytest.raises(deepq.StateError, match="without a direct map"):
        index.copy_subset_to(mapped, 0, 1, 3)
    refused(index, lambda: index.copy_subset_to(ours(n=0), 77, 1, 3))


# ---- growing -------------------------------------------------------------------------------------


def room_of(vectors, cell):
    """Bytes that a vector in a list of faiss's has room for."""
    begin, _, end = (
        _mapped_lists.word(_mapped_lists.word(lists.address_of(vectors)) + 80 * cell + 8 * i)
        for i in (1, 2, 3)
    )
    return end - begin


def test_lists_that_grow_take_little_room():
    index, at_once = ours(n=0), ours(n=0)
    for rows in np.array_split(np.tile(X, (4, 1)), 50):
        index.add(rows)
    at_once.add(np.tile(X, (4, 1)))
    invlists = faiss.downcast_InvertedLists(index.invlists)
    for cell in range(NLIST):
        ids, codes = index.get_list(cell)
        for vectors, stored in ((invlists.ids, ids), (invlists.codes, codes)):
            assert stored.nbytes <= room_of(vectors, cell) <= stored.nbytes * 17 / 16 + 64
        for got, right in zip((ids, codes), at_once.get_list(cell), strict=True):
            np.testing.assert_array_equal(got, right)
