"""HDF5: any data set of vectors, and the files of ann-benchmarks and VIBE."""

from __future__ import annotations

import sys

import faiss
import numpy as np
import pytest

from deepq.datasets import RowSource, exact_neighbours, load, read_vectors

from .builders import vectors

h5py = pytest.importorskip("h5py")

X, Q = vectors(300), vectors(10, seed=1)


def write(path, arrays, attributes=(), **how):
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file.create_dataset(name, data=x, **how)
        file.attrs.update(dict(attributes))
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.int8, ">f8"])
@pytest.mark.parametrize("how", [{}, {"chunks": (7, 3)}, {"compression": "gzip"}])
def test_a_data_set(tmp_path, dtype, how):
    x = np.abs(20 * X).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/x", data=x, **how)
        file["ids"] = np.arange(300)
    found = read_vectors(tmp_path / "x.h5")
    assert isinstance(found, RowSource if how else np.memmap)
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    np.testing.assert_array_equal(np.asarray(found), x)
    np.testing.assert_array_equal(found[np.array([299, 0, 8])], x[[299, 0, 8]])


def test_data_sets_by_name(tmp_path):
    path = write(tmp_path / "x.hdf5", {"a": X, "b": X + 1, "c": np.arange(3)})
    np.testing.assert_array_equal(read_vectors(path, "b"), X + 1)
    with pytest.raises(ValueError, match="or the name of one, got 2: 'a', 'b'"):
        read_vectors(path)
    with pytest.raises(ValueError, match="one of its data sets, 'a', 'b', 'c', got 'd'"):
        read_vectors(path, "d")
    with pytest.raises(ValueError, match=r"shape \(n, d\) in 'c'"):
        read_vectors(path, "c")


@pytest.mark.parametrize(
    ("distance", "metric"),
    [
        ("euclidean", faiss.METRIC_L2),
        ("angular", "cosine"),
        ("cosine", "cosine"),
        ("ip", faiss.METRIC_INNER_PRODUCT),
        (b"normalized", faiss.METRIC_INNER_PRODUCT),
    ],
)
def test_files_of_benchmarks(tmp_path, distance, metric):
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (X, Q))
    base, query = unit if metric == "cosine" else (X, Q)
    by = metric if metric == faiss.METRIC_L2 else faiss.METRIC_INNER_PRODUCT
    _, gt = exact_neighbours(base, query, 10, by)
    arrays = {"train": X, "test": Q, "neighbors": gt, "distances": gt.astype(float)}
    found = load(write(tmp_path / "tiny.hdf5", arrays, {"distance": distance}))
    assert (found.name, found.metric) == ("tiny", metric)
    np.testing.assert_array_equal(found.base, X)
    np.testing.assert_array_equal(found.query, Q)
    np.testing.assert_array_equal(found.gt, gt)
    deeper = found.neighbours(20)
    assert np.mean(deeper[:, :10] == gt) > 0.98


@pytest.mark.parametrize("distance", ["hamming", "jaccard"])
def test_other_distances(tmp_path, distance):
    path = write(tmp_path / "x.hdf5", {"train": X, "test": Q}, {"distance": distance})
    with pytest.raises(ValueError, match=f"a distance of euclidean, .* got '{distance}'"):
        load(path)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"data sets train and test, .* got a"):
        load(write(tmp_path / "x.hdf5", {"a": X}))
    path = write(tmp_path / "y.hdf5", {"train": X, "test": Q})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="expected a whole HDF5 file"):
        load(path)
    (tmp_path / "z.h5").write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected a whole HDF5 file"):
        read_vectors(tmp_path / "z.h5")


def test_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "x.hdf5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"expected h5py.*pip install 'deepq\[formats\]'"):
        load(tmp_path / "x.hdf5")
