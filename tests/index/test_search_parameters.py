"""Searches restricted to some vectors: every selector, every way to scan, against a full search."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepq
from deepq import encoders

N, DIM = 3000, 16


@pytest.fixture(scope="module", params=[faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def index(request):
    rng = np.random.default_rng(0)
    index = deepq.DeepQuantIndex(DIM, 4, 6, request.param, encoder=encoders.Identity(DIM))
    index.train(rng.standard_normal((2500, DIM)).astype(np.float32))
    index.add(rng.standard_normal((N, DIM)).astype(np.float32))
    return index


XQ = np.random.default_rng(1).standard_normal((20, DIM)).astype(np.float32)


def ids_of_share(share, seed=2):
    return np.random.default_rng(seed).permutation(N)[: int(share * N)]


def flags_of(ids):
    flags = np.zeros(N, bool)
    flags[ids] = True
    return flags


def expected(index, flags, k):
    """The best k of a full ranking that have a flag."""
    D, I = index.search(XQ, N)
    rows = [np.flatnonzero(flags[row])[:k] for row in I]
    largest = np.finfo(np.float32).max
    worst = -largest if index.metric_type == faiss.METRIC_INNER_PRODUCT else largest
    D_out = np.full((len(XQ), k), worst, np.float32)
    I_out = np.full((len(XQ), k), -1, np.int64)
    for q, row in enumerate(rows):
        D_out[q, : len(row)], I_out[q, : len(row)] = D[q, row], I[q, row]
    return D_out, I_out


SELECTORS = {
    "array": faiss.IDSelectorArray,
    "batch": faiss.IDSelectorBatch,
    "bitmap": lambda ids: faiss.IDSelectorBitmap(np.packbits(flags_of(ids), bitorder="little")),
    "not": lambda ids: faiss.IDSelectorNot(faiss.IDSelectorArray(np.flatnonzero(~flags_of(ids)))),
    "ids": lambda ids: ids,
    "booleans": flags_of,
}


@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.1, 0.5, 1])
@pytest.mark.parametrize("kind", SELECTORS)
def test_only_selected_vectors_are_found(index, kind, share):
    ids = ids_of_share(share)
    params = deepq.SearchParameters(sel=SELECTORS[kind](ids))
    for k in (1, 10, 500):
        got = index.search(XQ, k, params=params)
        np.testing.assert_array_equal(got, expected(index, flags_of(ids), k))


def selectors():
    """Selectors of every kind, made of each other, and the flags they stand for."""
    ids = st.lists(st.integers(-2, N + 2), max_size=30) | st.integers(0, 9).map(
        lambda seed: ids_of_share(0.5, seed)
    )
    leaves = st.tuples(st.sampled_from(["array", "batch", "bitmap"]), ids).map(leaf)
    ranges = st.tuples(st.integers(-2, N + 2), st.integers(-2, N + 2)).map(
        lambda b: (faiss.IDSelectorRange(*b), between(*b))
    )
    everything = st.builds(lambda: (faiss.IDSelectorAll(), np.ones(N, bool)))
    pairs = st.sampled_from(["And", "Or", "XOr"])
    return st.recursive(
        leaves | ranges | everything,
        lambda inner: (
            inner.map(lambda one: (faiss.IDSelectorNot(one[0]), ~one[1]))
            | st.tuples(pairs, inner, inner).map(joined)
        ),
        max_leaves=6,
    )


def leaf(drawn):
    kind, ids = drawn
    ids = np.array(ids, np.int64)
    ids = ids[(ids >= 0) & (ids < N)] if kind == "bitmap" else ids
    return SELECTORS[kind](ids), np.isin(np.arange(N), ids)


def between(begin, end):
    return (np.arange(N) >= begin) & (np.arange(N) < end)


def joined(drawn):
    name, (one, ones), (other, others) = drawn
    operation = {"And": np.logical_and, "Or": np.logical_or, "XOr": np.logical_xor}[name]
    return getattr(faiss, f"IDSelector{name}")(one, other), operation(ones, others)


@settings(max_examples=60)
@given(selectors())
def test_selectors_made_of_others(index, drawn):
    sel, flags = drawn
    for _ in range(2):  # what is known of them from the first time serves the second
        got = index.search(XQ[:2], 10, params=deepq.SearchParameters(sel=sel))
        D, I = expected(index, flags, 10)
        np.testing.assert_array_equal(got, (D[:2], I[:2]))


def test_a_set_of_ids_is_asked_again_about_what_has_been_added():
    index = deepq.DeepQuantIndex.from_codebooks(np.arange(4, dtype=np.float32).reshape(1, 4, 1))
    sel = faiss.IDSelectorBatch(np.arange(1, 99, 2))
    for n in (3, 20, 21, 60):
        index.add_sa_codes(np.zeros((n - index.ntotal, 1), np.uint8))
        _, I = index.search(np.zeros((1, 1), np.float32), n, params=deepq.SearchParameters(sel=sel))
        np.testing.assert_array_equal(I[0, : n // 2], np.arange(1, n, 2))
        assert (I[0, n // 2 :] == -1).all()


@pytest.mark.parametrize("bounds", [(0, 10), (500, 1500), (2990, 10**12), (-5, N), (7, 7), (9, 3)])
def test_a_range_of_ids(index, bounds):
    flags = np.zeros(N, bool)
    flags[max(bounds[0], 0) : max(bounds[1], 0)] = True
    params = deepq.SearchParameters(sel=faiss.IDSelectorRange(*bounds))
    got = index.search(XQ, 10, params=params)
    np.testing.assert_array_equal(got, expected(index, flags, 10))


def test_ids_that_are_not_stored_are_passed_over(index):
    ids = np.array([3, -1, 7, N, 10**15, 3])
    for sel in (ids, faiss.IDSelectorArray(ids), faiss.IDSelectorBatch(ids)):
        got = index.search(XQ, 5, params=deepq.SearchParameters(sel=sel))
        np.testing.assert_array_equal(got, expected(index, flags_of([3, 7]), 5))
    many = np.concatenate([np.arange(1000), [-2, N + 5]])
    got = index.search(XQ, 5, params=deepq.SearchParameters(sel=many))
    np.testing.assert_array_equal(got, expected(index, flags_of(np.arange(1000)), 5))


def test_the_parameters_of_faiss_may_have_a_selector(index):
    sel = faiss.IDSelectorRange(100, 900)
    ours = index.search(XQ, 5, params=deepq.SearchParameters(sel=sel))
    for params in (faiss.SearchParameters(sel=sel), faiss.SearchParametersPQ(sel=sel)):
        np.testing.assert_array_equal(index.search(XQ, 5, params=params), ours)


@pytest.mark.parametrize("share", [0, 0.02, 0.5])
def test_a_range_search_keeps_to_the_selection(index, share):
    ids = ids_of_share(share)
    radius = float(np.median(index.search(XQ, 200)[0][:, -1]))
    lims, D, I = index.range_search(XQ, radius)
    params = deepq.SearchParameters(sel=ids)
    got = index.range_search(XQ, radius, params=params)
    inside = flags_of(ids)[I]
    queries = np.repeat(np.arange(len(XQ)), np.diff(lims).astype(int))
    np.testing.assert_array_equal(np.diff(got[0]), np.bincount(queries[inside], minlength=len(XQ)))
    np.testing.assert_array_equal(got[1], D[inside])
    np.testing.assert_array_equal(got[2], I[inside])


def test_the_number_of_threads_changes_nothing_else(index):
    for n in (1, 20):
        expected_ = index.search(XQ[:n], 10)
        for num_threads in (1, 2, 5):
            params = deepq.SearchParameters(num_threads=num_threads)
            np.testing.assert_array_equal(index.search(XQ[:n], 10, params=params), expected_)


def test_search_and_reconstruct_takes_them_too(index):
    params = deepq.SearchParameters(sel=np.arange(50))
    D, I, R = index.search_and_reconstruct(XQ, 3, params=params)
    np.testing.assert_array_equal((D, I), index.search(XQ, 3, params=params))
    np.testing.assert_array_equal(R[0, 0], index.reconstruct(int(I[0, 0])))


def test_a_selector_of_a_temporary_array_stays_alive(index):
    params = deepq.SearchParameters(sel=np.arange(100, 200))
    junk = [np.arange(100) for _ in range(100)]
    np.testing.assert_array_equal(
        index.search(XQ, 5, params=params), expected(index, flags_of(np.arange(100, 200)), 5)
    )
    assert len(junk) == 100


def test_modes_of_faiss_take_no_selector(index):
    params = deepq.SearchParameters(sel=np.arange(10))
    params.search_type = index.ST_HE
    with pytest.raises(deepq.InputError, match="no selector"):
        index.search(XQ, 5, params=params)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"rerank": -1}, ValueError, "rerank"),
        ({"rerank": 1.5}, TypeError, "rerank"),
        ({"num_threads": 0}, ValueError, "num_threads"),
        ({"num_threads": "two"}, TypeError, "num_threads"),
        ({"sel": [1, 2]}, TypeError, "IDSelector"),
        ({"sel": np.zeros(3)}, TypeError, "IDSelector"),
        ({"sel": np.zeros((3, 3), int)}, ValueError, "shape"),
    ],
)
def test_bad_parameters_are_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        deepq.SearchParameters(**arguments)
