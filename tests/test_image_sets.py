"""Labelled images: the files of CIFAR and SVHN, list files, and the protocols of retrieval."""

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
    ImageSet,
    cifar10,
    cifar100,
    image_list,
    mirflickr25k,
    nus_wide,
    retrieval_protocol,
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


class TestImageList:
    def test_multi_hot(self, tmp_path):
        path = tmp_path / "test.txt"
        path.write_text("images/1_m.jpg 0 1 1\nimages/2_m.jpg 1 0 0\n/abs/3.jpg 0 0 0\n\n")
        found = image_list(path, tmp_path)
        assert found.labels.dtype == bool
        assert found.labels.astype(int).tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
        assert found.paths[0] == tmp_path / "images" / "1_m.jpg"
        assert str(found.paths[2]) == "/abs/3.jpg"

    def test_one_class_each(self, tmp_path):
        (tmp_path / "a.txt").write_text("a.png 12\r\nb.png 0\r\n")
        paths, labels, names = image_list(tmp_path / "a.txt")
        assert [str(path) for path in paths] == ["a.png", "b.png"]
        assert (labels.dtype, labels.tolist(), names) == (np.int64, [12, 0], ())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "at least one line"),
            ("a.jpg\nb.jpg 3\n", "line 1: expected a class, or several that differ, got ''"),
            ("a.jpg 3\nb.jpg x\n", "line 2: expected a class, or several that differ, got 'x'"),
            ("a.jpg 0 1\nb.jpg 1\n", "line 2: expected 2 classes, each 0 or 1, got '1'"),
            ("a.jpg 0 0 2\n", "line 1: expected a class, or several that differ, got '0 0 2'"),
            ("a.jpg 3\nb.jpg 100000000\n", "line 2: expected a class"),
            ("a.jpg 1 0\n\nb.jpg 1 0\n", "line 2: expected a path"),
        ],
    )
    def test_refuses(self, tmp_path, content, words):
        (tmp_path / "a.txt").write_text(content)
        with pytest.raises(ValueError, match=words):
            image_list(tmp_path / "a.txt")

    def test_several_numbers_a_line(self, tmp_path):
        (tmp_path / "a.txt").write_text("a.png 3 1\nb.png 0\n")
        found = image_list(tmp_path / "a.txt")
        assert found.labels.dtype == bool
        assert found.labels.astype(int).tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]
        assert image_list(tmp_path / "a.txt", classes=81).labels.shape == (2, 81)
        with pytest.raises(ValueError, match=r"line 1: expected .*, below 3, got '3 1'"):
            image_list(tmp_path / "a.txt", classes=3)

    @pytest.mark.parametrize(
        ("content", "labels"),
        [
            ("0 1\n1 0\n1 1\n", [[0, 1], [1, 0], [1, 1]]),
            ("2 0\n\n1\n\n", [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
            ("2\n0\n1\n", [2, 0, 1]),
        ],
    )
    def test_labels_in_another_file(self, tmp_path, content, labels):
        (tmp_path / "img.txt").write_text("a.png\nb.png\nc.png\n")
        (tmp_path / "label.txt").write_text(content)
        found = image_list(tmp_path / "img.txt", tmp_path, labels=tmp_path / "label.txt")
        assert found.labels.astype(int).tolist() == labels
        assert [path.name for path in found.paths] == ["a.png", "b.png", "c.png"]

    def test_files_that_do_not_fit(self, tmp_path):
        (tmp_path / "img.txt").write_text("a.png\nb.png\n")
        (tmp_path / "both.txt").write_text("a.png 1\nb.png 1\n")
        (tmp_path / "label.txt").write_text("1\n")
        with pytest.raises(ValueError, match="expected 2 lines, got 1"):
            image_list(tmp_path / "img.txt", labels=tmp_path / "label.txt")
        with pytest.raises(ValueError, match="expected paths alone"):
            image_list(tmp_path / "both.txt", labels=tmp_path / "label.txt")

    def test_without_labels(self, tmp_path):
        (tmp_path / "a.txt").write_text("train/3_3148.jpg\ntest/9_1.jpg\n")
        paths, labels, names = image_list(tmp_path / "a.txt", "root")
        assert [path.as_posix() for path in paths] == ["root/train/3_3148.jpg", "root/test/9_1.jpg"]
        assert (labels, names) == (None, ())


class TestNusWide:
    @pytest.fixture
    def folder(self, tmp_path):
        truth = tmp_path / "Groundtruth"
        for where in (tmp_path / "ImageList", truth / "TrainTestLabels", truth / "AllLabels"):
            where.mkdir(parents=True)
        lists = {"Train": "a\\1.jpg \na\\2.jpg \n", "Test": "b\\3.jpg\n"}
        lists[""] = lists["Test"] + lists["Train"]
        for part, names in lists.items():
            (tmp_path / "ImageList" / f"{part}Imagelist.txt").write_text(names)
        labels = {"sky": "0 1 1", "cat": "1 0 0"}
        for concept, bits in labels.items():
            lines = "\n".join(bits.split()) + "\n"
            (truth / "AllLabels" / f"Labels_{concept}.txt").write_text(lines)
            split = truth / "TrainTestLabels"
            (split / f"Labels_{concept}_Test.txt").write_text(lines[:2])
            (split / f"Labels_{concept}_Train.txt").write_text(lines[2:])
        return tmp_path

    def test_each_part(self, folder):
        found = nus_wide(folder)
        assert found.label_names == ("cat", "sky")
        assert [path.as_posix() for path in found.paths] == ["b/3.jpg", "a/1.jpg", "a/2.jpg"]
        assert found.labels.astype(int).tolist() == [[1, 0], [0, 1], [0, 1]]
        assert nus_wide(folder, "test").labels.tolist() == [[True, False]]
        paths, labels, names = nus_wide(folder, "train", ["sky"])
        assert [path.as_posix() for path in paths] == ["a/1.jpg", "a/2.jpg"]
        assert (labels.tolist(), names) == ([[True], [True]], ("sky",))

    def test_refuses(self, folder):
        with pytest.raises(ValueError, match="part 'train', 'test' or 'all', got 'Train'"):
            nus_wide(folder, "Train")
        with pytest.raises(FileNotFoundError):
            nus_wide(folder, concepts=["dog"])
        with pytest.raises(FileNotFoundError, match=r"files Labels_\*_Test.txt in"):
            nus_wide(folder / "ImageList", "test")
        file = folder / "Groundtruth" / "AllLabels" / "Labels_cat.txt"
        for content, words in (("1\n0\n", "3 lines of 0 or 1, got 2"), ("1\n0\n2\n", "got 3 with")):
            file.write_text(content)
            with pytest.raises(ValueError, match=words):
                nus_wide(folder)


class TestMirflickr:
    @pytest.fixture
    def folder(self, tmp_path):
        files = {"sky": "1\n3\n25000\n", "sky_r1": "3\n", "baby": "2\r\n", "README": "read\n"}
        for name, content in files.items():
            (tmp_path / f"{name}.txt").write_text(content, newline="")
        return tmp_path

    def test_each_kind_of_topics(self, folder):
        found = mirflickr25k(folder, "mirflickr")
        assert found.label_names == ("baby", "sky", "sky_r1")
        assert found.labels.shape == (25_000, 3)
        assert found.labels.sum(axis=0).tolist() == [1, 3, 1]
        assert found.labels[2].tolist() == [False, True, True]
        assert found.paths[0].as_posix() == "mirflickr/im1.jpg"
        assert found.paths[-1].as_posix() == "mirflickr/im25000.jpg"
        assert mirflickr25k(folder, topics="potential").label_names == ("baby", "sky")
        assert mirflickr25k(folder, topics="relevant").label_names == ("sky_r1",)

    def test_refuses(self, folder):
        with pytest.raises(ValueError, match="topics 'all', 'potential' or 'relevant', got 'some'"):
            mirflickr25k(folder, topics="some")
        with pytest.raises(FileNotFoundError, match="files of all topics"):
            mirflickr25k(folder / "nothing")
        for line in ("0", "25001", "a", ""):
            (folder / "sky.txt").write_text(f"1\n{line}\n2\n")
            with pytest.raises(ValueError, match=f"numbers from 1 to 25000, got '{line}'"):
                mirflickr25k(folder)


class TestProtocol:
    @pytest.fixture
    def images(self):
        rng = np.random.default_rng(0)
        train, test = rng.integers(0, 256, (2, 60, 3, 4, 4), dtype=np.uint8)
        labels = np.stack([rng.permutation(np.arange(60) % 3) for _ in range(2)])
        return ImageSet("small", train, labels[0], test[:30], np.arange(30) % 3, ("a", "b", "c"))

    @pytest.mark.parametrize("in_base", [True, False])
    def test_rows(self, images, in_base):
        found = retrieval_protocol(images, 4, 5, training_in_base=in_base)
        assert found.train.shape == (15, 48)
        assert found.query.shape == (12, 48)
        assert found.base.shape == (60 + 30 - 12 - (0 if in_base else 15), 48)
        assert np.bincount(found.train_labels).tolist() == [5, 5, 5]
        assert found.query_labels.tolist() == [0, 1, 2] * 4
        np.testing.assert_array_equal(found.query, images.test[:12].reshape(12, -1))
        first = np.flatnonzero(images.train_labels == 1)[:5]
        np.testing.assert_array_equal(
            found.train[found.train_labels == 1], images.train[first].reshape(5, -1)
        )
        held = {row.tobytes() for row in found.base}
        assert not held & {row.tobytes() for row in found.query}
        shared = held & {row.tobytes() for row in found.train}
        assert len(shared) == (15 if in_base else 0)
        class_of = {
            row.tobytes(): label
            for x, labels in (
                (images.train, images.train_labels),
                (images.test, images.test_labels),
            )
            for row, label in zip(x, labels, strict=True)
        }
        labels = [class_of[row.tobytes()] for row in found.base]
        assert found.base_labels.tolist() == labels
        assert found.label_names == images.label_names

    def test_the_whole_parts(self, images):
        found = retrieval_protocol(images, None, None)
        np.testing.assert_array_equal(found.train, images.train.reshape(60, -1))
        np.testing.assert_array_equal(found.base, found.train)
        np.testing.assert_array_equal(found.query, images.test.reshape(30, -1))

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((11, 5), "small: test: expected from 1 to 10 images of class 0, got 11"),
            ((4, 0), "small: training: expected from 1 to 20 images of class 0, got 0"),
        ],
    )
    def test_too_few_images(self, images, arguments, words):
        with pytest.raises(ValueError, match=words):
            retrieval_protocol(images, *arguments)

    def test_nothing_left(self, images):
        with pytest.raises(ValueError, match="left for the base, got none"):
            retrieval_protocol(images, None, None, training_in_base=False)

    def test_parts_that_do_not_fit(self, images):
        with pytest.raises(ValueError, match=r"test of shape \(n, channels, height, width\)"):
            ImageSet("x", images.train, images.train_labels, images.test[:, :1], images.test_labels)
        with pytest.raises(ValueError, match=r"60 labels for train, got shape \(59,\)"):
            ImageSet("x", images.train, images.train_labels[1:], images.test, images.test_labels)
