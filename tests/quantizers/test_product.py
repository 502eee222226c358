"""The product quantizer: bytes of faiss, k-means that only improves, tables that add up."""

from __future__ import annotations

from itertools import pairwise

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepq
from deepq._common.errors import DimensionError, InputError, StateError
from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer, pack, unpack


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d), dtype=np.float32) @ rng.standard_normal((d, d)).astype("f4")


def trained(M: int = 4, nbits: int = 4, dsub: int = 3, n: int = 400) -> ProductQuantizer:
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(correlated(n, M * dsub), iterations=5)
    return quantizer


def faiss_twin(quantizer: ProductQuantizer) -> faiss.ProductQuantizer:
    twin = faiss.ProductQuantizer(quantizer.M * quantizer.dsub, quantizer.M, quantizer.nbits)
    faiss.copy_array_to_vector(quantizer.codebooks.ravel(), twin.centroids)
    return twin


@given(st.integers(1, 16), st.integers(1, 9), st.integers(0, 20), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=100)
def test_unpack_undoes_pack(nbits: int, M: int, n: int, seed: int) -> None:
    words = np.random.default_rng(seed).integers(0, 2**nbits, (n, M), dtype=np.uint16)
    codes = pack(words, nbits)
    assert codes.dtype == np.uint8
    assert codes.shape == (n, -(-M * nbits // 8))
    back = unpack(codes, M, nbits)
    assert back.dtype == (np.uint8 if nbits <= 8 else np.uint16)
    np.testing.assert_array_equal(back, words)


def test_pack_puts_the_lowest_bit_first() -> None:
    words = np.array([[0b001, 0b110, 0b101]], dtype=np.uint8)
    assert pack(words, 3).tolist() == [[0b01110001, 0b00000001]]


def test_pack_does_not_alias_the_words() -> None:
    words = np.zeros((2, 3), dtype=np.uint8)
    pack(words, 8)[:] = 1
    unpack(words, 3, 8)[:] = 1
    assert not words.any()


@pytest.mark.parametrize("nbits", range(1, 17))
def test_codes_are_faiss_bytes(nbits: int) -> None:
    M, dsub = 3, 2
    rng = np.random.default_rng(nbits)
    quantizer = ProductQuantizer(M, nbits)
    quantizer.codebooks = rng.standard_normal((M, quantizer.ksub, dsub), dtype=np.float32)
    # Vectors on codewords: the nearest one is beyond doubt.
    z = quantizer.gather(rng.integers(0, quantizer.ksub, (40, M)))
    twin = faiss_twin(quantizer)
    codes = quantizer.encode(z)
    np.testing.assert_array_equal(codes, twin.compute_codes(z))
    np.testing.assert_array_equal(quantizer.decode(codes), twin.decode(codes))
    assert quantizer.code_size == twin.code_size


def test_words_are_the_nearest_codewords() -> None:
    quantizer = trained()
    z = correlated(200, 12, seed=1)
    parts = z.reshape(200, 4, 1, 3).astype(np.float64)
    distances = np.square(parts - quantizer.codebooks[None]).sum(axis=3)
    np.testing.assert_array_equal(quantizer.assign(z), distances.argmin(axis=2))


@pytest.mark.parametrize("metric", [METRIC_L2, METRIC_INNER_PRODUCT])
def test_tables_add_up_to_the_distance(metric: int) -> None:
    quantizer = trained()
    z, zq = correlated(50, 12, seed=1), correlated(20, 12, seed=2)
    words = quantizer.assign(z)
    luts = quantizer.lookup_tables(zq, metric)
    assert luts.shape == (20, 4, 16)
    assert luts.flags.c_contiguous
    sums = luts[:, np.arange(4), words].sum(axis=2)
    z_hat = quantizer.gather(words)
    exact = zq @ z_hat.T
    if metric == METRIC_L2:
        exact = np.square(zq[:, None] - z_hat[None]).sum(axis=2)
    np.testing.assert_allclose(sums, exact, rtol=1e-5, atol=1e-4)


def test_l2_tables_do_not_cancel_far_from_the_origin() -> None:
    quantizer = ProductQuantizer(1, 1)
    quantizer.codebooks = np.array([[[4096.0, 4096.0], [4097.0, 4096.0]]])
    luts = quantizer.lookup_tables(np.array([[4096.25, 4096.0]], dtype=np.float32))
    assert luts.tolist() == [[[0.0625, 0.5625]]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5), st.integers(0, 200))
@settings(deadline=None, max_examples=40)
def test_error_never_rises(seed: int, M: int, nbits: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.round(rng.standard_normal((2**nbits + extra, M * 2))).astype(np.float32)
    errors: list[float] = []
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(z, iterations=6, seed=seed, progress=lambda e: errors.append(e["error"]))
    assert len(errors) == 6
    assert all(b <= a + 1e-5 for a, b in pairwise(errors))
    final = np.square(z - quantizer.decode(quantizer.encode(z))).sum() / len(z)
    assert final <= errors[-1] + 1e-5


def test_error_is_that_of_faiss_k_means_or_better() -> None:
    z = correlated(3000, 16)
    ours = ProductQuantizer(4, 6)
    ours.train(z)
    theirs = faiss.ProductQuantizer(16, 4, 6)
    theirs.train(z)
    error = np.square(z - ours.decode(ours.encode(z))).sum()
    assert error < 1.02 * np.square(z - theirs.decode(theirs.compute_codes(z))).sum()


def test_progress_reports_the_error_of_the_means() -> None:
    z = np.array([[0.0], [2.0], [10.0], [14.0]], dtype=np.float32)
    quantizer = ProductQuantizer(1, 1)
    quantizer.codebooks = np.array([[[0.0], [10.0]]])
    seen: list[dict] = []
    quantizer.train(z, iterations=1, progress=seen.append)
    assert quantizer.codebooks.ravel().tolist() == [1.0, 12.0]
    assert seen == [{"stage": "codebooks", "iteration": 0, "error": (1 + 1 + 4 + 4) / 4}]


def test_empty_cells_are_filled_where_the_error_is() -> None:
    z = np.array([[0.0], [1.0], [10.0], [20.0]], dtype=np.float32)
    quantizer = ProductQuantizer(1, 2)
    quantizer.codebooks = np.array([[[0.0], [0.0], [0.0], [0.0]]])
    quantizer.train(z, iterations=6)
    assert sorted(quantizer.codebooks.ravel().tolist()) == [0.0, 1.0, 10.0, 20.0]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 8),
    st.integers(1, 4),
    st.floats(-3, 3),
)
def test_scores_err_by_no_more_than_the_quantization(seed, M, nbits, dsub, exponent) -> None:
    """|AQD^(1/2) - |q - z|| <= |z - decode(code)|: the bound of DQN, for what a search returns."""
    rng = np.random.default_rng(seed)
    scale = 10.0**exponent
    books = (scale * rng.standard_normal((M, 2**nbits, dsub))).astype(np.float32)
    z, q = (scale * rng.standard_normal((2, 30, M * dsub))).astype(np.float32)
    q[:10] = z[:10]
    z[10:20] = books[np.arange(M), rng.integers(2**nbits, size=(10, M))].reshape(10, -1)
    index = deepq.DeepQuantIndex.from_codebooks(books)
    index.add(z)
    D, I = index.search(q, len(z))
    distances = np.linalg.norm(q[:, None].astype(np.float64) - z[I], axis=2)
    errors = np.linalg.norm(z.astype(np.float64) - index.reconstruct_n(0, len(z)), axis=1)
    gap = np.abs(np.sqrt(D.astype(np.float64)) - distances)
    assert (gap <= errors[I] + 1e-5 * (distances + scale)).all()


