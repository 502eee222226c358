"""Every refusal is what a Python reader expects *and* what faiss raises, and leaves no trace."""

import warnings

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepq

from . import kinds, oracle
from .kinds import DIM, IP, L2, XB, XQ, XT, M, ours_only, require
from .test_training import plain_copy

# What is passed for x: the natural type of the refusal, and faiss's.
BAD_MATRICES = {
    "a list": (XQ.tolist(), TypeError, AttributeError),
    "nothing": (None, TypeError, AttributeError),
    "a number": (3.5, TypeError, AttributeError),
    "one vector": (XQ[0], ValueError, ValueError),
    "0-d": (np.array(1, "f4"), ValueError, ValueError),
    "3-d": (XQ[None], ValueError, ValueError),
    "too narrow": (XQ[:, :8], ValueError, AssertionError),
    "too wide": (np.hstack([XQ, XQ]), ValueError, AssertionError),
    "words": (np.full((3, DIM), "word"), TypeError, (ValueError, TypeError)),
    "complex": (XQ.astype(complex), TypeError, None),
}
MATRIX_CALLS = {
    "train": lambda index, x: index.train(x),
    "add": lambda index, x: index.add(x),
    "search": lambda index, x: index.search(x, 3),
    "range_search": lambda index, x: index.range_search(x, 3.0),
    "search_and_reconstruct": lambda index, x: index.search_and_reconstruct(x, 3),
    "assign": lambda index, x: index.assign(x, 3),
    "sa_encode": lambda index, x: index.sa_encode(x),
}


def assert_refused(kind, index, call, natural, faiss_type):
    """Hold a refusal against its two types, its text and the index it must not change."""
    before = faiss.serialize_index(index)
    if not kind.ours:
        if faiss_type is None:
            pytest.skip("faiss takes it")
        with pytest.raises(faiss_type):
            call()
    else:
        with pytest.raises(natural) as refusal:
            call()
        assert isinstance(refusal.value, faiss_type or Exception)
        text = str(refusal.value)
        assert "expected" in text, text
        assert "got" in text, text
    np.testing.assert_array_equal(faiss.serialize_index(index), before)


@pytest.mark.parametrize(("x", "natural", "theirs"), BAD_MATRICES.values(), ids=BAD_MATRICES)
@pytest.mark.parametrize("call", MATRIX_CALLS.values(), ids=MATRIX_CALLS)
def test_what_is_no_matrix_of_d_columns_is_refused(kind, call, x, natural, theirs):
    index = kinds.trained(kind) if call is MATRIX_CALLS["train"] else kinds.filled(kind)
    assert_refused(kind, index, lambda: call(index, x), natural, theirs)


def spoiled(x, value):
    x = x.copy()
    x[7, 2] = value
    return x


UNTRAINABLE = {
    "nan": spoiled(XT, np.nan),
    "inf": spoiled(XT, np.inf),
    "-inf": spoiled(XT, -np.inf),
    "too few": XT[:15],
    "none": XT[:0],
}


