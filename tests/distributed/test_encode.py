"""What can be said of an encoding before Ray starts."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import deepq
from deepq.distributed import ShardedIndex, encode_dataset
from deepq.distributed.sources import Stream
from tests.distributed.builders import in_shards, rows, trained


@pytest.fixture
def index():
    return trained()


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "x.npy", rows(50))
    return tmp_path / "x.npy"


@pytest.fixture
def no_ray(monkeypatch):
    """What is refused is refused before anything starts."""
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("named", "error", "text"),
    [
        ({"source": "none.npy"}, FileNotFoundError, "none.npy"),
        ({"source": []}, deepq.InputError, "a path at least"),
        ({"source": 5}, deepq.KindError, "expected paths, .* got int"),
        ({"source": np.zeros((3, 16), "float32")}, deepq.KindError, "expected paths, .* got nda"),
        ({"index": deepq.DeepQuantIndex(16, 2, 4)}, deepq.StateError, "expected a trained index"),
        ({"index": None}, deepq.KindError, "got NoneType"),
        ({"ids": np.zeros(50, int)}, deepq.InputError, "every id once"),
        ({"ids": np.arange(49)}, deepq.InputError, "expected 50 integers from 0 on"),
        ({"ids": np.arange(50) - 1}, deepq.InputError, "expected 50 integers from 0 on"),
        ({"ids": np.arange(50) / 2}, deepq.InputError, "expected 50 integers from 0 on"),
        ({"rows_per_shard": 0}, deepq.InputError, "rows_per_shard"),
        ({"rows_per_block": -1}, deepq.InputError, "rows_per_block"),
        ({"workers": 0}, deepq.InputError, "workers of at least 1, got 0"),
        ({}, ImportError, r"expected ray, .* pip install 'deepq\[ray\]'"),
    ],
)
def test_bad_arguments_are_refused(index, npy, tmp_path, named, error, text):
    how = {"source": npy, "index": index, **named}
    source, codec = how.pop("source"), how.pop("index")
    with pytest.raises(error, match=text):
        encode_dataset(source, codec, tmp_path / "out", **how)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.usefixtures("no_ray")
def test_rows_of_another_length_are_refused(index, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 15), np.float32))
    with pytest.raises(deepq.InputError, match=r"rows of 16 numbers, got shape \(5, 15\)"):
        encode_dataset(tmp_path / "x.npy", index, tmp_path / "out")


@pytest.mark.usefixtures("no_ray")
def test_a_search_without_ray_names_the_extra(index, tmp_path):
    manifest = in_shards(index, tmp_path, [rows(20)])
    with pytest.raises(ImportError, match=r"pip install 'deepq\[ray\]'"):
        ShardedIndex(manifest)


class Batches:
    """As a Ray Dataset: batches of 7 rows of 20."""

    def __init__(self, **columns):
        self._columns = columns
        self.context = SimpleNamespace(execution_options=SimpleNamespace(preserve_order=False))

    def map_batches(self):
        raise NotImplementedError

    def iter_batches(self, *, batch_size, batch_format):
        assert (batch_size, batch_format) == (7, "numpy")
        assert self.context.execution_options.preserve_order
        for start in range(0, 20, 7):
            yield {name: part[start : start + 7] for name, part in self._columns.items()}


@pytest.mark.parametrize("as_objects", [False, True])
def test_rows_of_a_stream_are_cut_at_the_ends_of_shards(as_objects):
    x, ids = rows(20), np.arange(20) * 2
    column = x
    if as_objects:
        column = np.empty(20, object)
        column[:] = list(x)
    stream = Stream(Batches(v=column, key=ids), 16, None, "key")
    blocks = list(stream.blocks(7, 10, set()))
    assert [(block.start, block.stop) for block in blocks] == [(0, 7), (7, 10), (10, 14), (14, 20)]
    assert np.array_equal(np.concatenate([block.rows for block in blocks]), x)
    assert np.concatenate([block.ids for block in blocks]).tolist() == ids.tolist()
    assert [block.start for block in stream.blocks(7, 10, {0})] == [10, 14]
    with pytest.raises(deepq.InputError, match=r"the only other one', 'no'\], got \['key', 'v'\]"):
        list(Stream(Batches(v=column, key=ids), 16, None, "no").blocks(7, 10, set()))
    with pytest.raises(deepq.InputError, match="expected rows of 15 numbers"):
        list(Stream(Batches(v=column), 15, None, None).blocks(7, 10, set()))