@pytest.mark.parametrize("nbits", [1, 4, 8])
def test_identical_rows_are_learned_exactly(nbits: int) -> None:
    z = np.full((300, 6), 3.25, dtype=np.float32)
    quantizer = ProductQuantizer(3, nbits)
    quantizer.train(z, iterations=3)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(z)), z)


def test_as_many_rows_as_codewords_are_learned_exactly() -> None:
    z = correlated(256, 8)
    quantizer = ProductQuantizer(2)
    quantizer.train(z, iterations=3)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(z)), z)


def test_training_is_warm_started() -> None:
    z = correlated(500, 12)
    whole, halves = ProductQuantizer(4, 4), ProductQuantizer(4, 4)
    whole.train(z, iterations=6)
    halves.train(z, iterations=3)
    halves.train(z, iterations=3)
    np.testing.assert_array_equal(whole.codebooks, halves.codebooks)
    halves.codebooks = None
    halves.train(z, iterations=6)
    np.testing.assert_array_equal(whole.codebooks, halves.codebooks)


def test_seed_decides() -> None:
    z = correlated(500, 12)
    books = []
    for seed in (7, 7, 8):
        quantizer = ProductQuantizer(4, 4)
        quantizer.train(z, iterations=3, seed=seed)
        books.append(quantizer.codebooks)
    np.testing.assert_array_equal(books[0], books[1])
    assert not np.array_equal(books[0], books[2])


