"""Inside faiss's composites, which see only the native object, the answers are the bare index's."""

import gc

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import DIM, L2, XB, XQ, XT

IDS = np.arange(len(XB)) * 7 + 1000
threaded = pytest.mark.parametrize("threaded", [False, True], ids=["serial", "threaded"])


def numbered(answer, ids=IDS):
    """Rename positions to ids."""
    D, I = answer
    return D, np.where(I < 0, -1, ids[I])


def right(index):
    return oracle.search(index, XQ, 25)


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_id_map_renames_the_answers(trained, index, composite):
    mapped = composite(trained)
    mapped.add_with_ids(XB, IDS)
    assert mapped.ntotal == trained.ntotal == len(XB)
    oracle.assert_same_neighbours(mapped.search(XQ, 5), numbered(right(index)))
    lims, D, I = mapped.range_search(XQ, 8.0)
    bare = index.range_search(XQ, 8.0)
    np.testing.assert_array_equal(lims, bare[0])
    np.testing.assert_allclose(np.sort(D), np.sort(bare[1]), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.sort(I), np.sort(IDS[bare[2]]))


@kinds.not_in_cells_of_faiss
@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_id_map_removes_by_id(trained, index, composite):
    mapped = composite(trained)
    mapped.add_with_ids(XB, IDS)
    assert mapped.remove_ids(IDS[::2]) == len(XB) // 2
    assert trained.ntotal == len(XB) // 2
    index.remove_ids(np.arange(0, len(XB), 2))
    oracle.assert_same_neighbours(mapped.search(XQ, 5), numbered(right(index), IDS[1::2]))


def test_an_id_map_trains_the_index_inside(kind):
    inside = kind.build(DIM, 4, 4, L2)
    mapped = faiss.IndexIDMap(inside)
    mapped.train(XT)
    assert mapped.is_trained
    assert inside.is_trained
    mapped.add_with_ids(XB, IDS)
    assert inside.ntotal == len(XB)
    oracle.assert_same_neighbours(mapped.search(XQ, 5), numbered(right(inside)))


@kinds.reversible_only
def test_an_id_map_of_the_second_kind_reconstructs(trained):
    mapped = faiss.IndexIDMap2(trained)
    mapped.add_with_ids(XB, IDS)
    np.testing.assert_allclose(
        mapped.reconstruct(int(IDS[9])), trained.reconstruct(9), rtol=1e-4, atol=1e-4
    )


@threaded
def test_shards_together_are_one_index(kind, metric, index, threaded):
    shards = faiss.IndexShards(DIM, threaded, True)
    for part in (XB[:150], XB[150:]):
        shard = kinds.trained(kind, metric)
        shard.add(part)
        shards.add_shard(shard)
    assert shards.ntotal == len(XB)
    oracle.assert_same_neighbours(shards.search(XQ, 5), right(index))


@threaded
def test_shards_share_out_what_is_added(kind, metric, index, threaded):
    shards = faiss.IndexShards(DIM, threaded, True)
    for _ in range(3):
        shards.add_shard(kinds.trained(kind, metric))
    shards.add(XB)
    assert shards.ntotal == len(XB)
    oracle.assert_same_neighbours(shards.search(XQ, 5), right(index))


@threaded
def test_replicas_share_out_the_queries(kind, metric, index, threaded):
    replicas = faiss.IndexReplicas(DIM, threaded)
    for _ in range(2):
        replicas.addIndex(kinds.trained(kind, metric))
    replicas.add(XB)
    assert replicas.ntotal == len(XB)
    oracle.assert_same_neighbours(replicas.search(XQ, 5), right(index))


def test_a_transform_in_front_turns_the_vectors_first(trained):
    turn = faiss.RandomRotationMatrix(DIM, DIM)
    turn.init(5)
    outer = faiss.IndexPreTransform(turn, trained)
    outer.add(XB)
    turned = turn.apply(XQ)
    np.testing.assert_array_equal(oracle.codes(trained), trained.sa_encode(turn.apply(XB)))
    oracle.assert_same_neighbours(outer.search(XQ, 5), oracle.search(trained, turned, 25))


