"""Building an index: arguments, defaults, attributes."""

import faiss
import numpy as np
import pytest

import deepq

from . import kinds, oracle
from .kinds import DIM, IP, L2, XQ, M, ours_only


def test_arguments_are_positional_and_the_metric_defaults_to_l2(kind):
    index = kind.build(DIM, M, 6)
    assert (index.d, index.pq.M, index.pq.nbits, index.pq.ksub) == (DIM, M, 6, 64)
    assert index.metric_type == L2
    assert kind.build(DIM, M, 6, IP).metric_type == IP


@kinds.flat_only
def test_it_is_an_index_pq(kind):
    assert isinstance(kind.build(DIM, M, 8), faiss.IndexPQ)
    assert isinstance(kind.build(DIM, M, 8), faiss.Index)


@kinds.flat_only
@pytest.mark.parametrize(("nbits", "code_size"), [(1, 1), (3, 2), (4, 2), (5, 3), (8, 4), (12, 6)])
def test_a_code_has_just_the_bytes_that_its_bits_need(kind, nbits, code_size):
    index = kind.build(DIM, M, nbits)
    assert index.code_size == index.pq.code_size == index.sa_code_size() == code_size


@kinds.flat_only
def test_the_defaults(untrained, nbits):
    defaults = {
        "d": DIM,
        "ntotal": 0,
        "is_trained": False,
        "metric_arg": 0,
        "verbose": False,
        "search_type": faiss.IndexPQ.ST_PQ,
        "do_polysemous_training": False,
        "polysemous_ht": M * nbits + 1,
        "encode_signs": False,
    }
    assert {name: getattr(untrained, name) for name in defaults} == defaults
    assert faiss.vector_to_array(untrained.codes).size == 0


def test_the_quantizer_and_its_clustering_have_their_defaults(untrained, nbits):
    pq, cp = untrained.pq, untrained.pq.cp
    assert (pq.M, pq.nbits, pq.ksub, pq.dsub) == (M, nbits, 2**nbits, DIM // M)
    assert (cp.niter, cp.max_points_per_centroid, cp.min_points_per_centroid) == (25, 256, 39)
    assert cp.seed == 1234


@kinds.flat_only
@pytest.mark.parametrize("name", ["ST_PQ", "ST_HE", "ST_generalized_HE", "ST_SDC", "ST_polysemous"])
def test_the_search_types_are_reachable_from_the_object(untrained, name):
    assert getattr(untrained, name) == getattr(faiss.IndexPQ, name)


@kinds.flat_only
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verbose", True),
        ("search_type", faiss.IndexPQ.ST_SDC),
        ("polysemous_ht", 7),
        ("do_polysemous_training", True),
        ("encode_signs", True),
        ("metric_arg", 2.5),
    ],
)
def test_an_attribute_that_is_set_stays_set(untrained, name, value):
    setattr(untrained, name, value)
    assert getattr(untrained, name) == value


@kinds.flat_only
def test_a_setting_of_the_clustering_stays_set(untrained):
    untrained.pq.cp.niter = 3
    untrained.polysemous_training.n_iter = 5
    assert untrained.pq.cp.niter == 3
    assert untrained.polysemous_training.n_iter == 5


@kinds.flat_only
@pytest.mark.parametrize(
    ("name", "value"), [("search_type", "SDC"), ("polysemous_ht", 1.5), ("verbose", "yes")]
)
def test_a_value_of_the_wrong_kind_is_refused(untrained, name, value):
    with pytest.raises(TypeError):
        setattr(untrained, name, value)


@kinds.flat_only
def test_an_unknown_attribute_is_refused(kind, untrained):
    if not kind.ours and faiss.Index.__setattr__ is object.__setattr__:
        pytest.skip("this faiss takes any attribute")
    with pytest.raises(AttributeError):
        untrained.nprobe = 3
    with pytest.raises(AttributeError):
        _ = untrained.nprobe


def test_it_has_no_length(untrained):
    with pytest.raises(TypeError):
        len(untrained)


def test_repr_names_the_class(untrained):
    assert type(untrained).__name__ in repr(untrained)


def test_the_metric_may_be_changed(index, metric):
    index.metric_type = other = IP if metric == L2 else L2
    assert index.metric_type == other
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.search(index, XQ, 25))


@ours_only
def test_an_unknown_metric_is_refused(index, metric):
    with pytest.raises(ValueError, match="17"):
        index.metric_type = 17
    assert index.metric_type == metric


@ours_only
def test_arguments_may_be_named_and_numpy_integers(kind):
    assert kind.build(DIM, M).pq.nbits == 8
    index = kind.build(DIM, np.int64(M), np.int32(5), np.int64(IP))
    assert (index.pq.M, index.pq.nbits, index.metric_type) == (M, 5, IP)
    index = deepq.DeepQuantIndex(d=np.int64(DIM), M=M, nbits=5, metric=IP)
    assert (index.d, index.pq.nbits, index.metric_type) == (DIM, 5, IP)


@kinds.ours_flat_only
def test_what_deepq_adds_is_declared(trained):
    assert trained.encoder.d_in == DIM
    assert trained.quantizer.M == M
    assert trained.training is None
    assert trained.history
    np.testing.assert_array_equal(
        trained.codebooks.ravel(), faiss.vector_to_array(trained.pq.centroids)
    )


@ours_only
def test_the_codebooks_may_be_set(trained):
    codebooks = np.random.default_rng(0).standard_normal(trained.codebooks.shape).astype("f4")
    trained.codebooks = codebooks
    np.testing.assert_array_equal(trained.codebooks, codebooks)
    np.testing.assert_array_equal(faiss.vector_to_array(trained.pq.centroids), codebooks.ravel())


def test_an_index_from_codebooks_is_trained_and_searches():
    codebooks = np.random.default_rng(0).standard_normal((M, 16, DIM // M)).astype("f4")
    index = deepq.DeepQuantIndex.from_codebooks(codebooks)
    assert (index.d, index.pq.M, index.pq.nbits, index.is_trained) == (DIM, M, 4, True)
    index.add(XQ)
    plain = faiss.IndexPQ(DIM, M, 4)
    faiss.copy_array_to_vector(codebooks.ravel(), plain.pq.centroids)
    plain.is_trained = True
    plain.add(XQ)
    np.testing.assert_array_equal(index.search(XQ, 3)[1], plain.search(XQ, 3)[1])
