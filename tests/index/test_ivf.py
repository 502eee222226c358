"""Indexes of cells: what code written for faiss.IndexIVFPQ finds in ours."""

from __future__ import annotations

import copy
import pickle

import faiss
import numpy as np
import pytest

import deepq
from deepq.quantizers import reranking

DIM, NLIST, M = 16, 12, 4
CLASSES = {"faiss": faiss.IndexIVFPQ, "deepq": deepq.DeepQuantIVFIndex}


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    return (rng.standard_normal((3000, DIM)) @ rng.standard_normal((DIM, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def queries(x):
    return x[:40] + np.float32(0.05)


@pytest.fixture(scope="module")
def trained(x):
    index = deepq.DeepQuantIVFIndex(DIM, NLIST, M)
    index.train(x)
    return index


@pytest.fixture
def index(trained, x):
    filled = copy.deepcopy(trained)
    filled.add(x)
    filled.nprobe = 4
    return filled


def rebuilt(index):
    """What plain faiss makes of an index."""
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    faiss.extract_index_ivf(plain).nprobe = index.nprobe
    return plain


# ---- the surface ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
def test_a_script_for_faiss_runs(kind, x, queries):
    coarse = faiss.IndexFlatL2(DIM)
    index = CLASSES[kind](coarse, DIM, NLIST, M, 8)
    index.train(x)
    assert index.is_trained
    assert coarse.ntotal == NLIST
    index.add(x)
    index.nprobe = 5
    D, I = index.search(queries, 7)
    assert D.shape == I.shape == (40, 7)
    assert (I[:, 0] == np.arange(40)).mean() > 0.8
    assert (np.diff(D, axis=1) >= 0).all()
    assert (
        index.search(queries, 7, params=faiss.SearchParametersIVF(nprobe=NLIST))[0].sum() <= D.sum()
    )
    assert sum(index.get_list_size(cell) for cell in range(index.nlist)) == index.ntotal == len(x)
    index.add_with_ids(x[:5], np.arange(10**6, 10**6 + 5))
    assert set(index.search(x[:5], 3)[1][:, 1].tolist()) & set(range(10**6, 10**6 + 5))
    assert index.remove_ids(np.arange(100)) == 100
    assert not (index.search(queries, 7)[1] < 100)[index.search(queries, 7)[1] >= 0].any()
    assert index.sa_code_size() == M + 1
    assert faiss.extract_index_ivf(index).nlist == NLIST
    index.reset()
    assert index.ntotal == 0


@pytest.mark.parametrize("kind", CLASSES)
def test_arguments_may_be_named(kind):
    index = CLASSES[kind](faiss.IndexFlatL2(DIM), DIM, NLIST, M, 8, faiss.METRIC_L2)
    assert (index.d, index.nlist, index.code_size, index.nprobe) == (DIM, NLIST, M, 1)
    assert isinstance(index, faiss.IndexIVFPQ)


# ---- construction --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "error"),
    [
        ((DIM, NLIST), {}, TypeError),
        ((DIM, NLIST, M, 8, 1, 1), {}, TypeError),
        ((DIM, 0, M), {}, ValueError),
        ((DIM, NLIST, 5), {}, ValueError),
        ((DIM, NLIST, M), {"coarse": "imi"}, ValueError),
        ((4, 16, 2), {"coarse": "imi"}, ValueError),
        ((DIM, NLIST, M), {"coarse": "tree"}, ValueError),
        ((faiss.IndexFlatL2(DIM + 1), DIM, NLIST, M), {}, ValueError),
        ((DIM, NLIST, M), {"d": DIM}, TypeError),
    ],
)
def test_bad_arguments_are_refused(args, options, error):
    with pytest.raises(error, match="expected"):
        deepq.DeepQuantIVFIndex(*args, **options)


def test_too_few_rows_for_the_cells_are_refused(x):
    index = deepq.DeepQuantIVFIndex(DIM, 500, M, 4)
    with pytest.raises(deepq.InputError, match="at least 500 training vectors for as many cells"):
        index.train(x[:400])
    assert not index.is_trained
    index.train(x)
    assert index.is_trained


# ---- searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metric": faiss.METRIC_INNER_PRODUCT},
        {"metric": "cosine"},
        {"by_residual": False},
        {"nbits": 4},
        {"nlist": 16, "coarse": "imi"},
        {"quantizer": faiss.IndexHNSWFlat},
    ],
    ids=str,
)
def test_plain_faiss_finds_the_same(options, x, queries):
    given = {"d": DIM, "nlist": NLIST, "M": M, **options}
    if "quantizer" in options:
        given["quantizer"] = options["quantizer"](DIM, 8)
    index = deepq.DeepQuantIVFIndex(**given)
    index.train(x)
    index.add(x)
    for nprobe in (1, 3, NLIST):
        index.nprobe = nprobe
        D, I = index.search(queries, 8)
        plain_D, plain_I = rebuilt(index).search(queries, 8)
        np.testing.assert_allclose(D, plain_D, rtol=1e-3, atol=1e-3)
        assert (plain_I == I).mean() > 0.99
    again = pickle.loads(pickle.dumps(index))
    for one, other in zip(again.search(queries, 8), index.search(queries, 8), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_search_does_not_depend_on_its_company(index, queries):
    D, I = index.search(queries, 6)
    for q in range(len(queries)):
        one = index.search(queries[q : q + 1], 6)
        np.testing.assert_array_equal(one[1][0], I[q])
        np.testing.assert_allclose(one[0][0], D[q], rtol=1e-5)  # the encoder's last digits do


def test_parameters_of_a_call(index, queries):
    whole = index.search(queries, 5, params=deepq.SearchParameters(nprobe=NLIST))
    assert (whole[0] <= index.search(queries, 5)[0]).all()
    theirs = index.search(queries, 5, params=faiss.SearchParametersIVF())
    ours = index.search(queries, 5, params=deepq.SearchParameters(nprobe=1))
    np.testing.assert_array_equal(theirs[1], ours[1])  # faiss's class brings an nprobe of 1
    kept = index.search(queries, 5, params=deepq.SearchParameters())
    np.testing.assert_array_equal(kept[1], index.search(queries, 5)[1])
    with pytest.raises(deepq.InputError, match="nprobe"):
        index.search(queries, 5, params=faiss.SearchParametersIVF(nprobe=0))


def test_selectors(index, queries):
    few = np.arange(0, 3000, 17)
    for sel in (few, faiss.IDSelectorBatch(few), np.isin(np.arange(3000), few)):
        I = index.search(queries, 4, params=deepq.SearchParameters(sel=sel, nprobe=NLIST))[1]
        assert (I % 17 == 0).all()
        assert (I >= 0).all()
    lims, _, ids = index.range_search(queries, 1e9, params=deepq.SearchParameters(sel=few))
    assert (ids % 17 == 0).all()
    assert lims[-1] == len(ids)
    ranged = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(0, 50, True), nprobe=NLIST)
    I = index.search(queries, 4, params=ranged)[1]
    assert ((I >= 0) & (I < 50)).all()


