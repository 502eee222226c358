"""From vectors to codes and back: reconstruct*, sa_*, residuals, distance computers."""

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import DIM, OURS, REVERSIBLE, XB, XQ, ours_only, require, reversible_only

widths = pytest.mark.parametrize("nbits", [4, 6, 8])


def assert_close(got, want):
    """Hold floats to the rounding of one matrix product, which depends on its number of rows."""
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_the_stored_codes_are_those_of_sa_encode(index):
    codes = index.sa_encode(XB)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(XB), index.sa_code_size())
    np.testing.assert_array_equal(codes, oracle.codes(index))


@widths
def test_a_decoded_code_is_its_codewords_in_the_space_of_the_input(index):
    right = oracle.decode(index, oracle.codewords(index))
    np.testing.assert_allclose(index.sa_decode(oracle.codes(index)), right, rtol=1e-4, atol=1e-4)


@kinds.not_in_cells_of_faiss
def test_reconstruct_is_sa_decode_of_the_stored_code(index):
    decoded = index.sa_decode(oracle.codes(index))
    assert decoded.shape == (len(XB), DIM)
    assert decoded.dtype == np.float32
    assert_close(index.reconstruct_n(), decoded)
    assert_close(index.reconstruct_n(0, index.ntotal), decoded)
    assert_close(index.reconstruct_n(5, 3), decoded[5:8])
    assert_close(index.reconstruct(7), decoded[7])
    for keys in ([3, 1, 3], (3, 1, 3), np.array([3, 1, 3], np.int32)):
        assert_close(index.reconstruct_batch(keys), decoded[[3, 1, 3]])


def test_reconstructions_are_near_the_originals(kind, index):
    if kind.name == "deepq-normalized":
        pytest.skip("lengths are lost when rows are normalized")
    error = ((index.reconstruct_n() - XB) ** 2).sum()
    assert error < 0.6 * ((XB - XB.mean(axis=0)) ** 2).sum()


@kinds.not_in_cells_of_faiss
def test_a_reconstruction_fills_a_given_buffer(index):
    one, many = np.empty(DIM, np.float32), np.empty((4, DIM), np.float32)
    assert index.reconstruct(2, one) is one
    np.testing.assert_array_equal(one, index.reconstruct(2))
    assert index.reconstruct_n(1, 4, many) is many
    np.testing.assert_array_equal(many, index.reconstruct_n(1, 4))
    assert index.reconstruct_batch([1, 2, 3, 4], many) is many
    np.testing.assert_array_equal(many, index.reconstruct_n(1, 4))


@kinds.not_in_cells_of_faiss
def test_codes_and_vectors_fill_given_buffers(index):
    codes = np.empty((len(XB), index.sa_code_size()), np.uint8)
    assert index.sa_encode(XB, codes) is codes
    np.testing.assert_array_equal(codes, oracle.codes(index))
    x = np.empty((len(XB), DIM), np.float32)
    assert index.sa_decode(codes, x) is x
    np.testing.assert_array_equal(x, index.reconstruct_n())


@kinds.not_in_cells_of_faiss
def test_nothing_gives_nothing(index, trained):
    assert index.reconstruct_n(5, 0).shape == (0, DIM)
    assert index.reconstruct_batch([]).shape == (0, DIM)
    assert index.sa_encode(XB[:0]).shape == (0, index.sa_code_size())
    assert index.sa_decode(oracle.codes(index)[:0]).shape == (0, DIM)
    assert trained.reconstruct_n().shape == (0, DIM)


def test_reconstruct_n_takes_the_rest_by_default(index):
    assert_close(index.reconstruct_n(len(XB) - 2), index.reconstruct_n()[-2:])


@kinds.not_in_cells_of_faiss
@pytest.mark.parametrize("key", [-1, len(XB)])
def test_a_key_that_is_not_there_is_refused(index, key):
    for call in (
        lambda: index.reconstruct(key),
        lambda: index.reconstruct_n(key, 1),
        lambda: index.reconstruct_batch([0, key]),
    ):
        with pytest.raises(RuntimeError):
            call()


@ours_only
def test_numpy_integers_serve_as_keys(index):
    np.testing.assert_array_equal(index.reconstruct(np.int64(3)), index.reconstruct(3))
    np.testing.assert_array_equal(
        index.reconstruct_n(np.int64(3), np.int32(2)), index.reconstruct_n(3, 2)
    )


