"""Selectors as plain data: the same ids, after a pickle too."""

from __future__ import annotations

import pickle

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq import InputError, SearchParameters
from deepq.distributed.restriction import allows, as_plain, as_selector

N = 40


def ranges():
    return st.tuples(st.integers(-3, N), st.integers(-3, N + 5)).map(
        lambda ends: (faiss.IDSelectorRange(*ends), set(range(*ends)))
    )


def lists():
    ids = st.lists(st.integers(0, N + 5), max_size=12)
    made = st.sampled_from([faiss.IDSelectorArray, faiss.IDSelectorBatch])
    return st.tuples(made, ids).map(
        lambda pair: (pair[0](np.array(pair[1], "int64")), set(pair[1]))
    )


def bitmaps():
    return st.lists(st.booleans(), min_size=N, max_size=N).map(
        lambda bits: (
            faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little")),
            {i for i, bit in enumerate(bits) if bit},
        )
    )


def joined(inner):
    every = set(range(-10, N + 50))
    negated = inner.map(lambda one: (faiss.IDSelectorNot(one[0]), every - one[1]))
    kinds = {
        faiss.IDSelectorAnd: set.__and__,
        faiss.IDSelectorOr: set.__or__,
        faiss.IDSelectorXOr: set.__xor__,
    }
    pairs = st.tuples(st.sampled_from(sorted(kinds, key=str)), inner, inner).map(
        lambda three: (
            three[0](three[1][0], three[2][0]),
            kinds[three[0]](three[1][1], three[2][1]),
        )
    )
    return negated | pairs


def selectors():
    plain = st.just((faiss.IDSelectorAll(), set(range(-10, N + 50))))
    return st.recursive(plain | ranges() | lists() | bitmaps(), joined, max_leaves=4)


@given(selectors())
def test_a_selector_selects_the_same_ids_elsewhere(pair):
    sel, expected = pair
    restriction = pickle.loads(pickle.dumps(as_plain(SearchParameters(sel=sel), N - 1)))
    ids = np.arange(N)
    wanted = [i in expected for i in range(N)]
    assert allows(restriction, ids).tolist() == wanted
    again = as_selector(restriction)
    assert [again.is_member(i) for i in range(N)] == wanted


def test_arrays_of_ids_and_bools_are_selectors_too():
    assert as_plain(None, 5) is None
    assert as_plain(SearchParameters(), 5) is None
    kind, ids = as_plain(SearchParameters(sel=np.array([7, 3, 3])), 9)
    assert (kind, ids.tolist()) == ("ids", [3, 7])
    bools = as_plain(SearchParameters(sel=np.array([True, False, True])), 9)
    assert allows(bools, np.array([0, 1, 2, 3, 1000])).tolist() == [True, False, True, False, False]


def test_a_selector_that_can_only_be_asked_is_refused_for_distant_ids():
    params = SearchParameters(sel=faiss.IDSelectorBatch(np.array([1])))
    with pytest.raises(InputError, match="ids up to 9000000000, got IDSelectorBatch"):
        as_plain(params, 9_000_000_000)
    assert as_plain(SearchParameters(sel=np.array([1])), 9_000_000_000)[0] == "ids"
