"""What faiss's composites ask of an index inside: answers, parameters and errors are its own."""

from __future__ import annotations

import gc

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq.index.native import called

D, N = 8, 300
RNG = np.random.default_rng(1)
XB = RNG.integers(0, 3, (N, D)).astype(np.float32)  # whose scores tie
XQ = RNG.standard_normal((7, D), dtype=np.float32)
BOOKS = RNG.integers(0, 3, (4, 16, 2)).astype(np.float32)
IDS = RNG.permutation(N) * 3 + 50


def filled(metric: int = faiss.METRIC_L2) -> deepq.DeepQuantIndex:
    index = deepq.DeepQuantIndex.from_codebooks(BOOKS, metric=metric)
    index.add(XB)
    return index


def mapped(index: deepq.DeepQuantIndex) -> faiss.IndexIDMap2:
    outer = faiss.IndexIDMap2(index)
    outer.add_with_ids(XB, IDS)
    return outer


def empty(metric: int = faiss.METRIC_L2) -> deepq.DeepQuantIndex:
    return deepq.DeepQuantIndex.from_codebooks(BOOKS, metric=metric)


def refined(index: deepq.DeepQuantIndex) -> faiss.IndexRefineFlat:
    outer = faiss.IndexRefineFlat(index)
    outer.add(XB)
    return outer