@kinds.not_in_cells_of_faiss
def test_search_and_reconstruct_is_both(index):
    D, I, R = index.search_and_reconstruct(XQ, 4)
    oracle.assert_same_neighbours((D, I), oracle.search(index, XQ, 25))
    assert R.shape == (len(XQ), 4, DIM)
    assert R.dtype == np.float32
    np.testing.assert_array_equal(R, index.reconstruct_batch(I.ravel()).reshape(R.shape))


def test_search_and_reconstruct_pads_with_nan(trained):
    trained.add(XB[:2])
    _, I, R = trained.search_and_reconstruct(XQ, 3)
    assert (I[:, 2] == -1).all()
    assert np.isnan(R[:, 2]).all()
    assert np.isfinite(R[:, :2]).all()


def test_search_and_reconstruct_fills_given_buffers(index):
    D, I = np.empty((len(XQ), 3), np.float32), np.empty((len(XQ), 3), np.int64)
    R = np.empty((len(XQ), 3, DIM), np.float32)
    got = index.search_and_reconstruct(XQ, 3, D=D, I=I, R=R)
    assert all(a is b for a, b in zip(got, (D, I, R), strict=True))
    np.testing.assert_array_equal(R, index.search_and_reconstruct(XQ, 3)[2])


@kinds.flat_only
def test_a_decoded_code_is_encoded_to_itself(kind, index):
    if kind.name == "deepq-normalized":
        pytest.skip("a codeword need not have unit length")
    again = index.sa_encode(index.reconstruct_n())
    assert (again == oracle.codes(index)).all(axis=1).mean() > 0.99


@reversible_only
def test_a_residual_is_the_vector_less_its_reconstruction(index):
    x, keys = XB[:5].copy(), np.arange(5)
    one, many = np.empty(DIM, np.float32), np.empty((5, DIM), np.float32)
    index.compute_residual(faiss.swig_ptr(x[3]), faiss.swig_ptr(one), 3)
    np.testing.assert_allclose(one, XB[3] - index.reconstruct(3), atol=1e-5)
    index.compute_residual_n(5, faiss.swig_ptr(x), faiss.swig_ptr(many), faiss.swig_ptr(keys))
    np.testing.assert_allclose(many, XB[:5] - index.reconstruct_n(0, 5), atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in OURS if k not in REVERSIBLE], ids=str)
def test_where_faiss_cannot_decode_the_index_does_in_raw_methods(index):
    x, residual = XB[0].copy(), np.empty(DIM, np.float32)
    index.reconstruct_c(7, faiss.swig_ptr(residual))
    np.testing.assert_array_equal(residual, index.reconstruct(7))
    index.compute_residual(faiss.swig_ptr(x), faiss.swig_ptr(residual), 0)
    np.testing.assert_allclose(residual, x - index.reconstruct(0), rtol=1e-6)


@kinds.flat_only
def test_a_distance_computer_agrees_with_search(index):
    query = XQ[0].copy()
    computer = index.get_distance_computer()
    computer.set_query(faiss.swig_ptr(query))
    right = oracle.scores(index, XQ[:1])[0]
    np.testing.assert_allclose([computer(i) for i in range(20)], right[:20], rtol=1e-4, atol=1e-4)


@kinds.flat_only
def test_a_flat_codes_distance_computer_agrees_with_search(index):
    query = XQ[0].copy()
    computer = index.get_FlatCodesDistanceComputer()
    computer.set_query(faiss.swig_ptr(query))
    right = oracle.scores(index, XQ[:1])[0]
    np.testing.assert_allclose([computer(i) for i in range(20)], right[:20], rtol=1e-4, atol=1e-4)


def test_the_code_packer_knows_the_size_of_a_code(index):
    assert index.get_CodePacker().code_size == index.code_size


def test_a_code_of_the_wrong_dtype_or_width_is_refused(index):
    codes = oracle.codes(index)
    require(index, "add_sa_codes")
    for call in (index.sa_decode, index.add_sa_codes):
        with pytest.raises(TypeError):
            call(codes.astype(np.int64))
        with pytest.raises(AssertionError):
            call(codes[:, :1])