@pytest.mark.parametrize("metric", [L2], ids=["l2"])
def test_refinement_ranks_by_exact_distances(trained):
    refined = faiss.IndexRefineFlat(trained)
    refined.k_factor = 20
    refined.add(XB)
    D, I = refined.search(XQ, 3)
    exact = ((XQ[:, None].astype(np.float64) - XB[I]) ** 2).sum(-1)
    np.testing.assert_allclose(D, exact, rtol=1e-4, atol=1e-4)
    for ids, shortlist in zip(I, trained.search(XQ, 60)[1], strict=True):
        assert set(ids) <= set(shortlist)


@kinds.flat_only
@pytest.mark.parametrize("nbits", [8])
@pytest.mark.parametrize("metric", [L2], ids=["l2"])
def test_a_parameter_space_sets_the_hamming_threshold(index):
    faiss.ParameterSpace().set_index_parameters(index, "ht=20")
    assert index.polysemous_ht == 20
    assert index.search_type == index.ST_polysemous
    faiss.ParameterSpace().set_index_parameter(index, "ht", 4 * 8 + 1)
    assert index.search_type == index.ST_PQ


@kinds.expressible_only
def test_a_composite_is_stored_by_plain_faiss(trained, index, tmp_path):
    mapped = faiss.IndexIDMap2(trained)
    mapped.add_with_ids(XB, IDS)
    faiss.write_index(mapped, str(tmp_path / "mapped"))
    back = faiss.read_index(str(tmp_path / "mapped"))
    oracle.assert_same_neighbours(back.search(XQ, 5), numbered(right(index)))


def test_the_index_can_be_taken_out_of_a_composite(trained):
    mapped = faiss.IndexIDMap(trained)
    mapped.add_with_ids(XB, IDS)
    inside = faiss.downcast_index(mapped.index)
    oracle.assert_same_neighbours(inside.search(XQ, 5), right(trained))


def test_what_is_added_through_python_is_seen_by_the_composite(trained):
    turn = faiss.RandomRotationMatrix(DIM, DIM)
    turn.init(5)
    outer = faiss.IndexPreTransform(turn, trained)
    trained.add(XB)
    oracle.assert_same_neighbours(outer.index.search(XQ, 5), oracle.search(trained, XQ, 25))


WRAPPERS = {
    "IDMap": faiss.IndexIDMap,
    "IDMap2": faiss.IndexIDMap2,
    "RefineFlat": faiss.IndexRefineFlat,
    "PreTransform": lambda index: faiss.IndexPreTransform(index),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_composite_keeps_the_index_alive(kind, metric, wrap):
    outer = wrap(kinds.trained(kind, metric))
    gc.collect()
    if isinstance(outer, faiss.IndexIDMap):
        outer.add_with_ids(XB, IDS)
    else:
        outer.add(XB)
    assert (outer.search(XQ, 3)[1] >= 0).all()


@pytest.mark.parametrize("n", [1, 3])
def test_shards_and_replicas_keep_their_indexes_alive(kind, metric, n):
    shards, replicas = faiss.IndexShards(DIM, True, True), faiss.IndexReplicas(DIM, True)
    for _ in range(n):
        shards.add_shard(kinds.filled(kind, metric))
        replicas.addIndex(kinds.filled(kind, metric))
    gc.collect()
    assert shards.search(XQ, 3)[1].max() < n * len(XB)
    assert (replicas.search(XQ, 3)[1] >= 0).all()


def test_the_index_outlives_its_composite(trained):
    mapped = faiss.IndexIDMap(trained)
    mapped.add_with_ids(XB, IDS)
    del mapped
    gc.collect()
    oracle.assert_same_neighbours(trained.search(XQ, 5), right(trained))
    trained.add(XQ)
    assert trained.ntotal == len(XB) + len(XQ)


@kinds.flat_only
@pytest.mark.parametrize("part", ["pq", "codes"])
def test_a_part_may_be_used_after_a_search(index, part):
    held = getattr(index, part)
    index.search(XQ, 3)
    gc.collect()
    vector = held.centroids if part == "pq" else held
    assert faiss.vector_to_array(vector).size > 0
