"""Training rows: in memory, mapped from a file, or made block by block."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from deepq._common.errors import DimensionError, InputError, KindError
from deepq.training.rows import Inputs, Rows

N, D = 1000, 4
X = np.arange(N * D, dtype=np.float32).reshape(N, D)  # a row's number is its first / D
X.flags.writeable = False
NONE = np.empty(0, np.int64)


def mapped(tmp_path: Any, x: np.ndarray = X) -> np.memmap:
    x.tofile(tmp_path / "x.bin")
    return np.memmap(tmp_path / "x.bin", dtype=x.dtype, mode="r", shape=x.shape)


def streamed(x: np.ndarray = X, sizes: tuple[int, ...] = (70, 1, 250, 0, 33)) -> Callable[[], Any]:
    """Return a callable that yields `x` in blocks of these sizes, again and again."""

    def source() -> Iterator[np.ndarray]:
        first = i = 0
        while first < len(x):
            yield x[first : first + sizes[i % len(sizes)]]
            first += sizes[i % len(sizes)]
            i += 1

    return source


@pytest.fixture(params=["array", "memmap", "callable"])
def source(request, tmp_path):
    return {"array": X, "memmap": mapped(tmp_path), "callable": streamed()}[request.param]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbers(rows: np.ndarray) -> np.ndarray:
    """The positions of rows of X."""
    np.testing.assert_array_equal(rows, X[rows[:, 0].astype(int) // D])
    return rows[:, 0].astype(int) // D


# ---- sample --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 10, 999])
def test_a_sample_is_of_distinct_rows_in_order(source, most) -> None:
    rows = Rows(source, D)
    positions, x = rows.sample(most, rng())
    assert rows.count == N
    assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (most, D), True)
    np.testing.assert_array_equal(numbers(x), positions)
    assert (np.diff(positions) > 0).all()


@pytest.mark.parametrize("most", [N, 5000])
def test_a_sample_may_be_everything(source, most) -> None:
    positions, x = Rows(source, D).sample(most, rng())
    np.testing.assert_array_equal(positions, np.arange(N))
    np.testing.assert_array_equal(x, X)


def test_a_sample_follows_the_generator(source) -> None:
    drawn = [Rows(source, D).sample(50, rng(seed))[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_sample_is_uniform(source, monkeypatch) -> None:
    monkeypatch.setattr("deepq.training.rows._BLOCK", 90)
    generator, times = rng(), 300
    counts = np.zeros(N)
    for _ in range(times):
        counts[Rows(source, D).sample(100, generator)[0]] += 1
    mean, deviation = 0.1 * times, np.sqrt(times * 0.1 * 0.9)
    assert counts.sum() == 100 * times
    assert abs(counts - mean).max() < 5.5 * deviation
    tenths = counts.reshape(10, -1).sum(axis=1)  # no part of the rows is preferred
    assert abs(tenths - 100 * mean).max() < 5 * deviation * 10


# ---- batches -------------------------------------------------------------------------------------


def epoch(source: Any, size: int, without: np.ndarray, seed: int = 3, skip: int = 0) -> list:
    """Return the batches of one time around, after `skip` others."""
    count = (N - len(without)) // size
    return list(
        islice(Rows(source, D).batches(size, without, seed), skip * count, (skip + 1) * count)
    )


@pytest.mark.parametrize("size", [1, 10, 190, 950])
def test_an_epoch_has_every_row_once_but_those_held(source, size) -> None:
    held = np.sort(rng(7).choice(N, 50, replace=False))
    for skip in (0, 1):
        batches = epoch(source, size, held, skip=skip)
        assert {len(batch) for batch in batches} == {size}
        seen = numbers(np.concatenate(batches))
        np.testing.assert_array_equal(np.sort(seen), np.setdiff1d(np.arange(N), held))


def test_rows_left_over_are_passed_over(source) -> None:
    seen = numbers(np.concatenate(epoch(source, 300, NONE)))
    assert len(seen) == len(np.unique(seen)) == 900


def test_held_rows_never_come(source) -> None:
    held = np.arange(3, N, 2)
    batches = islice(Rows(source, D).batches(64, held, 3), 40)
    assert not np.isin(numbers(np.concatenate(list(batches))), held).any()


def test_batches_are_in_random_order_and_follow_the_seed(source) -> None:
    first, again, other, later = (
        np.concatenate(epoch(source, 10, NONE, seed, skip))
        for seed, skip in ((3, 0), (3, 0), (4, 0), (3, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, later)
    steps = np.diff(numbers(first))
    assert (steps != 1).mean() > 0.9
    for batches in (first, later):  # rows of a batch are from far apart
        assert np.ptp(numbers(batches).reshape(-1, 10), axis=1).mean() > 100


def test_a_stream_is_asked_anew_for_every_pass() -> None:
    calls: list[int] = []

    def source() -> Iterator[np.ndarray]:
        calls.append(1)
        return streamed()()

    rows = Rows(source, D)
    assert not calls
    rows.sample(10, rng())
    assert len(calls) == 1
    list(islice(rows.batches(100, NONE, 0), 25))
    assert len(calls) == 4


def test_long_blocks_are_cut(monkeypatch) -> None:
    whole = epoch(streamed(sizes=(N,)), 10, NONE)
    monkeypatch.setattr("deepq.training.rows._BLOCK", 90)
    assert len(epoch(streamed(sizes=(N,)), 10, NONE)) == len(whole)
    np.testing.assert_array_equal(Rows(streamed(sizes=(N,)), D).sample(N, rng())[1], X)


@pytest.mark.parametrize("size", [951, 5000])
def test_too_few_rows_for_a_batch_are_refused(source, size) -> None:
    batches = Rows(source, D).batches(size, np.arange(50), 0)
    with pytest.raises(InputError, match=f"expected at least {size} training vectors, got"):
        next(batches)


def test_no_rows() -> None:
    for source in (X[:0], list, lambda: [X[:0], X[:0]]):
        rows = Rows(source, D)
        positions, x = rows.sample(10, rng())
        assert (len(positions), x.shape, rows.count) == (0, (0, D), 0)
        with pytest.raises(InputError, match="expected at least 1 training vectors, got"):
            next(rows.batches(1, NONE, 0))


# ---- what the rows are ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", "f2", "u1", "i4", "?", ">f4"])
@pytest.mark.parametrize("place", ["array", "memmap", "callable"])
def test_other_real_dtypes_are_cast(dtype, place, tmp_path) -> None:
    x = (X % 200).astype(dtype)
    source = {"array": x, "memmap": mapped(tmp_path, x), "callable": streamed(x)}[place]
    rows = Rows(source, D)
    assert len(rows.sample(20, rng())[1]) == 20
    positions, drawn = rows.sample(N, rng())
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, x.astype(np.float32)[positions])
    batch = next(rows.batches(N, NONE, 0))
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(np.sort(batch, axis=0), np.sort(x.astype(np.float32), axis=0))


@pytest.mark.parametrize("place", ["array", "memmap", "callable"])
@pytest.mark.parametrize(
    ("x", "error"),
    [
        (X[:, :3], DimensionError),
        (X[:, 0], DimensionError),
        (X.astype("c8"), KindError),
    ],
    ids=["columns", "one column", "complex"],
)
def test_other_shapes_and_kinds_are_refused(place, x, error, tmp_path) -> None:
    x = np.ascontiguousarray(x)
    source = {"array": x, "memmap": mapped(tmp_path, x), "callable": lambda: [x]}[place]
    with pytest.raises(error, match=r"expected (x|training vectors) .*got"):
        Rows(source, D).sample(10, rng())


def test_no_array_at_all_is_refused() -> None:
    for source in (5, [[1.0] * D], "rows"):
        with pytest.raises(KindError, match="expected x to be an"):
            Rows(source, D)


@pytest.mark.parametrize("made", [5, None, np.float32(3)], ids=str)
def test_a_callable_that_makes_no_iterator_is_refused(made) -> None:
    with pytest.raises(KindError, match=r"a callable that returns an iterator .*, which returns"):
        Rows(lambda: made, D).sample(10, rng())


@pytest.mark.parametrize("source", [torch.nn.Linear(D, D), torch.nn.Linear, len, lambda x: x])
def test_what_cannot_be_called_for_blocks_is_refused(source) -> None:
    with pytest.raises(KindError, match=r"expected x to be an array, or a callable .*, got .*:"):
        Rows(source, D).sample(10, rng())


def test_an_iterator_that_is_not_fresh_is_refused() -> None:
    blocks = iter([X])
    rows = Rows(lambda: blocks, D)
    rows.sample(10, rng())
    with pytest.raises(InputError, match="a fresh one at every call, got the same"):
        rows.sample(10, rng())


@pytest.mark.parametrize(
    "block", [X.tolist(), torch.tensor(X, requires_grad=True), torch.tensor(X).bfloat16()]
)
def test_what_becomes_an_array_is_a_block(block) -> None:
    _, x = Rows(lambda: [block], D).sample(N, rng())
    np.testing.assert_allclose(x, X, rtol=0.01)


@pytest.mark.parametrize(
    "block", [5, None, {1.0}, {"x": X}, "rows", np.array(3), [X[:2], [1, 2]], np.ma.masked_array(X)]
)
def test_what_is_no_block_is_refused(block) -> None:
    with pytest.raises((KindError, DimensionError), match=r"expected .*got"):
        Rows(lambda: [block], D).sample(10, rng())


def test_a_stream_may_be_of_images() -> None:
    images = X.reshape(N, 1, 2, 2)
    _, x = Rows(lambda: [images], D, (1, 2, 2)).sample(N, rng())
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_bad_numbers_in_an_array_or_a_stream_are_found_at_once(bad) -> None:
    x = X.copy()
    x[777, 2] = bad
    with pytest.raises(InputError, match=r"expected .*got"):
        Rows(x, D)
    with pytest.raises(InputError, match=r"expected .*got"):
        Rows(streamed(x), D).sample(10, rng())


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e30])
def test_bad_numbers_in_a_file_are_found_late(bad, tmp_path) -> None:
    x = X.copy()
    x[777, 2] = bad
    rows = Rows(mapped(tmp_path, x), D)
    positions, _ = rows.sample(10, rng())
    assert 777 not in positions
    with pytest.raises(InputError, match=r"expected .*training vectors, .*got"):
        list(islice(rows.batches(100, NONE, 0), 10))


def test_bad_numbers_that_come_later_in_a_stream_are_found() -> None:
    x = X.copy()
    rows = Rows(streamed(x), D)
    rows.sample(10, rng())
    x[777, 2] = np.nan
    with pytest.raises(InputError, match=r"expected finite .*got NaN"):
        list(islice(rows.batches(100, NONE, 0), 10))


def test_numbers_beyond_float32_are_refused_without_a_warning(tmp_path) -> None:
    x = X.astype("f8")
    x[777, 2] = 1e300
    for source in (x, streamed(x), mapped(tmp_path, x)):
        with pytest.raises(InputError, match=r"expected finite numbers .*got NaN or infinity"):
            Rows(source, D).sample(N, rng())


# ---- memory --------------------------------------------------------------------------------------


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_a_file_is_never_in_memory_whole(dtype, tmp_path) -> None:
    x = np.ones((20_000, 512), dtype)
    source = mapped(tmp_path, x)

    def read() -> None:
        rows = Rows(source, 512)
        rows.sample(100, rng())
        deque(islice(rows.batches(64, np.arange(9), 0), 50), maxlen=0)

    assert peak(read) < x.nbytes / 4


def test_a_stream_is_never_in_memory_whole(monkeypatch) -> None:
    monkeypatch.setattr("deepq.training.rows._BLOCK", 100)

    def source() -> Iterator[np.ndarray]:
        return (np.full((100, 512), i, np.float32) for i in range(200))

    def read() -> None:
        rows = Rows(source, 512)
        rows.sample(100, rng())
        deque(islice(rows.batches(16, np.arange(9), 0), 1200), maxlen=0)

    assert peak(read) < 200 * 100 * 512 * 4 / 4


def test_an_array_of_float32_is_not_copied() -> None:
    x = np.ones((5000, 512), np.float32)
    assert peak(lambda: Rows(x, 512)) < x.nbytes / 2


@pytest.mark.parametrize("bad", [0, 77, 503, N - 1])
@pytest.mark.parametrize("kind", ["array", "mapped", "streamed", "batches"])
def test_a_row_that_is_not_finite_is_named_by_its_number(tmp_path, bad, kind) -> None:
    x = X.copy()
    x[bad, 2] = np.nan
    rng = np.random.default_rng(0)
    read = {
        "array": lambda: Rows(x, D),
        "mapped": lambda: Rows(mapped(tmp_path, x), D).sample(N, rng),
        "streamed": lambda: Rows(streamed(x), D).sample(N, rng),
        "batches": lambda: list(islice(Rows(mapped(tmp_path, x), D).batches(90, NONE, 0), N)),
    }
    with pytest.raises(InputError, match=f"NaN or infinity in row {bad}$"):
        read[kind]()


@pytest.mark.parametrize("bad", [3, 940])
def test_a_network_names_the_row_of_the_file(tmp_path, bad) -> None:
    x = X.copy()
    x[bad, 1] = np.inf
    inputs = Inputs(mapped(tmp_path, x), np.ones((20, D), np.float32))
    rows = np.random.default_rng(0).permutation(N + 20)
    with pytest.raises(InputError, match=f"NaN or infinity in row {bad}$"):
        inputs.take(rows)