def test_range_search_finds_what_search_does(index, queries):
    D, I = index.search(queries, 20)
    radius = float(D[:, 9].max())
    lims, found_D, found_I = index.range_search(queries, radius)
    for q in range(len(queries)):
        part = slice(int(lims[q]), int(lims[q + 1]))
        near = D[q] < radius
        assert set(I[q][near]) <= set(found_I[part].tolist())
        assert (found_D[part] < radius).all()


def test_preassigned_cells_are_looked_into(index, queries):
    distances, cells = index.quantizer.search(index.encoder.encode(queries), 4)
    D, I = index.search_preassigned(queries, 5, cells, distances)
    np.testing.assert_array_equal(I, index.search(queries, 5)[1])
    twice = np.concatenate([cells, cells[:, :1], np.full((40, 1), -1)], axis=1)
    np.testing.assert_array_equal(index.search_preassigned(queries, 5, twice, None)[1], I)
    wrong = index.search_preassigned(queries, 5, cells, distances * 0)
    np.testing.assert_array_equal(wrong[0], D)  # distances that are given play no part
    lims, _, _ = index.range_search_preassigned(queries, float(D.max()), cells, distances)
    assert lims[-1] >= (D.max() > D).sum()
    with pytest.raises(deepq.InputError, match="expected cells from -1 to 11"):
        index.search_preassigned(queries, 5, cells + NLIST, distances)


