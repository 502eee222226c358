"""k-means of rows in parts: no bit depends on them, and it is the k-means of a quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import InputError
from deepq.quantizers.parted import Part, combined, fit_parts, grid_of, moved, on_grid
from deepq.quantizers.product import ProductQuantizer

M, NBITS, D = 3, 5, 6


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Numbers of very different sizes, among them few large ones."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, D)) * np.exp(3 * rng.standard_normal((n, 1)))).astype("f")


class Lists:
    """Parts in a list."""

    def __init__(self, x: np.ndarray, cuts: Sequence[int]) -> None:
        self.bounds = np.array([0, *cuts, len(x)])
        self.parts = [Part(some) for some in np.split(x, cuts)]

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(part, method)(*arguments) for part in self.parts]

    def ask_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        pairs = zip(self.parts, arguments, strict=True)
        return [getattr(part, method)(*some) for part, some in pairs]


def fitted(x: Any, cuts: Sequence[int], start: Any = None, iterations: int = 8) -> tuple[Any, Any]:
    quantizer, told, parts = ProductQuantizer(M, NBITS), [], Lists(x, cuts)
    quantizer.codebooks = start
    fit_parts(
        quantizer, parts, parts.bounds, iterations=iterations, seed=3, progress=told.append
    )  # fmt: skip
    return quantizer.trained(), told


def plain(x: Any, start: Any = None, iterations: int = 8) -> tuple[Any, Any]:
    quantizer, told = ProductQuantizer(M, NBITS), []
    quantizer.codebooks = start
    quantizer.train(x, iterations=iterations, seed=3, progress=told.append)
    return quantizer.trained(), told


@pytest.mark.parametrize(
    "cuts", [[2000], [1, 5, 2999], [0, 700, 700, 3000], list(range(0, 3000, 7))]
)
def test_cuts_change_no_bit(cuts) -> None:
    x = rows(3000)
    books, told = fitted(x, [])
    others, told_others = fitted(x, cuts)
    np.testing.assert_array_equal(others, books)
    assert [e["error"] for e in told] == pytest.approx([e["error"] for e in told_others], rel=1e-9)


def test_sums_of_parts_are_those_of_the_whole_to_the_last_bit_of_a_float64() -> None:
    x = rows(3000) ** 3  # over so many magnitudes that float64 rounds sums of them
    books = x[:32].reshape(32, M, -1).transpose(1, 0, 2).copy()
    grid = grid_of(float(abs(x).max()), len(x))
    whole = Part(x).step(books, grid)
    for order in ([0, 1, 2], [2, 0, 1]):
        parts = np.array_split(x, 3)
        found = combined([Part(parts[i]).step(books, grid) for i in order])
        np.testing.assert_array_equal(found.sums, whole.sums)
        np.testing.assert_array_equal(found.counts, whole.counts)


def test_it_is_the_k_means_of_a_quantizer() -> None:
    x = rows(3000, 1)
    books, told = fitted(x, [1000, 2000])
    own, told_own = plain(x)
    np.testing.assert_allclose(books, own, rtol=1e-5, atol=1e-6)
    assert [e["error"] for e in told] == pytest.approx([e["error"] for e in told_own], rel=1e-5)
    assert [e["stage"] for e in told] == ["codebooks"] * 8
    start = x[:32].reshape(32, M, -1).transpose(1, 0, 2)
    many = rows(20_000, 2)  # of which a new training would see a part first
    np.testing.assert_allclose(
        fitted(many, [9000], start, 3)[0], plain(many, start, 3)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("n", [500, 9000])
def test_empty_cells_are_filled_by_the_same_rows(n) -> None:
    x = rows(n, 4)
    start = np.repeat(x[:1], 32, axis=0).reshape(32, M, -1).transpose(1, 0, 2)  # one cell, 31 empty
    books, _ = fitted(x, [n // 3], start, 1)
    own, _ = plain(x, start, 1)
    np.testing.assert_allclose(books, own, rtol=1e-5, atol=1e-6)
    assert len(np.unique(books[0], axis=0)) == 32
    np.testing.assert_array_equal(fitted(x, [5, n - 1], start, 6)[0], fitted(x, [], start, 6)[0])


def test_a_part_says_the_same_when_it_is_made_again() -> None:
    x = rows(400)
    books, grid = x[:32].reshape(32, M, -1).transpose(1, 0, 2).copy(), grid_of(1e4, 400)
    used = Part(x)
    used.look()
    used.step(books, 2 * grid)  # another grid before
    used.take(np.arange(3), grid)
    for a, b in zip(used.step(books, grid), Part(x).step(books, grid), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(x, rows(400))  # which is not rounded


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_sums_on_the_grid_are_exact_in_any_order(numbers, random) -> None:
    x = np.array(numbers, np.float32)
    grid = grid_of(float(abs(x).max()), len(x))
    z = on_grid(x, grid).astype(np.float64)
    assert abs(z - x).max() <= grid / 2
    total = sum(int(v / grid) for v in z.tolist())
    mixed = z.tolist()
    random.shuffle(mixed)
    assert sum(mixed) == z.cumsum()[-1] == total * grid


def test_the_grid_is_finer_than_float32_for_a_million_rows() -> None:
    assert grid_of(1.0, 1 << 20) == 2.0**-32
    assert grid_of(0.0, 7) == 1.0
    assert grid_of(0.9, 1) == 2.0**-53
    x = np.linspace(0.01, 1, 999, dtype=np.float32)
    np.testing.assert_array_equal(on_grid(x, grid_of(1.0, 1 << 20)), x)


def test_sums_are_put_together_and_give_means() -> None:
    x = np.array([[1, 0], [3, 0], [10, 2]], np.float32)
    books = np.array([[[0, 0], [9, 9], [100, 100]]], np.float32)
    found = combined([Part(x[:1]).step(books, 2.0**-20), Part(x[1:]).step(books, 2.0**-20)])
    assert found.counts.tolist() == [[2, 1, 0]]
    assert found.energy == 114
    new, error = moved(books, found)
    assert new.tolist() == [[[2, 0], [10, 2], [100, 100]]]
    assert error == pytest.approx(2 / 3)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 training vectors"):
        fitted(rows(31), [10])
