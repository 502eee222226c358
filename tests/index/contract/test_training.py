"""train(x): what it takes, what it leaves behind."""

import faiss
import numpy as np
import pytest

from . import kinds, oracle
from .kinds import DIM, XB, XQ, XT, M, ours_only

CASTS = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "Fortran": np.asfortranarray,
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "big-endian": lambda x: x.astype(">f4"),
}
cast = pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)


def plain_copy(x):
    return np.ascontiguousarray(x, np.float32)


def test_training_returns_nothing_and_makes_the_index_trained(untrained):
    assert untrained.train(XT) is None
    assert untrained.is_trained
    assert untrained.ntotal == 0
    assert np.isfinite(oracle.codebooks(untrained)).all()


def test_training_twice_from_the_start_gives_the_same_codebooks(untrained, trained):
    untrained.train(XT)
    np.testing.assert_array_equal(oracle.codebooks(untrained), oracle.codebooks(trained))
    np.testing.assert_array_equal(untrained.sa_encode(XB), trained.sa_encode(XB))


@cast
def test_every_layout_of_the_training_set_gives_the_same_index(kind, cast):
    x = cast(XT[:500])
    index, twin = kind.build(DIM, M, 4), kind.build(DIM, M, 4)
    index.train(x)
    twin.train(plain_copy(x))
    np.testing.assert_array_equal(oracle.codebooks(index), oracle.codebooks(twin))


def test_integers_are_cast(kind):
    x = (20 * XT[:500]).astype(np.int64)
    index, twin = kind.build(DIM, M, 4), kind.build(DIM, M, 4)
    index.train(x)
    twin.train(plain_copy(x))
    np.testing.assert_array_equal(oracle.codebooks(index), oracle.codebooks(twin))


@kinds.flat_only
def test_codes_are_the_nearest_codewords(index):
    stored = oracle.words(index)
    z = oracle.embed(index, XB).astype(np.float64).reshape(len(XB), M, 1, -1)
    distances = ((z - oracle.codebooks(index)) ** 2).sum(-1)
    chosen = np.take_along_axis(distances, stored[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(chosen, distances.min(axis=2), rtol=1e-5, atol=1e-5)


def test_training_lowers_the_quantization_error_below_the_variance(trained):
    z = oracle.embed(trained, XT)
    error = ((z - oracle.codewords(trained, trained.sa_encode(XT))) ** 2).sum()
    assert error < 0.6 * ((z - z.mean(axis=0)) ** 2).sum()


def test_as_many_rows_as_codewords_are_enough_and_one_fewer_is_not(kind):
    kind.build(DIM, M, 4).train(XT[:16])
    with pytest.raises(RuntimeError):
        kind.build(DIM, M, 4).train(XT[:15])


def test_an_empty_index_may_be_trained_again(trained):
    trained.train(XT[:500] + 3)
    assert trained.is_trained
    trained.add(XB + 3)
    oracle.assert_same_neighbours(trained.search(XQ, 5), oracle.search(trained, XQ, 25))


def test_the_numeric_type_is_a_keyword_and_only_float32_is_known(kind):
    if not hasattr(faiss, "Float16"):
        pytest.skip("this faiss has one numeric type")
    kind.build(DIM, M, 4).train(XT[:300], numeric_type=faiss.Float32)
    with pytest.raises(RuntimeError):
        kind.build(DIM, M, 4).train(XT[:300], numeric_type=faiss.Float16)


@ours_only
def test_training_a_filled_index_raises_and_changes_nothing(index):
    before = faiss.serialize_index(index)
    with pytest.raises(RuntimeError, match="reset"):
        index.train(XT)
    np.testing.assert_array_equal(faiss.serialize_index(index), before)


@ours_only
def test_training_again_after_reset_is_allowed(index):
    index.reset()
    index.train(XT[:500])
    assert index.is_trained


@ours_only
def test_the_global_random_state_is_left_alone(kind):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    kind.build(DIM, M, 4).train(XT[:300])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@ours_only
def test_labels_are_a_second_argument_that_may_be_none(kind):
    index, twin = kind.build(DIM, M, 4), kind.build(DIM, M, 4)
    index.train(XT[:300], None)
    twin.train(XT[:300])
    np.testing.assert_array_equal(oracle.codebooks(index), oracle.codebooks(twin))