def test_training_leaves_its_input_and_the_global_generator_alone() -> None:
    z = correlated(100, 4)
    before, state = z.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    ProductQuantizer(2, 3).train(z)
    np.testing.assert_array_equal(z, before)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_codebooks_are_copied_when_set() -> None:
    books = np.zeros((2, 4, 3), dtype=np.float32)
    quantizer = ProductQuantizer(2, 2)
    quantizer.codebooks = books
    books[:] = 1
    assert not quantizer.codebooks.any()
    assert quantizer.dsub == 3


@pytest.mark.parametrize("shape", [(2, 4), (3, 4, 2), (2, 3, 2), (2, 4, 0)])
def test_codebooks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DimensionError, match="expected codebooks"):
        ProductQuantizer(2, 2).codebooks = np.zeros(shape)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    quantizer = ProductQuantizer(1, 1)
    with pytest.raises(InputError, match="finite codebooks"):
        quantizer.codebooks = np.array([[[0.0], [bad]]])
    with pytest.raises(InputError, match="finite training vectors"):
        quantizer.train(np.array([[0.0], [bad]], dtype=np.float32))
    assert quantizer.codebooks is None


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(InputError, match="M of at least 1, got 0"):
        ProductQuantizer(0)
    for nbits in (0, 17):
        with pytest.raises(InputError, match=f"got {nbits}"):
            ProductQuantizer(1, nbits)
    quantizer = ProductQuantizer(4, 4)
    with pytest.raises(StateError):
        quantizer.encode(correlated(3, 12))
    with pytest.raises(InputError, match=r"at least 16 training vectors.*, got"):
        quantizer.train(correlated(15, 12))
    with pytest.raises(DimensionError):
        quantizer.train(correlated(50, 10))
    quantizer = trained()
    with pytest.raises(DimensionError, match="12 columns, got 8"):
        quantizer.encode(correlated(3, 8))
    with pytest.raises(DimensionError):
        quantizer.decode(np.zeros((3, 5), dtype=np.uint8))
    with pytest.raises(InputError, match="metric"):
        quantizer.lookup_tables(correlated(3, 12), 2)


def test_the_first_steps_see_a_part_of_many_rows(monkeypatch) -> None:
    seen: list[int] = []
    real = ProductQuantizer.update
    monkeypatch.setattr(
        ProductQuantizer,
        "update",
        lambda self, z, words, rng: (seen.append(len(z)), real(self, z, words, rng))[1],
    )
    z = correlated(20_000, 4)
    quantizer = ProductQuantizer(2, 3)
    quantizer.train(z, iterations=8)
    assert seen == [5000, 5000, 5000, 10_000, 10_000, 10_000, 20_000, 20_000]
    seen.clear()
    quantizer.train(z, iterations=2)  # from codebooks that are there
    assert seen == [20_000, 20_000]


def test_a_part_of_the_rows_teaches_nearly_as_well() -> None:
    z = correlated(20_000, 8)
    fast, slow = ProductQuantizer(2, 5), ProductQuantizer(2, 5)
    fast.train(z, seed=1)
    rng = np.random.default_rng(1)
    slow.draw(z, rng)
    for _ in range(25):
        slow.update(z, slow.assign(z), rng)
    errors = [np.square(z - q.gather(q.assign(z))).sum() for q in (fast, slow)]
    assert errors[0] < 1.02 * errors[1]
