"""Rows in blocks: as an array in memory, whatever the parts and blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq.datasets import RowSource

from .builders import vectors

QUICK = deepq.TrainConfig(epochs=2, ranking=False)


class Parts(RowSource):
    """Rows of an array in parts, handed out in pieces of `piece` rows; counts what is read."""

    def __init__(self, x, bounds, piece=7):
        super().__init__("an array", bounds, x.shape[1], x.dtype)
        self.x, self.piece, self.read = x, piece, []

    def _read_part(self, i, size):
        self.read.append(i)
        part = self.x[self._bounds[i] : self._bounds[i + 1]]
        for at in range(0, len(part), min(size, self.piece)):
            yield part[at : at + min(size, self.piece)]


def in_parts(x, cuts, piece=7):
    return Parts(x, [0, *sorted(cuts), len(x)], piece)


rows = st.integers(0, 60)


@given(
    st.lists(rows, max_size=5),
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(-70, 70),
    st.integers(-70, 70),
    st.lists(st.integers(-60, 59), max_size=30),
)
def test_it_reads_as_an_array(cuts, piece, size, start, stop, chosen):
    x = vectors(60)
    source = in_parts(x, cuts, piece)
    assert (source.shape, source.dtype, source.ndim, len(source)) == (x.shape, x.dtype, 2, 60)
    np.testing.assert_array_equal(np.asarray(source), x)
    np.testing.assert_array_equal(source[start:stop], x[start:stop])
    np.testing.assert_array_equal(source[start:stop:3], x[start:stop:3])
    np.testing.assert_array_equal(source[np.array(chosen, int)], x[np.array(chosen, int)])
    np.testing.assert_array_equal(source[x[:, 0] > 0], x[x[:, 0] > 0])
    np.testing.assert_array_equal(source[7], x[7])
    np.testing.assert_array_equal(list(source), x)
    blocks = list(source.blocks(size))
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), x)


def test_only_the_parts_that_are_asked_for_are_read():
    source = in_parts(vectors(60), [20, 40])
    source[45:50]
    source[np.array([3, 1])]
    assert source.read == [2, 0]


@pytest.mark.parametrize("rows", [60, -61, [0, 60]])
def test_rows_that_are_not_there(rows):
    with pytest.raises(ValueError, match="rows of an array from 0 to 59"):
        in_parts(vectors(60), [20])[rows]


@pytest.mark.parametrize("rows", ["a", 1.5, None, [[0]]])
def test_what_is_no_row(rows):
    with pytest.raises(TypeError, match="expected a row number"):
        in_parts(vectors(60), [20])[rows]


def test_a_file_that_has_become_another_is_refused():
    for other in (vectors(59), vectors(60, 5), vectors(60).astype(np.float64)):
        source = in_parts(vectors(60), [20])
        source.x = other
        with pytest.raises(deepq.FormatError, match="as when it was opened, got others"):
            np.asarray(source)


def both(x, **settings):
    """Return an index of a source and one of the same rows in memory, trained and filled."""
    found = []
    for rows in (in_parts(x, [100, 101, 700]), x):
        index = deepq.DeepQuantIndex(8, 4, 4, training=QUICK, **settings)
        index.train(rows)
        index.add(rows)
        found.append(index)
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.float64])
def test_an_index_learns_and_holds_the_same_as_of_an_array(dtype):
    x = (20 * vectors(1000, 8)).astype(dtype)
    one, other = both(x)
    np.testing.assert_array_equal(one.codebooks, other.codebooks)
    np.testing.assert_array_equal(one.sa_encode(x), other.sa_encode(x))
    assert one.ntotal == 1000
    queries = in_parts(x[:9], [4])
    for a, b in zip(one.search(queries, 5), other.search(x[:9], 5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_sample_is_the_same_as_of_an_array():
    x = vectors(1000, 8)
    some = deepq.TrainConfig(epochs=2, ranking=False, max_points=300)
    books = []
    for rows in (in_parts(x, [100, 700]), x):
        index = deepq.DeepQuantIndex(8, 4, 4, training=some)
        index.train(rows)
        books.append(index.codebooks)
    np.testing.assert_array_equal(*books)


def test_cells_take_it_too():
    x = vectors(1000, 8)
    indexes = []
    for rows in (in_parts(x, [100, 700]), x):
        index = deepq.DeepQuantIVFIndex(8, 4, 4, 4, training=QUICK)
        index.train(rows)
        index.add(rows)
        indexes.append(index)
    for a, b in zip(*(index.search(x[:9], 5) for index in indexes), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_decoder_learns_from_it():
    index = deepq.DeepQuantIndex(8, 4, 4, rerank=10, training=deepq.TrainConfig(epochs=1))
    index.train(in_parts(vectors(1000, 8), [300]))
    assert index.is_trained


def test_labels_go_with_it():
    x, y = vectors(400, 8), np.arange(400) % 4
    index = deepq.recipes.class_codes(8, 8, 4, nbits=4)
    index.training = deepq.TrainConfig(epochs=1, batch_size=100)
    index.train(in_parts(x, [100]), y)
    assert index.is_trained


@pytest.mark.parametrize("kind", ["source", "map"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named_and_nothing_is_added(tmp_path, kind, value):
    x = vectors(1000, 8)
    index = deepq.DeepQuantIndex(8, 4, 4, training=QUICK)
    index.train(x)
    x[877, 3] = value
    rows = in_parts(x, [500])
    if kind == "map":
        np.save(tmp_path / "x.npy", x)
        rows = np.load(tmp_path / "x.npy", mmap_mode="r")
    for method in (index.add, deepq.DeepQuantIndex(8, 4, 4).train):
        with pytest.raises(ValueError, match="row 877"):
            method(rows)
    assert index.ntotal == 0


def test_a_source_of_another_width_is_refused():
    index = deepq.DeepQuantIndex(8, 4, 4)
    with pytest.raises(ValueError, match=r"shape \(n, 8\), got \(0, 6\)"):
        index.train(in_parts(vectors(60), [20]))


def test_everything_else_takes_it():
    x = vectors(600, 8)
    source = in_parts(x, [100])
    _, I = deepq.datasets.exact_neighbours(source, x[:5], 3)
    np.testing.assert_array_equal(I, deepq.datasets.exact_neighbours(x, x[:5], 3)[1])
    data = deepq.datasets.Dataset("x", source, source, x[:5])
    np.testing.assert_array_equal(data.neighbours(3), I)
    assert deepq.diagnose(deepq.DeepQuantIndex.from_codebooks(np.eye(2, 8)[None]), source).n == 600