@kinds.not_in_cells_of_faiss
@pytest.mark.parametrize("x", UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_what_cannot_be_learned_from_is_refused(kind, x):
    index = kinds.untrained(kind)
    assert_refused(kind, index, lambda: index.train(x), ValueError, RuntimeError)
    assert not index.is_trained


K = {
    "0": (0, ValueError, (AssertionError, RuntimeError)),
    "-1": (-1, ValueError, (AssertionError, ValueError)),
    "1.0": (1.0, TypeError, TypeError),
    "a word": ("1", TypeError, TypeError),
    "None": (None, TypeError, TypeError),
}


@pytest.mark.parametrize(("k", "natural", "theirs"), K.values(), ids=K)
@pytest.mark.parametrize("method", ["search", "search_and_reconstruct", "assign"])
def test_k_is_a_positive_integer(kind, method, k, natural, theirs):
    index = kinds.filled(kind)
    assert_refused(kind, index, lambda: getattr(index, method)(XQ, k), natural, theirs)


def read_only(shape, dtype):
    buffer = np.empty(shape, dtype)
    buffer.flags.writeable = False
    return buffer


n = len(XQ)
BUFFERS = {
    "D of another shape": ({"D": np.empty((n, 4), "f4")}, ValueError, AssertionError),
    "I of another shape": ({"I": np.empty((n + 1, 3), "i8")}, ValueError, AssertionError),
    "D in float64": ({"D": np.empty((n, 3), "f8")}, TypeError, TypeError),
    "I in int32": ({"I": np.empty((n, 3), "i4")}, TypeError, TypeError),
    "D with gaps": ({"D": np.empty((n, 6), "f4")[:, ::2]}, ValueError, ValueError),
    "D as a list": ({"D": [[0.0] * 3] * n}, TypeError, AttributeError),
    "D read-only": ({"D": read_only((n, 3), "f4")}, ValueError, None),
    "I read-only": ({"I": read_only((n, 3), "i8")}, ValueError, None),
}


@pytest.mark.parametrize(("buffers", "natural", "theirs"), BUFFERS.values(), ids=BUFFERS)
@pytest.mark.parametrize("method", ["search", "search_and_reconstruct"])
def test_a_buffer_that_does_not_fit_is_refused(kind, method, buffers, natural, theirs):
    index = kinds.filled(kind)
    call = lambda: getattr(index, method)(XQ, 3, **buffers)  # noqa: E731
    assert_refused(kind, index, call, natural, theirs)


MISUSES = {
    "reconstruct beyond the end": (
        lambda index: index.reconstruct(400),
        (ValueError, IndexError),
        RuntimeError,
    ),
    "reconstruct before the start": (
        lambda index: index.reconstruct(-1),
        (ValueError, IndexError),
        RuntimeError,
    ),
    "reconstruct a fraction": (lambda index: index.reconstruct(1.5), TypeError, TypeError),
    "reconstruct into a short buffer": (
        lambda index: index.reconstruct(1, np.empty(3, "f4")),
        ValueError,
        AssertionError,
    ),
    "reconstruct_n beyond the end": (
        lambda index: index.reconstruct_n(399, 2),
        (ValueError, IndexError),
        RuntimeError,
    ),
    "reconstruct_n of fewer than none": (
        lambda index: index.reconstruct_n(0, -2),
        ValueError,
        ValueError,
    ),
    "reconstruct_batch beyond the end": (
        lambda index: index.reconstruct_batch([0, 400]),
        (ValueError, IndexError),
        RuntimeError,
    ),
    "reconstruct_batch of a table": (
        lambda index: index.reconstruct_batch(np.zeros((2, 2), int)),
        ValueError,
        ValueError,
    ),
    "remove_ids of a list": (
        lambda index: index.remove_ids([1, 2]),
        TypeError,
        AttributeError,
    ),
    "remove_ids of a table": (
        lambda index: index.remove_ids(np.zeros((2, 2), int)),
        ValueError,
        AssertionError,
    ),
    "remove_ids of fractions": (
        lambda index: index.remove_ids(np.array([1.5])),
        TypeError,
        None,
    ),
    "sa_decode of integers": (
        lambda index: index.sa_decode(np.zeros((2, index.sa_code_size()), int)),
        TypeError,
        TypeError,
    ),
    "sa_decode of wide codes": (
        lambda index: index.sa_decode(np.zeros((2, index.sa_code_size() + 1), "u1")),
        ValueError,
        AssertionError,
    ),
    "add_sa_codes of wide codes": (
        lambda index: index.add_sa_codes(np.zeros((2, index.sa_code_size() + 1), "u1")),
        ValueError,
        AssertionError,
    ),
    "permute_entries of too few": (
        lambda index: index.permute_entries(np.arange(3)),
        ValueError,
        AssertionError,
    ),
    "permute_entries that repeats": (
        lambda index: index.permute_entries(np.zeros(400, int)),
        ValueError,
        None,
    ),
    "range_search of a word": (
        lambda index: index.range_search(XQ, "near"),
        (ValueError, TypeError),
        ValueError,
    ),
    "range_search of nan": (lambda index: index.range_search(XQ, np.nan), ValueError, None),
    "merge_from nothing": (lambda index: index.merge_from(None), TypeError, TypeError),
    "merge_from a flat index": (
        lambda index: index.merge_from(faiss.IndexFlatL2(DIM)),
        (TypeError, ValueError),
        RuntimeError,
    ),
    "merge_from with an offset": (
        lambda index: index.merge_from(index, 5),
        ValueError,
        RuntimeError,
    ),
    "search with another's parameters": (
        lambda index: index.search(XQ, 3, params=faiss.SearchParametersHNSW()),
        (TypeError, ValueError),
        RuntimeError,
    ),
    "search with a number for parameters": (
        lambda index: index.search(XQ, 3, params=3),
        TypeError,
        TypeError,
    ),
}


@pytest.mark.parametrize(("call", "natural", "theirs"), MISUSES.values(), ids=MISUSES)
@kinds.not_in_cells_of_faiss
def test_a_misuse_is_refused(kind, request, call, natural, theirs):
    index = kinds.filled(kind)
    require(index, request.node.callspec.id.split("-")[-1].split()[0])
    assert_refused(kind, index, lambda: call(index), natural, theirs)


BEFORE_TRAINING = {
    "add": lambda index: index.add(XB),
    "search": lambda index: index.search(XQ, 3),
    "assign": lambda index: index.assign(XQ, 3),
    "search_and_reconstruct": lambda index: index.search_and_reconstruct(XQ, 3),
    "reconstruct": lambda index: index.reconstruct(0),
}
BEFORE_TRAINING_OURS = {
    "range_search": lambda index: index.range_search(XQ, 3.0),
    "sa_encode": lambda index: index.sa_encode(XQ),
    "sa_decode": lambda index: index.sa_decode(np.zeros((2, index.sa_code_size()), "u1")),
    "add_sa_codes": lambda index: index.add_sa_codes(np.zeros((2, index.sa_code_size()), "u1")),
}


@pytest.mark.parametrize("call", BEFORE_TRAINING.values(), ids=BEFORE_TRAINING)
def test_an_untrained_index_refuses(untrained, call):
    before = faiss.serialize_index(untrained)
    with pytest.raises(RuntimeError):
        call(untrained)
    np.testing.assert_array_equal(faiss.serialize_index(untrained), before)


@ours_only
@pytest.mark.parametrize("call", BEFORE_TRAINING_OURS.values(), ids=BEFORE_TRAINING_OURS)
def test_an_untrained_index_refuses_what_faiss_answers_with_zeros(untrained, call):
    with pytest.raises(RuntimeError, match="train"):
        call(untrained)
    assert untrained.ntotal == 0


CONSTRUCTIONS = {
    "d not divisible by M": ((DIM, 3, 8), ValueError, RuntimeError),
    "no sub-quantizers": ((DIM, 0, 8), ValueError, None),
    "too many bits": ((DIM, M, 25), ValueError, RuntimeError),
    "a negative width": ((-DIM, M, 8), ValueError, RuntimeError),
    "negative bits": ((DIM, M, -1), ValueError, (TypeError, ValueError)),
    "d as a fraction": ((16.0, M, 8), TypeError, TypeError),
    "d as a word": (("16", M, 8), TypeError, TypeError),
    "an argument too many": ((DIM, M, 8, L2, 0), TypeError, TypeError),
    "no M": ((DIM,), TypeError, TypeError),
    "no bits": ((DIM, M, 0), ValueError, None),
    "no width": ((0, M, 8), ValueError, None),
    "an unknown metric": ((DIM, M, 8, 17), ValueError, None),
}


@pytest.mark.parametrize(("args", "natural", "theirs"), CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
@pytest.mark.parametrize("ours", [False, pytest.param(True)], ids=["faiss", "deepq"])
def test_an_index_that_cannot_be_is_not_built(ours, args, natural, theirs):
    if not ours:
        if theirs is None:
            pytest.skip("faiss builds it")
        with pytest.raises(theirs):
            faiss.IndexPQ(*args)
        return
    with pytest.raises(natural) as refusal:
        deepq.DeepQuantIndex(*args)
    assert isinstance(refusal.value, theirs or Exception)


CODEBOOKS = {
    "a list": [[[0.0]]],
    "another shape": np.zeros((M, 15, DIM // M), "f4"),
    "flat": np.zeros(DIM * 16, "f4"),
    "nan": np.full((M, 16, DIM // M), np.nan, "f4"),
    "words": np.full((M, 16, DIM // M), "word"),
}


@ours_only
@pytest.mark.parametrize("codebooks", CODEBOOKS.values(), ids=CODEBOOKS)
def test_codebooks_that_do_not_fit_are_refused(kind, codebooks):
    index = kinds.trained(kind)
    before = faiss.serialize_index(index)
    with pytest.raises((ValueError, TypeError)):
        index.codebooks = codebooks
    np.testing.assert_array_equal(faiss.serialize_index(index), before)


@ours_only
def test_numbers_that_overflow_float32_are_refused(kind):
    x = XB.astype(np.float64) * 1e300
    for call in ("train", "add", "sa_encode"):
        index = kinds.trained(kind)
        with pytest.raises(ValueError, match="finite"):
            getattr(index, call)(x)
    index = kinds.filled(kind)
    assert (index.search(x[:3], 2)[1] == -1).all()


@ours_only
def test_numbers_whose_squares_overflow_float32_are_refused(kind):
    x = XB * np.float32(1e30)
    for call in ("train", "add", "sa_encode"):
        index = kinds.trained(kind)
        with pytest.raises(ValueError, match="squared distances float32 holds"):
            getattr(index, call)(x)


@ours_only
def test_an_interrupted_training_leaves_the_index_as_it_was(kind, monkeypatch):
    index = kinds.trained(kind)
    before = faiss.serialize_index(index)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepq.training.trainer.fit", interrupt)
    monkeypatch.setattr("deepq.quantizers.ProductQuantizer.train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index.train(XT + 1)
    np.testing.assert_array_equal(faiss.serialize_index(index), before)
    index.add(XB)
    oracle.assert_same_neighbours(index.search(XQ, 3), oracle.search(index, XQ, 25))


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "reversed": lambda x: x[::-1].copy()[::-1] if x.ndim else x,
    "matrix": lambda x: np.asmatrix(x) if x.ndim == 2 else x,
    "masked": np.ma.masked_array,
}
DTYPES = ["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u1", "u4", "?", "O", "c8"]
SHAPES = [(DIM,), (), (2, 3, DIM), (5, DIM - 1), (5, 0), (0, DIM), (1, DIM), (5, DIM), (40, DIM)]


@st.composite
def matrices(draw):
    """Draw an array of any kind, mostly of the right shape."""
    shape = draw(st.one_of(st.just((5, DIM)), st.sampled_from(SHAPES)))
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape) * 10
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = np.asarray(x).astype(dtype)
    if dtype.kind == "f" and x.size and draw(st.booleans()):
        x.flat[draw(st.integers(0, x.size - 1))] = draw(
            st.sampled_from([np.nan, np.inf, -np.inf, 6e4])
        )
    x = draw(st.sampled_from(list(LAYOUTS.values())))(x)
    if draw(st.booleans()):
        x.flags.writeable = False
    return x


CALLS = {
    "add": lambda index, x: (index.add(x), oracle.codes(index))[1:],
    "sa_encode": lambda index, x: (index.sa_encode(x),),
    "search": lambda index, x: index.search(x, 4),
    "range_search": lambda index, x: index.range_search(x, 20.0),
    "assign": lambda index, x: (index.assign(x, 4),),
}


@ours_only
@pytest.mark.parametrize("metric", [L2, IP], ids=["l2", "ip"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@settings(max_examples=60, deadline=None)
@given(x=matrices(), call=st.sampled_from(sorted(CALLS)))
def test_an_array_is_refused_or_means_its_float32_values(kind, metric, x, call):
    index, twin = kinds.filled(kind, metric), kinds.filled(kind, metric)
    before, copied = faiss.serialize_index(index), x.copy()
    try:
        got = CALLS[call](index, x)
    except (TypeError, ValueError):
        np.testing.assert_array_equal(faiss.serialize_index(index), before)
        real = x.dtype.kind in "fiu" and not isinstance(x, np.ma.MaskedArray)
        fits = x.ndim == 2 and x.shape[1] == DIM
        finite = real and np.isfinite(x.astype("f4")).all()
        assert not (real and fits and (finite or call not in ("add", "sa_encode")))
    else:
        assert x.dtype.kind != "c"
        assert x.ndim == 2
        want = CALLS[call](twin, plain_copy(np.asarray(x)))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)
        if call != "add":
            np.testing.assert_array_equal(faiss.serialize_index(index), before)
    np.testing.assert_array_equal(np.asarray(x), np.asarray(copied))
