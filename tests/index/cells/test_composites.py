"""What faiss's composites ask of an index of cells: it answers as without them."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq

from .builders import DIM, IP, L2, NLIST, XQ, X, assert_same_results, ours

IDS = np.random.default_rng(3).permutation(len(X)) * 3 + 50
COMPOSITES = {
    "IDMap": faiss.IndexIDMap,
    "IDMap2": faiss.IndexIDMap2,
    "another around it": lambda index: faiss.IndexIDMap(faiss.IndexPreTransform(index)),
}
an_id_map = pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
PARAMS = {
    "none": lambda: None,
    "faiss's": lambda: faiss.SearchParametersIVF(nprobe=7),
    "faiss's of IVFPQ": lambda: faiss.IVFPQSearchParameters(nprobe=7),
    "with a limit": lambda: faiss.SearchParametersIVF(nprobe=7, max_codes=90),
    "ours": lambda: deepq.SearchParameters(nprobe=7),
    "any": faiss.SearchParameters,
}


def mapped(composite, metric=L2):
    inner = ours(metric=metric, n=0)
    outer = composite(inner)
    outer.add_with_ids(X, IDS)
    return outer, inner


def named(found):
    D, I = found
    return D, np.where(I < 0, -1, IDS[I])


@an_id_map
@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS)
def test_an_id_map_finds_the_same_with_any_parameters(composite, metric, params):
    outer, inner = mapped(composite, metric)
    got = outer.search(XQ, 6, params=params())
    right = named(ours(metric=metric).search(XQ, 6, params=params()))
    np.testing.assert_array_equal(got, right)
    few = IDS[::5]
    chosen = params() or deepq.SearchParameters()
    chosen.sel = faiss.IDSelectorBatch(few)
    got = outer.search(XQ, 6, params=chosen)
    assert np.isin(got[1], np.append(few, -1)).all()
    assert (got[1] >= 0).all()
    assert inner.ntotal == len(X)


@an_id_map
def test_a_range_search_through_an_id_map(composite):
    outer, inner = mapped(composite)
    inner.nprobe = NLIST  # older maps hand on no parameters but a selector
    for params in (None, deepq.SearchParameters(), faiss.SearchParametersIVF(nprobe=NLIST)):
        lims, D, I = outer.range_search(XQ, 60.0, params=params)
        right = ours()
        right.nprobe = NLIST
        theirs = right.range_search(XQ, 60.0)
        assert lims[-1] > 0
        for got, wanted in zip((lims, D, I), (*theirs[:2], IDS[theirs[2]]), strict=True):
            np.testing.assert_array_equal(got, wanted)


@an_id_map
def test_an_id_map_removes_the_right_ones(composite):
    outer, inner = mapped(composite)
    gone = IDS[100:700]
    assert outer.remove_ids(np.append(gone, [7, -3])) == len(gone)
    assert outer.ntotal == inner.ntotal == len(X) - len(gone)
    outer.add_with_ids(X[100:130], gone[:30])
    every = deepq.SearchParameters(nprobe=NLIST)
    right = ours(n=0)
    left = np.concatenate([X[:100], X[700:], X[100:130]])
    ids = np.concatenate([IDS[:100], IDS[700:], gone[:30]])
    right.add_with_ids(left, ids)
    got, wanted = outer.search(XQ, 8, params=every), right.search(XQ, 8, params=every)
    np.testing.assert_array_equal(np.sort(got[0]), np.sort(wanted[0]))
    assert_same_results(got, wanted)
    assert outer.remove_ids(faiss.IDSelectorBatch(gone)) == 30
    assert not np.isin(outer.search(XQ, 8, params=every)[1], gone).any()


def test_an_id_map_of_the_second_kind_reconstructs_after_a_removal():
    outer, _ = mapped(faiss.IndexIDMap2)
    outer.remove_ids(IDS[::2])
    right = ours()
    for row in (1, 7, 1499):
        np.testing.assert_allclose(outer.reconstruct(int(IDS[row])), right.reconstruct(row))


@pytest.mark.parametrize("mapped", [len(X), len(X) - 1])
def test_what_an_id_map_takes_for_positions_must_be_positions(mapped):
    index = ours()
    index.remove_ids(np.array([4]))
    with pytest.raises(deepq.StateError, match="somebody has changed the index inside"):
        index._remove_through(faiss.IDSelectorRange(0, 3), mapped)
    assert index.ntotal == len(X) - 1


@an_id_map
def test_id_maps_are_merged(composite):
    outer, _ = mapped(composite)
    other, inside = mapped(composite)
    outer.merge_from(other, 10_000)
    assert (outer.ntotal, other.ntotal, inside.ntotal) == (2 * len(X), 0, 0)
    I = outer.search(X[:30], 2)[1]
    np.testing.assert_array_equal(np.sort(I, axis=1), np.stack([IDS[:30], IDS[:30] + 10_000], 1))
    other.add_with_ids(X[:5], IDS[:5])
    outer.merge_from(other, 20_000)
    assert outer.remove_ids(IDS[:5] + 20_000) == 5


@an_id_map
def test_an_id_map_is_emptied_and_filled_again(composite):
    outer, inner = mapped(composite)
    outer.search(XQ, 3)
    outer.reset()
    assert inner.ntotal == outer.ntotal == 0
    outer.add_with_ids(X[::-1].copy(), IDS[::-1].copy())  # as many to a cell, but other ones
    np.testing.assert_array_equal(np.sort(outer.search(XQ, 6)[0]), np.sort(ours().search(XQ, 6)[0]))


@pytest.mark.parametrize("threaded", [False, True])
def test_shards_keep_ids_that_are_given(threaded):
    shards, inside = faiss.IndexShards(DIM, threaded, False), [ours(n=0) for _ in range(3)]
    for each in inside:
        shards.add_shard(each)
    shards.add_with_ids(X, IDS)
    assert [each.ntotal for each in inside] == [500, 500, 500]
    for params in (None, faiss.SearchParametersIVF(nprobe=5), deepq.SearchParameters(nprobe=5)):
        got = shards.search(XQ, 6, params=params)
        assert_same_results(got, named(ours().search(XQ, 6, params=params)))
    inside[0].add(X[:2])  # whose ids follow those that were given
    assert inside[0].search(X[:1], 1)[1] >= 0
    assert inside[0].get_list_size(0) <= 502


def test_replicas_share_out_the_queries():
    replicas = faiss.IndexReplicas(DIM, True)
    for _ in range(2):
        replicas.addIndex(ours(n=0))
    replicas.add(X)
    np.testing.assert_array_equal(replicas.search(XQ, 6), ours().search(XQ, 6))


def test_a_transform_in_front_hands_everything_on():
    turn = faiss.RandomRotationMatrix(DIM, DIM)
    turn.init(5)
    inner = ours(n=0)
    outer = faiss.IndexPreTransform(turn, inner)
    outer.add_with_ids(X, IDS)
    right = ours(n=0)
    right.add_with_ids(turn.apply(X), IDS)
    params = faiss.SearchParametersPreTransform(
        index_params=faiss.SearchParametersIVF(nprobe=6, max_codes=200)
    )
    inside = params.index_params
    assert inside is not None
    got = outer.search(XQ, 5, params=params)
    wanted = right.search(
        turn.apply(XQ), 5, params=faiss.SearchParametersIVF(nprobe=6, max_codes=200)
    )
    np.testing.assert_array_equal(got, wanted)
    assert outer.remove_ids(IDS[:9]) == 9
    assert outer.ntotal == inner.ntotal == len(X) - 9
    right.remove_ids(IDS[:9])
    np.testing.assert_array_equal(outer.search(XQ, 5)[1], right.search(turn.apply(XQ), 5)[1])
    outer.merge_from(faiss.IndexPreTransform(turn, other := ours(n=40)))
    assert (outer.ntotal, other.ntotal) == (len(X) + 31, 0)


def test_a_refinement_ranks_by_exact_distances():
    refined = faiss.IndexRefineFlat(ours(n=0))
    refined.k_factor = 20
    refined.add(X)
    D, I = refined.search(XQ, 3)
    np.testing.assert_allclose(D, np.square(XQ[:, None] - X[I]).sum(-1), rtol=1e-4, atol=1e-3)
    params = faiss.IndexRefineSearchParameters(
        k_factor=20, base_index_params=faiss.SearchParametersIVF(nprobe=NLIST)
    )
    assert (refined.search(XQ, 3, params=params)[0] <= D + 1e-3).all()


def test_functions_for_cells_find_them():
    index = ours()
    assert faiss.extract_index_ivf(index).nlist == NLIST
    assert faiss.try_extract_index_ivf(index) is not None
    faiss.extract_index_ivf(index).nprobe = 6
    assert index.nprobe == 6
    params = faiss.SearchParametersIVF(nprobe=3)
    got = faiss.search_with_parameters(index, XQ, 5, params)
    assert_same_results(got, index.search(XQ, 5, params=params))
    lims = faiss.range_search_with_parameters(index, XQ, 60.0, params)[0]
    np.testing.assert_array_equal(lims, index.range_search(XQ, 60.0, params=params)[0])


def test_cells_that_faiss_merges_by_itself_are_seen():
    index, other = ours(), ours(n=60)
    index.search(XQ, 4)
    faiss.merge_into(index, other, True)
    assert (index.ntotal, other.ntotal) == (len(X) + 60, 0)
    every = deepq.SearchParameters(nprobe=NLIST)
    I = index.search(X[:60], 40, params=every)[1]
    assert (len(X) + np.arange(60)[:, None] == I).any(axis=1).all()
    index.add(X[:1])
    assert len(X) + 60 in index.search(X[:1], 40, params=every)[1]
    assert index.reconstruct(len(X) + 60).shape == (DIM,)
    assert (other.search(XQ, 2)[1] == -1).all()
    other.add(X[:3])
    assert other.search(X[:3], 1, params=every)[1].max() <= 62


def test_the_index_inside_may_be_edited_by_faiss():
    index = ours()
    index.search(XQ, 4)
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    inner.remove_ids(np.arange(100))
    right = ours()
    right.remove_ids(np.arange(100))
    assert inner.ntotal == right.ntotal
    np.testing.assert_array_equal(index.search(XQ, 5), right.search(XQ, 5))
    inner.add(index.encoder.encode(X[:7]))
    index.add(X[:1])
    I = index.search(X[:1], 3, params=deepq.SearchParameters(nprobe=NLIST))[1]
    assert len(set(I[0].tolist())) == 3
