"""Every name of faiss.IndexIVFPQ: read, set, called, or refused with nothing changed."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle

import faiss
import numpy as np
import pytest
from faiss.contrib import inspect_tools, ivf_tools

import deepq

from .builders import DIM, EVERYWHERE, IP, L2, NLIST, XQ, M, X, assert_same_results, ours, plain

# Public names of faiss.IndexIVFPQ that DeepQuantIVFIndex leaves as they are, and why that is right.
INHERITED = {
    "ScannerMode_OnTheFly": "a constant",
    "ScannerMode_Precomputed": "a constant",
    "d": "faiss.Index has it, and so has the chain: the width of the input",
    "thisown": "SWIG's flag of ownership, kept by the handle itself",
}
NAMES = [name for name in dir(faiss.IndexIVFPQ) if not name.startswith("_")]
METHODS = [name for name in NAMES if callable(getattr(faiss.IndexIVFPQ, name))]
FIELDS = sorted(set(NAMES) - set(METHODS))
# What cannot be set, as in faiss, or would give codes another meaning.
READ_ONLY = {
    *("PARALLEL_MODE_NO_HEAP_INIT", "code_size", "direct_map", "invlists", "nlist"),
    *("thisown", "ScannerMode_OnTheFly", "ScannerMode_Precomputed", "d"),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_overridden_or_left_for_a_reason(name):
    mro = deepq.DeepQuantIVFIndex.__mro__
    own = {name for base in mro[: mro.index(faiss.IndexIVFPQ)] for name in vars(base)}
    assert (name in own) != (name in INHERITED)


@pytest.mark.parametrize("name", [name for name in METHODS if not name.endswith("_c")])
def test_every_parameter_of_faiss_is_there_under_its_name(name):
    theirs = inspect.signature(getattr(faiss.IndexIVFPQ, name)).parameters
    mine = inspect.signature(getattr(deepq.DeepQuantIVFIndex, name)).parameters
    for parameter in theirs.values():
        same = mine[parameter.name]
        assert same.kind == parameter.kind
        assert same.default == parameter.default or parameter.name == "add_id"
    positional = [p.name for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(mine)[: len(positional)] == positional
    assert inspect.getdoc(getattr(deepq.DeepQuantIVFIndex, name))


@pytest.mark.parametrize("name", FIELDS)
def test_every_attribute_has_faiss_s_value(name):
    index, right = ours(), plain()
    mine, theirs = getattr(index, name), getattr(right, name)
    if isinstance(theirs, int | float | str | None):
        if name not in ("use_precomputed_table", "own_fields", "is_trained"):
            assert mine == theirs
    else:
        assert isinstance(mine, type(theirs))


@pytest.mark.parametrize("name", sorted(set(FIELDS) - READ_ONLY))
def test_every_attribute_is_set_to_what_it_is_and_nothing_changes(name):
    index = ours()
    right = index.search(XQ, 4)
    setattr(index, name, getattr(index, name))
    gc.collect()
    np.testing.assert_array_equal(index.search(XQ, 4), right)
    index.add(X[:3])
    assert index.ntotal == len(X) + 3


@pytest.mark.parametrize("name", sorted(READ_ONLY - set(INHERITED)))
def test_what_would_change_the_meaning_of_codes_is_read_only(name):
    index = ours()
    with pytest.raises(AttributeError):
        setattr(index, name, getattr(index, name))


def test_an_unknown_attribute_is_refused():
    index = ours()
    with pytest.raises(AttributeError, match="has no attribute 'nporbe'"):
        index.nporbe = 3
    with pytest.raises(AttributeError):
        faiss.IndexIDMap2(ours(n=0)).nprobe = 3


def test_settings_that_give_scores_another_meaning_are_followed():
    index, right = ours(), plain()
    index.search(XQ, 5)
    for each in (index, right):
        each.metric_type = IP
    assert_same_results(index.search(XQ, 5), right.search(XQ, 5))
    for each in (index, right):
        each.metric_type, each.by_residual = L2, False
    assert_same_results(index.search(XQ, 5), right.search(XQ, 5))


def test_another_product_quantizer_may_be_copied():
    index, right = ours(n=0), plain(metric=IP, n=0)
    index.pq = right.pq
    index.add(X)
    z = index.sa_decode(index.sa_encode(X))
    exact = np.sort(np.square(XQ[:, None] - z).sum(axis=2), axis=1)[:, :5]
    np.testing.assert_allclose(
        index.search(XQ, 5, params=EVERYWHERE)[0], exact, rtol=1e-3, atol=1e-3
    )
    with pytest.raises(deepq.StateError, match="expected an empty index"):
        index.pq = right.pq
    with pytest.raises(deepq.InputError, match="expected d, M and nbits"):
        index.pq = faiss.ProductQuantizer(DIM, M, 5)


# ---- cells ---------------------------------------------------------------------------------------


def test_another_coarse_quantizer_of_the_same_centres_may_take_its_place():
    index = ours()
    right = index.search(XQ, 5, params=EVERYWHERE)
    graph = faiss.IndexHNSWFlat(DIM, 8)
    graph.add(index.quantizer.reconstruct_n(0, NLIST))
    index.quantizer = graph
    del graph
    gc.collect()
    assert isinstance(index.quantizer, faiss.IndexHNSWFlat)
    np.testing.assert_array_equal(index.search(XQ, 5, params=EVERYWHERE), right)
    again = pickle.loads(pickle.dumps(index))
    assert isinstance(again.quantizer, faiss.IndexHNSWFlat)


def with_centres(n, d=DIM):
    coarse = faiss.IndexFlatL2(d)
    coarse.add(np.random.default_rng(1).standard_normal((n, d)).astype(np.float32))
    return coarse


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: "kmeans", deepq.KindError),
        (lambda: None, deepq.KindError),
        (lambda: with_centres(NLIST, DIM + 1), deepq.DimensionError),
        (lambda: with_centres(NLIST - 1), deepq.InputError),
        (lambda: faiss.IndexFlatL2(DIM), deepq.InputError),
        (lambda: with_centres(NLIST), deepq.InputError),
    ],
    ids=["a word", "nothing", "too wide", "too few", "none", "others"],
)
def test_a_coarse_quantizer_that_does_not_fit_is_refused(make, error):
    index = ours()
    right = index.search(XQ, 4)
    with pytest.raises(error, match="expected"):
        index.quantizer = make()
    np.testing.assert_array_equal(index.search(XQ, 4), right)


def test_an_empty_index_takes_other_centres():
    index = ours(n=0)
    index.search(XQ, 2)
    index.quantizer = with_centres(NLIST)
    index.add(X)
    np.testing.assert_array_equal(index.sa_encode(X)[:, 0], index.quantizer.assign(X, 1)[:, 0])


def test_codebooks_without_centres_are_refused():
    index = deepq.DeepQuantIVFIndex(DIM, NLIST, M, 4)
    books = np.zeros((M, 16, DIM // M), np.float32)
    with pytest.raises(deepq.StateError, match="with 12 centres before the codebooks, got one"):
        index.codebooks = books
    assert not index.is_trained
    index.is_trained = True  # as faiss's users do
    for call in (lambda: index.add(X), lambda: index.search(XQ, 1), lambda: index.sa_encode(X)):
        with pytest.raises((deepq.StateError, deepq.InputError), match="expected a coarse quant"):
            call()
    assert index.ntotal == 0


@pytest.mark.parametrize("disowned", [False, True])
def test_a_coarse_quantizer_may_be_given_away(disowned):
    coarse = faiss.IndexFlatL2(DIM)
    index = deepq.DeepQuantIVFIndex(coarse, DIM, NLIST, M, 4)
    if disowned:
        coarse.this.disown()
    index.own_fields = True
    assert index.own_fields
    index.train(X)
    index.add(X)
    del coarse
    gc.collect()
    assert index.search(XQ, 2)[1].min() >= 0
    index.own_fields = False
    index.own_fields = True
    del index
    gc.collect()


def test_lists_and_their_parts():
    index, right = ours(), plain()
    for cell in range(NLIST):
        ids, codes = index.get_list(cell)
        wanted = inspect_tools.get_invlist(right.invlists, cell)
        np.testing.assert_array_equal(ids, wanted[0])
        np.testing.assert_array_equal(codes, wanted[1])
        got = inspect_tools.get_invlist(index.invlists, cell)
        np.testing.assert_array_equal(got[0], ids)
        assert index.get_list_size(cell) == len(ids)
    assert index.invlists.imbalance_factor() == right.invlists.imbalance_factor()
    for bad in (-1, NLIST, 1 << 40):
        for call in (index.get_list_size, index.get_list):
            with pytest.raises(deepq.InputError, match="expected list_no"):
                call(bad)


@pytest.mark.parametrize("owned", [False, True])
def test_lists_may_be_replaced(owned):
    index, other = ours(n=0), faiss.ArrayInvertedLists(NLIST, 2)
    index.search(XQ, 2)
    source = ours(n=300)
    for cell in range(NLIST):
        ids, codes = source.get_list(cell)
        if len(ids):
            other.add_entries(cell, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
    index.replace_invlists(other, owned)
    del other
    gc.collect()
    assert index.ntotal == 300
    np.testing.assert_array_equal(index.search(XQ, 5), source.search(XQ, 5))
    index.add(X[:2])
    assert index.reconstruct(301).shape == (DIM,)
    for bad, error in ((None, TypeError), (faiss.ArrayInvertedLists(3, 2), ValueError)):
        with pytest.raises(error, match="expected"):
            index.replace_invlists(bad)


def test_lists_need_not_be_made():
    index = deepq.DeepQuantIVFIndex(faiss.IndexFlatL2(DIM), DIM, NLIST, M, 4, L2, False)
    index.replace_invlists(faiss.ArrayInvertedLists(NLIST, 2), True)
    index.train(X)
    index.add(X)
    assert index.search(XQ, 1)[1].min() >= 0
    with pytest.raises(TypeError, match="own_invlists"):
        deepq.DeepQuantIVFIndex(faiss.IndexFlatL2(DIM), DIM, NLIST, M, 4, L2, "no")


def test_tools_of_faiss_work_on_the_index_inside():
    index = ours()
    inner = faiss.downcast_index(faiss.extract_index_ivf(index))
    inner.nprobe, z = 3, index.encoder.encode(XQ)
    coarse = inner.quantizer.search(z, 3)
    got = ivf_tools.search_preassigned(inner, z, 5, coarse[1], coarse[0])
    assert_same_results(got, index.search_preassigned(XQ, 5, coarse[1], None))
    assert ivf_tools.get_invlist_sizes(index.invlists).sum() == index.ntotal


def test_a_tool_of_faiss_replaces_the_coarse_quantizer():
    index = ours()
    right = index.search(XQ, 5, params=EVERYWHERE)
    for owned in (False, True):
        index.own_fields = owned
        old = ivf_tools.replace_ivf_quantizer(index, faiss.IndexHNSWFlat(DIM, 8))
        assert old.ntotal == NLIST
        gc.collect()
        np.testing.assert_array_equal(index.search(XQ, 5, params=EVERYWHERE), right)
    assert not index.own_fields


def test_ranges_of_lists_are_moved_by_faiss():
    index, other = ours(), ours(n=0)
    other.search(XQ, 1)
    for first, last in ((0, 5), (5, NLIST)):
        lists = faiss.get_invlist_range(index, first, last)
        faiss.set_invlist_range(other, first, last, lists)
    assert other.ntotal == index.ntotal
    np.testing.assert_array_equal(other.search(XQ, 5), index.search(XQ, 5))
    other.add(X[:1])
    assert other.reconstruct(len(X)).shape == (DIM,)


def test_polysemous_training_is_that_of_faiss():
    index = deepq.DeepQuantIVFIndex(faiss.IndexFlatL2(DIM), DIM, NLIST, M, 4)
    assert index.polysemous_training is None
    index.do_polysemous_training = True
    settings = faiss.PolysemousTraining()
    settings.n_iter = 50
    index.polysemous_training = settings
    del settings
    gc.collect()
    index.train(X)
    index.add(X)
    assert index.search(XQ, 2)[1].min() >= 0


def test_another_index_may_cluster():
    index = deepq.DeepQuantIVFIndex(DIM, NLIST, M, 4)
    index.clustering_index = faiss.IndexFlatL2(DIM)
    index.cp.niter = 3
    gc.collect()
    index.train(X)
    assert index.quantizer.ntotal == NLIST


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i))]
)
@pytest.mark.parametrize("nbits", [4, 5])
def test_a_copy_is_the_same_and_lives_by_itself(make, nbits):
    index = ours(nbits)
    index.nprobe, index.max_codes, index.parallel_mode, index.polysemous_ht = 7, 90, 3, 5
    index.set_direct_map_type(faiss.DirectMap.Hashtable)
    index.remove_ids(np.arange(1400, 1500))
    twin = make(index)
    names = ["nprobe", "max_codes", "parallel_mode", "polysemous_ht", "ntotal", "metric_type"]
    assert [getattr(twin, n) for n in names] == [getattr(index, n) for n in names]
    assert twin.direct_map.type == faiss.DirectMap.Hashtable
    np.testing.assert_array_equal(twin.search(XQ, 5), index.search(XQ, 5))
    index.reset()
    twin.add(X[:1])
    assert 1500 in twin.get_list(twin.quantizer.assign(X[:1], 1)[0, 0])[0]


def test_a_clone_is_faiss_s_own():
    index = ours()
    clone = faiss.clone_index(index)
    faiss.extract_index_ivf(clone).nprobe = 4
    assert_same_results(clone.search(XQ, 5), index.search(XQ, 5))
    index.reset()
    assert clone.ntotal == len(X)


def test_what_the_factory_makes_is_taken_over():
    for text in (f"IVF{NLIST},PQ{M}x4", f"OPQ{M},IVF{NLIST},PQ{M}x4", f"IVF{NLIST},PQ{M}x5"):
        right = faiss.index_factory(DIM, text)
        inner = faiss.downcast_index(faiss.extract_index_ivf(right))
        inner.cp.min_points_per_centroid = inner.pq.cp.min_points_per_centroid = 1
        if isinstance(right, faiss.IndexPreTransform):
            faiss.downcast_VectorTransform(right.chain.at(0)).niter = 2
        right.train(X)
        right.add(X)
        inner.nprobe = 5
        index = deepq.from_faiss(right)
        assert (index.nprobe, index.by_residual) == (5, inner.by_residual)
        assert index.do_polysemous_training == inner.do_polysemous_training
        assert_same_results(index.search(XQ, 5), right.search(XQ, 5))
