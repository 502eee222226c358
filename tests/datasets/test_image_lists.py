"""Lists of images: one's own, NUS-WIDE, MIRFLICKR."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.datasets import (
    image_list,
    mirflickr25k,
    nus_wide,
)


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
