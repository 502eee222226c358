"""Files of CIFAR and SVHN, and damaged ones."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import tarfile

import numpy as np
import pytest
from scipy.io import savemat

from deepq.datasets import (
    cifar10,
    cifar100,
    imagenet32,
    svhn,
)

CIFAR10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
NAMES = ["airplane", "automobile", "bird"]


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


# ---- Pickles as Python 2 and the NumPy of 2009 wrote them ---------------------------------------


def text(value: bytes) -> bytes:
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(x, code=b"u1") -> bytes:
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85"
    dtype = b"cnumpy\ndtype\n" + text(code) + number(0) + number(1) + b"\x87R("
    dtype += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    shape = b"(" + b"".join(number(n) for n in x.shape) + b"t"
    fortran = not x.flags.c_contiguous
    content = text(x.tobytes("F" if fortran else "C"))
    state = b"(" + number(1) + shape + dtype + (b"\x88" if fortran else b"\x89") + content + b"tb"
    return start + text(b"b") + b"\x87R" + state


def listing(values) -> bytes:
    items = (number(v) if isinstance(v, int) else text(v.encode()) for v in values)
    return b"](" + b"".join(items) + b"e"


def dictionary(entries) -> bytes:
    items = b"".join(text(key.encode()) + value for key, value in entries.items())
    return b"\x80\x02}(" + items + b"u."


def batch(x, **labels) -> bytes:
    entries = {"batch_label": text(b"a batch"), "data": array(x)}
    return dictionary(entries | {key: listing(values) for key, values in labels.items()})


def test_the_pickles_of_these_tests_are_read_by_pickle():
    x = pixels(2)
    found = pickle.loads(batch(x, labels=[1, 2]), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], x)
    assert found[b"labels"] == [1, 2]


def write(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def ten():
    """Two images a file, and their classes."""
    return pixels(12), [0, 1, 2, 2, 1, 0, 0, 1, 2, 0, 1, 2]


def python_files(x, labels):
    files = {
        name: batch(x[2 * i : 2 * i + 2], labels=labels[2 * i : 2 * i + 2])
        for i, name in enumerate(CIFAR10)
    }
    return files | {"batches.meta": dictionary({"label_names": listing(NAMES)})}


def binary_files(x, labels):
    rows = np.hstack([np.array(labels, np.uint8)[:, None], x])
    files = {f"{name}.bin": rows[2 * i : 2 * i + 2].tobytes() for i, name in enumerate(CIFAR10)}
    return files | {"batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}


class TestCifar10:
    @pytest.mark.parametrize("files", [python_files, binary_files])
    @pytest.mark.parametrize("place", [write, archive])
    def test_each_version(self, tmp_path, ten, files, place):
        x, labels = ten
        found = cifar10(place(tmp_path / "cifar", files(x, labels)))
        assert repr(found) == "<ImageSet CIFAR-10: train (10, 3, 32, 32), test (2, 3, 32, 32)>"
        np.testing.assert_array_equal(found.train.reshape(10, -1), x[:10])
        np.testing.assert_array_equal(found.test.reshape(2, -1), x[10:])
        assert found.train_labels.tolist() == labels[:10]
        assert found.test_labels.tolist() == labels[10:]
        assert (found.train.dtype, found.train_labels.dtype) == (np.uint8, np.int64)
        assert found.label_names == tuple(NAMES)
        assert found.train.flags.writeable
        assert found.test.flags.writeable

    def test_names_may_be_missing(self, tmp_path, ten):
        files = python_files(*ten)
        del files["batches.meta"]
        assert cifar10(write(tmp_path, files)).label_names == ()

    def test_an_array_in_the_order_of_fortran(self, tmp_path, ten):
        x, labels = ten
        files = python_files(x, labels)
        files["test_batch"] = batch(np.asfortranarray(x[10:]), labels=labels[10:])
        found = cifar10(write(tmp_path, files))
        np.testing.assert_array_equal(found.test.reshape(2, -1), x[10:])

    @pytest.mark.parametrize(
        "attack",
        [
            b"cos\nsystem\n" + text(b"touch attacked") + b"\x85R",
            b"c__builtin__\neval\n" + text(b"1") + b"\x85R",
            b"cnumpy\nload\n" + text(b"x") + b"\x85R",
            b"cnumpy.testing._private.utils\nrunstring\n" + text(b"1") + b"}\x86R",
        ],
    )
    def test_a_hostile_pickle_runs_nothing(self, tmp_path, ten, attack, monkeypatch):
        monkeypatch.chdir(tmp_path)
        before = set(sys.modules)
        files = python_files(*ten) | {"test_batch": dictionary({"data": attack})}
        with pytest.raises(ValueError, match=r"test_batch: .*which is not allowed"):
            cifar10(write(tmp_path / "cifar", files))
        assert not (tmp_path / "attacked").exists()
        assert set(sys.modules) == before

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "expected a pickle of CIFAR's, got: Ran out of input"),
            (b"\x80\x02]", "expected a pickle of CIFAR's"),
            (b"\x80\x02].", "a dict with data, got NoneType"),
            (dictionary({"data": listing([1])}), "a dict with data, got list"),
            (dictionary({"data": array(pixels(2))}), "a dict with labels, got NoneType"),
            (batch(pixels(2)[:, :9], labels=[0, 1]), r"shape \(n, 3072\), got \(2, 9\)"),
            (batch(pixels(2), labels=["a", "b"]), "integers in labels"),
            (batch(pixels(2), labels=[1]), "2 labels for test, got shape .1,."),
            (batch(pixels(2), labels=[1, 10]), "labels from 0 to 9, got 0 to 10"),
            (
                dictionary({"data": array(pixels(2), b"O8"), "labels": listing([1])}),
                "numbers of type b'O8'",
            ),
        ],
    )
    def test_damaged_pickles(self, tmp_path, ten, content, words):
        files = python_files(*ten) | {"test_batch": content}
        with pytest.raises(ValueError, match=words):
            cifar10(write(tmp_path, files))

    @pytest.mark.parametrize("content", [b"", b"\0" * 3072])
    def test_damaged_binary_files(self, tmp_path, ten, content):
        files = binary_files(*ten) | {"test_batch.bin": content}
        with pytest.raises(ValueError, match=f"images of 3073 bytes, got {len(content)} bytes"):
            cifar10(write(tmp_path, files))

    def test_missing_files(self, tmp_path, ten):
        files = binary_files(*ten)
        del files["data_batch_3.bin"]
        with pytest.raises(ValueError, match=r"expected data_batch_1, .* \.bin, got batches.meta"):
            cifar10(write(tmp_path, files))
        with pytest.raises(FileNotFoundError):
            cifar10(tmp_path / "nothing.tar.gz")

    def test_damaged_archives(self, tmp_path, ten):
        whole = archive(tmp_path / "whole.tar.gz", binary_files(*ten)).read_bytes()
        for content in (b"no archive", whole[:-2000]):
            (tmp_path / "some.tar.gz").write_bytes(content)
            with pytest.raises(ValueError, match=r"a folder or a \.tar\.gz"):
                cifar10(tmp_path / "some.tar.gz")


@pytest.mark.parametrize(("coarse", "kind"), [(False, "fine"), (True, "coarse")])
def test_cifar100(tmp_path, coarse, kind):
    x, fine, rough = pixels(5), [9, 99, 3, 7, 0], [1, 19, 0, 5, 2]
    expected = {"fine": fine, "coarse": rough}[kind]
    names = {"fine": ["apple", "bee"], "coarse": ["fish"]}
    python = {
        "train": batch(x[:3], fine_labels=fine[:3], coarse_labels=rough[:3]),
        "test": batch(x[3:], fine_labels=fine[3:], coarse_labels=rough[3:]),
        "meta": dictionary({f"{k}_label_names": listing(v) for k, v in names.items()}),
    }
    rows = np.hstack([np.array([rough, fine], np.uint8).T, x])
    binary = {
        "train.bin": rows[:3].tobytes(),
        "test.bin": rows[3:].tobytes(),
        **{f"{k}_label_names.txt": "\n".join(v).encode() for k, v in names.items()},
    }
    for place in (write(tmp_path / "py", python), write(tmp_path / "bin", binary)):
        found = cifar100(place, coarse=coarse)
        assert found.train_labels.tolist() + found.test_labels.tolist() == expected
        np.testing.assert_array_equal(found.train.reshape(3, -1), x[:3])
        assert found.label_names == tuple(names[kind])


class TestSvhn:
    def test_as_matlab_writes_it(self, tmp_path):
        x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
        y = np.array([[1], [10], [9], [10], [2]], np.uint8)
        savemat(tmp_path / "train_32x32.mat", {"X": x, "y": y}, do_compression=True)
        savemat(tmp_path / "test_32x32.mat", {"X": x[..., :2], "y": y[:2]})
        found = svhn(tmp_path)
        assert found.train.shape == (5, 3, 32, 32)
        assert found.train[3, 2, 10, 20] == x[10, 20, 2, 3]
        assert found.train_labels.tolist() == [1, 0, 9, 0, 2]
        assert found.test_labels.tolist() == [1, 0]
        assert found.label_names == tuple("0123456789")

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "arrays X and y, got no y"),
            ({"X": np.zeros((2, 3072), np.uint8), "y": [1, 2]}, r"\(32, 32, 3, n\).*\(2, 3072\)"),
            ({"X": np.zeros((32, 32, 3, 2)), "y": [1, 2]}, "dtype uint8, got .*float64"),
            ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [0, 2]}, "from 1 to 10, got 0 to 2"),
        ],
    )
    def test_damaged(self, tmp_path, arrays, words):
        savemat(tmp_path / "train_32x32.mat", arrays)
        with pytest.raises(ValueError, match=words):
            svhn(tmp_path)

    def test_not_of_matlab(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"train_32x32\.mat"):
            svhn(tmp_path)
        (tmp_path / "train_32x32.mat").write_bytes(b"no such file " * 50)
        with pytest.raises(ValueError, match="expected a MATLAB 5 file"):
            svhn(tmp_path)

    def test_without_scipy(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "scipy.io", None)
        with pytest.raises(ImportError, match="pip install scipy"):
            svhn(tmp_path)


class TestImagenet32:
    def pickles(self, n=3) -> dict[str, bytes]:
        names = [*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data"]
        mean = np.random.default_rng(0).random(3072)  # as the files have it beside
        return {
            name: pickle.dumps(
                {"data": pixels(n, i), "labels": [1 + i, 1000, 7], "mean": mean}, protocol=4
            )
            for i, name in enumerate(names)
        }

    @pytest.mark.parametrize("form", ["pickles", "npz"])
    def test_batches(self, tmp_path, form):
        files = self.pickles()
        if form == "npz":
            for name, content in files.items():
                np.savez(tmp_path / f"{name}.npz", **pickle.loads(content))
        else:
            write(tmp_path, files)
        images = imagenet32(tmp_path)
        assert images.train.shape == (30, 3, 32, 32)
        np.testing.assert_array_equal(images.train[3:6].reshape(3, -1), pixels(3, 1))
        assert images.train_labels[:4].tolist() == [0, 999, 6, 1]
        np.testing.assert_array_equal(images.test.reshape(3, -1), pixels(3, 10))
        assert images.test_labels.tolist() == [10, 999, 6]

    def test_what_is_missing_or_damaged(self, tmp_path):
        files = self.pickles()
        del files["train_data_batch_4"]
        write(tmp_path, files)
        with pytest.raises(FileNotFoundError, match=r"train_data_batch_4, or .*npz"):
            imagenet32(tmp_path)
        np.savez(tmp_path / "train_data_batch_4.npz", data=pixels(3))
        with pytest.raises(ValueError, match="expected arrays data and labels"):
            imagenet32(tmp_path)
        (tmp_path / "train_data_batch_4.npz").unlink()
        wrong = {"data": pixels(1), "labels": [1001]}
        (tmp_path / "train_data_batch_4").write_bytes(pickle.dumps(wrong))
        with pytest.raises(ValueError, match="labels from 1 to 1000"):
            imagenet32(tmp_path)