def test_queries_that_are_not_finite_find_nothing(index, queries):
    spoiled = queries.copy()
    spoiled[3, 1] = np.nan
    D, I = index.search(spoiled, 3)
    assert (I[3] == -1).all()
    assert (D[3] == np.finfo(np.float32).max).all()
    others = np.delete(np.arange(40), 3)
    np.testing.assert_array_equal(I[others], index.search(queries, 3)[1][others])


def test_results_with_vectors_and_codes(index, queries):
    D, I, R = index.search_and_reconstruct(queries, 3)
    np.testing.assert_allclose(R[0, 0], index.reconstruct(int(I[0, 0])), rtol=1e-5)
    _, _, codes = index.search_and_return_codes(queries, 3, include_listnos=True)
    np.testing.assert_allclose(index.sa_decode(codes[:, 0]), R[:, 0], rtol=1e-4, atol=1e-4)
    assert D.shape == codes.shape[:2]


# ---- editing -------------------------------------------------------------------------------------


def test_ids_are_never_given_twice(index, x):
    assert index.remove_ids(np.arange(2900, 3000)) == 100
    index.add(x[:5])
    assert sorted(index.search(x[:5], 2)[1].max(axis=1).tolist()) == [3000, 3001, 3002, 3003, 3004]
    index.reset()
    index.add(x[:5])
    assert sorted(index.search(x[:5], 1, params=deepq.SearchParameters(nprobe=NLIST))[1][:, 0]) == [
        *range(5)
    ]


def test_reconstruction_by_id_needs_no_direct_map(index, x):
    index.add_with_ids(x[:2], np.array([77_000, 5_000_000_000]))
    z = index.reconstruct_batch(np.array([5_000_000_000, 3]))
    np.testing.assert_allclose(z[0], index.reconstruct(1), rtol=1e-5, atol=1e-5)
    with pytest.raises(deepq.InputError, match="ids of stored vectors, got 123456"):
        index.reconstruct(123_456)
    assert index.reconstruct_n(10, 4).shape == (4, DIM)


def test_vectors_are_replaced(index, x):
    index.update_vectors(np.array([4, 9]), x[[100, 200]])
    np.testing.assert_array_equal(index.reconstruct(4), index.reconstruct(100))
    assert index.ntotal == 3000
    with pytest.raises(deepq.InputError, match="each id once"):
        index.update_vectors(np.array([4, 4]), x[:2])
    with pytest.raises(deepq.InputError, match="stored"):
        index.update_vectors(np.array([4, 40_000]), x[:2])
    np.testing.assert_array_equal(index.reconstruct(4), index.reconstruct(100))


def test_merging_shifts_ids(index, trained, x):
    other = copy.deepcopy(trained)
    other.add(x[:50])
    index.merge_from(other)
    assert (index.ntotal, other.ntotal) == (3050, 0)
    assert set(range(3000, 3050)) <= set(index.search(x[:50], 2)[1].ravel().tolist())
    other.add_with_ids(x[:1], np.array([1]))
    index.merge_from(other, 10_000)
    assert 10_001 in index.search(x[:1], 3)[1]
    different = deepq.DeepQuantIVFIndex(DIM, NLIST, M)
    different.train(x[:2000])
    with pytest.raises(deepq.InputError, match="same encoder and codebooks"):
        index.merge_from(different)


def test_a_part_is_copied(index, trained):
    part = copy.deepcopy(trained)
    index.copy_subset_to(part, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, 100, 200)
    assert part.ntotal == 100
    np.testing.assert_array_equal(part.reconstruct(150), index.reconstruct(150))