@pytest.fixture(params=[faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT], ids=["l2", "ip"])
def metric(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize("k", [1, 9, N + 5])
def test_the_same_answers_ties_included(metric, k):
    right = filled(metric).search(XQ, k)
    through = mapped(empty(metric)).search(XQ, k)
    np.testing.assert_array_equal(through[0], right[0])
    np.testing.assert_array_equal(through[1], np.where(right[1] < 0, -1, IDS[right[1]]))
    turned = faiss.IndexPreTransform(filled(metric))
    np.testing.assert_array_equal(turned.search(XQ, k), right)
    replicas = faiss.IndexReplicas(D, True)
    for _ in range(2):
        replicas.addIndex(filled(metric))
    np.testing.assert_array_equal(replicas.search(XQ, k), right)


def test_the_raw_search_is_that_of_the_index(metric):
    index = filled(metric)
    found, ids = np.empty((7, 4), np.float32), np.empty((7, 4), np.int64)
    index.search_c(7, faiss.swig_ptr(XQ), 4, faiss.swig_ptr(found), faiss.swig_ptr(ids))
    np.testing.assert_array_equal((found, ids), index.search(XQ, 4))


def test_a_range_search_too(metric):
    thresh = 9.0 if metric == faiss.METRIC_L2 else 2.0
    lims, scores, ids = filled(metric).range_search(XQ, thresh)
    got = mapped(empty(metric)).range_search(XQ, thresh)
    assert lims[-1] > 0
    for ours, right in zip(got, (lims, scores, IDS[ids]), strict=True):
        np.testing.assert_array_equal(ours, right)


def test_a_refinement_starts_from_the_answers_of_the_index():
    outer = refined(empty())
    outer.k_factor = 4
    short = filled().search(XQ, 12)[1]
    exact = np.square(XQ[:, None] - XB[short]).sum(axis=2)
    np.testing.assert_allclose(outer.search(XQ, 3)[0], np.sort(exact, axis=1)[:, :3], rtol=1e-5)
    params = faiss.IndexRefineSearchParameters(
        k_factor=4, base_index_params=deepq.SearchParameters()
    )
    np.testing.assert_array_equal(outer.search(XQ, 3, params=params), outer.search(XQ, 3))


SELECTORS = {
    "range": lambda _: faiss.IDSelectorRange(200, 600),
    "batch": faiss.IDSelectorBatch,
    "array": faiss.IDSelectorArray,
    "not": lambda ids: faiss.IDSelectorNot(faiss.IDSelectorBatch(ids)),
    "none": lambda ids: faiss.IDSelectorBatch(ids[:0]),
}


@pytest.mark.parametrize("make", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize(
    "of", [faiss.SearchParameters, faiss.SearchParametersPQ, deepq.SearchParameters]
)
def test_selectors_pick_the_ids_of_the_map(metric, make, of):
    chosen = IDS[::5]
    sel = make(chosen)
    allowed = np.array([sel.is_member(int(each)) for each in IDS])
    right = filled(metric).search(XQ, 9, params=deepq.SearchParameters(sel=allowed))
    got = mapped(empty(metric)).search(XQ, 9, params=of(sel=sel))
    np.testing.assert_array_equal(got[0], right[0])
    np.testing.assert_array_equal(got[1], np.where(right[1] < 0, -1, IDS[right[1]]))


def test_a_chain_around_hands_parameters_on():
    outer, sel = faiss.IndexPreTransform(filled()), faiss.IDSelectorRange(3, 40)
    inside = deepq.SearchParameters(sel=sel)
    params = faiss.SearchParametersPreTransform(index_params=inside)
    right = filled().search(XQ, 5, params=inside)
    np.testing.assert_array_equal(outer.search(XQ, 5, params=params), right)


def test_parameters_of_another_class_are_refused():
    with pytest.raises(RuntimeError, match="got SearchParametersIVF"):
        mapped(empty()).search(XQ, 5, params=faiss.SearchParametersIVF(nprobe=3))


def test_other_search_types_are_the_index_s():
    outer = mapped(empty())
    params = faiss.SearchParametersPQ()
    params.search_type = faiss.IndexPQ.ST_SDC
    with pytest.raises(RuntimeError, match="nbits = 8 for symmetric search"):
        outer.search(XQ, 5, params=params)


def test_errors_of_the_index_come_out_and_nothing_is_added():
    inside = empty()
    outer = faiss.IndexIDMap2(inside)
    bad = XB.copy()
    bad[4, 2] = np.nan
    with pytest.raises(RuntimeError, match="InputError: expected finite numbers in x"):
        outer.add_with_ids(bad, IDS)
    assert (inside.ntotal, outer.ntotal, outer.id_map.size()) == (0, 0, 0)
    with pytest.raises(RuntimeError, match=r"InputError: expected .* from 0 to"):
        filled().reconstruct_c(N, faiss.swig_ptr(np.empty(D, np.float32)))


def test_what_was_handed_over_is_not_kept():
    kept = []

    class Keeping(deepq.DeepQuantIndex):
        def add(self, x, **options):
            super().add(x, **options)
            kept.append(x)

    inside = Keeping(D, 4, 4)
    inside.codebooks = BOOKS
    rows = XB.copy()
    faiss.IndexPreTransform(inside).add(rows)
    rows[:] = 7
    np.testing.assert_array_equal(kept[0], XB)


def test_an_index_that_is_gone_leaves_its_chain_to_faiss():
    index = filled()
    chain, right = index._native.chain, index.search(XQ, 5)
    del index
    gc.collect()
    np.testing.assert_allclose(chain.search(XQ, 5)[0], right[0], rtol=1e-5)


def test_no_queries_and_no_rows():
    outer = mapped(empty())
    assert outer.search(XQ[:0], 5)[0].shape == (0, 5)
    outer.index.add(XB[:0])
    assert outer.index.reconstruct_n(4, 0).shape == (0, D)
    assert outer.range_search(XQ[:0], 1.0)[0].tolist() == [0]


@given(st.sets(st.integers(0, 99)), st.integers(0, 12), st.integers(0, 99))
def test_members_of_a_selector(ids, byte, last):
    sel = faiss.IDSelectorBatch(np.array(sorted(ids), np.int64))
    bits = called.members(sel, 8 * byte, max(last, 8 * byte))
    got = np.flatnonzero(np.unpackbits(bits, bitorder="little")) + 8 * byte
    assert set(got.tolist()) == {each for each in ids if 8 * byte <= each < last}