def test_lists_changed_from_outside_are_looked_at(index, queries):
    lists = index.invlists
    cell = int(np.argmax([lists.list_size(cell) for cell in range(NLIST)]))
    codes = np.repeat(index._native.table.list_of(cell)[0][:1], lists.list_size(cell), axis=0)
    ids = index._native.table.list_of(cell)[1]
    index.search(queries, 5)
    index.invlists.update_entries(cell, 0, len(codes), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    np.testing.assert_array_equal(index.search(queries, 5)[1], rebuilt(index).search(queries, 5)[1])


@pytest.mark.parametrize(
    "ids", [np.array([-1, 2]), np.array([1.0, 2.0]), np.array([1]), [1, 2]], ids=str
)
def test_bad_ids_are_refused(index, x, ids):
    with pytest.raises((ValueError, TypeError), match="expected"):
        index.add_with_ids(x[:2], ids)
    assert index.ntotal == 3000


def test_bad_vectors_are_refused(index, x):
    spoiled = x[:3].copy()
    spoiled[1, 0] = np.inf
    with pytest.raises(deepq.InputError, match="finite"):
        index.add(spoiled)
    assert index.ntotal == 3000
    with pytest.raises(deepq.StateError, match="empty index"):
        index.train(x)


# ---- composites, copies, files -------------------------------------------------------------------


def test_composites_call_it(index, trained, x, queries):
    D, I = index.search(queries, 5)
    shards = faiss.IndexShards(DIM)
    shards.add_shard(index)
    np.testing.assert_array_equal(shards.search(queries, 5)[1], I)
    inner = copy.deepcopy(trained)
    outer = faiss.IndexIDMap2(inner)
    outer.add_with_ids(x, np.arange(len(x)) + 500)
    inner.nprobe = index.nprobe
    np.testing.assert_array_equal(outer.search(queries, 5)[1], I + 500)
    np.testing.assert_array_equal(outer.search(queries, 5)[0], D)


def test_files(index, queries, tmp_path):
    right = index.search(queries, 5)
    index.remove_ids(np.arange(2990, 3000))
    deepq.write_index(index, tmp_path / "cells.dpq")
    back = deepq.read_index(tmp_path / "cells.dpq")
    assert type(back) is deepq.DeepQuantIVFIndex
    assert (back.nprobe, back.ntotal, back.nlist) == (4, 2990, NLIST)
    for one, other in zip(back.search(queries, 5), index.search(queries, 5), strict=True):
        np.testing.assert_array_equal(one, other)
    back.add(queries[:1])
    assert 3000 in back.search(queries[:1], 3)[1]
    faiss.write_index(index, str(tmp_path / "cells.faiss"))
    plain = faiss.read_index(str(tmp_path / "cells.faiss"))
    faiss.extract_index_ivf(plain).nprobe = 4
    assert (plain.search(queries, 5)[1] == index.search(queries, 5)[1]).mean() > 0.99
    assert right[0].shape == (40, 5)


def test_from_faiss_and_back(index, x, queries):
    plain = faiss.index_factory(DIM, f"OPQ{M},IVF{NLIST},PQ{M}x8")
    plain.train(x)
    plain.add(x)
    faiss.extract_index_ivf(plain).nprobe = 3
    ours = deepq.from_faiss(plain)
    assert isinstance(ours, deepq.DeepQuantIVFIndex)
    assert (ours.nprobe, ours.ntotal) == (3, len(x))
    np.testing.assert_array_equal(ours.search(queries, 5)[1], plain.search(queries, 5)[1])
    bare = faiss.IndexIVFPQ(faiss.IndexFlatL2(DIM), DIM, NLIST, M, 4)
    bare.train(x)
    bare.add_with_ids(x, np.arange(len(x)) * 3)
    np.testing.assert_array_equal(
        deepq.from_faiss(bare).search(queries, 5)[1], bare.search(queries, 5)[1]
    )
    back = deepq.to_faiss(index)
    assert type(back) is faiss.IndexPreTransform
    again = deepq.from_faiss(back)
    np.testing.assert_array_equal(
        again.search(queries, 5, params=deepq.SearchParameters(nprobe=4))[1],
        index.search(queries, 5)[1],
    )
    with pytest.raises(TypeError, match="IndexFlat, IndexHNSWFlat or MultiIndexQuantizer"):
        deepq.from_faiss(faiss.index_factory(DIM, "IVF16(PQ4x4),PQ4"))


def test_pickles_are_read_without_running_them(index, queries, tmp_path):
    (tmp_path / "cells.pickle").write_bytes(pickle.dumps(index))
    back = deepq.load_pickle(tmp_path / "cells.pickle")
    np.testing.assert_array_equal(back.search(queries, 5)[1], index.search(queries, 5)[1])


def test_an_untrained_index_is_kept(tmp_path):
    index = deepq.DeepQuantIVFIndex(DIM, 16, M, coarse="imi", by_residual=False)
    deepq.write_index(index, tmp_path / "cells.dpq")
    back = deepq.read_index(tmp_path / "cells.dpq")
    assert isinstance(back.quantizer, faiss.MultiIndexQuantizer)
    assert (back.by_residual, back.is_trained, back.nlist) == (False, False, 16)


# ---- re-ranking ----------------------------------------------------------------------------------


def with_decoder(index):
    """Give an index a decoder of random numbers, near to its codewords."""
    rng = np.random.default_rng(1)
    books = index.codebooks
    M_, ksub, dsub = books.shape
    d, h = M_ * dsub, 8
    tables = np.zeros((M_, ksub, d), np.float32)
    for m in range(M_):
        tables[m, :, m * dsub : (m + 1) * dsub] = books[m]
    arrays = {
        "sites": books,
        "tables": tables,
        "features": rng.standard_normal((M_, ksub, h)),
        "inner": rng.standard_normal((h, h)),
        "bias": rng.standard_normal(h),
        "outer": rng.standard_normal((h, h)),
        "output": rng.standard_normal((h, d)) / 20,
        "centre": np.zeros(d),
    }
    quantizer = copy.copy(index.product_quantizer)
    quantizer.decoder = deepq.decoders.Decoder(arrays)
    index._inject(index.encoder, quantizer)
    index.rerank = 60
    return index


@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_reranked_results_are_ordered_by_decoded_vectors(metric, x, queries):
    index = deepq.DeepQuantIVFIndex(DIM, NLIST, M, 8, metric)
    index.train(x)
    with_decoder(index).add(x)
    index.nprobe = NLIST
    D, I, R = index.search_and_reconstruct(queries, 5)
    z, decoded = index.encoder.encode(queries), index.encoder.encode(R.reshape(-1, DIM))
    decoded = decoded.reshape(*I.shape, DIM)
    if metric == faiss.METRIC_L2:
        exact = np.square(z[:, None] - decoded).sum(axis=2)
        assert (np.diff(D, axis=1) >= 0).all()
    else:
        exact = (z[:, None] * decoded).sum(axis=2)
        assert (np.diff(D, axis=1) <= 0).all()
    np.testing.assert_allclose(D, exact, rtol=1e-3, atol=1e-2)
    tables = deepq.SearchParameters(rerank=0, nprobe=NLIST)
    assert (index.search(queries, 5, params=tables)[1] != I).any()
    again = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(again.search(queries, 5)[1], I)


def test_ranking_anew_in_several_threads_is_that_of_one(trained, x, queries, monkeypatch):
    index = with_decoder(copy.deepcopy(trained))
    index.add(x)
    right = index.search(queries, 5, params=deepq.SearchParameters(nprobe=7, num_threads=1))
    monkeypatch.setattr(reranking, "_NUMBERS", 3 * 60 * DIM)  # three queries a block
    for threads in (1, 3):
        params = deepq.SearchParameters(nprobe=7, num_threads=threads)
        np.testing.assert_array_equal(index.search(queries, 5, params=params), right)


def test_composites_rank_anew_as_well(trained, x, queries):
    inner, bare = with_decoder(copy.deepcopy(trained)), with_decoder(copy.deepcopy(trained))
    outer = faiss.IndexIDMap2(inner)
    outer.add_with_ids(x, np.arange(len(x)) + 500)
    bare.add(x)
    for params in (
        None,
        deepq.SearchParameters(nprobe=7),
        deepq.SearchParameters(nprobe=7, rerank=0),
        faiss.SearchParametersIVF(nprobe=7, max_codes=200),
        faiss.SearchParametersIVF(nprobe=7, sel=None),
    ):
        D, I = bare.search(queries, 5, params=params)
        got = outer.search(queries, 5, params=params)
        np.testing.assert_array_equal(got[1], I + 500)
        np.testing.assert_allclose(got[0], D, rtol=1e-5)
    assert outer.remove_ids(np.arange(500, 600)) == 100
    assert bare.remove_ids(np.arange(100)) == 100
    np.testing.assert_array_equal(outer.search(queries, 5)[1], bare.search(queries, 5)[1] + 500)


def test_a_decoder_is_learned_where_it_pays(x):
    index = deepq.DeepQuantIVFIndex(DIM, 8, 2, 4, rerank=50)
    index.train(x)
    index.add(x)
    assert index.search(x[:10], 3)[1].shape == (10, 3)
