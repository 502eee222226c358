"""Lists of files and tags in tables of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepq.datasets import csv_list


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_classes_by_name(tmp_path):
    found = csv_list(write(tmp_path / "x.csv", "file,label\na.jpg,dog\nb/c.jpg,cat\n"), "root")
    assert found.paths == (Path("root/a.jpg"), Path("root/b/c.jpg"))
    assert found.labels.tolist() == [1, 0]
    assert found.label_names == ("cat", "dog")


def test_classes_by_number(tmp_path):
    found = csv_list(write(tmp_path / "x.csv", "\ufefffile,label\n/a.jpg,7\n\nb.jpg,0\n"), "root")
    assert found.paths[0] == Path("/a.jpg")
    assert (found.labels.tolist(), found.labels.dtype, found.label_names) == ([7, 0], np.int64, ())


def test_tags_in_one_column(tmp_path):
    text = 'name,file,tags\nx,"a, b.jpg","sky | sea"\ny,c.jpg,\nz,d.jpg,sea\n'
    path = write(tmp_path / "x.csv", text)
    found = csv_list(path, column="file", labels="tags", separator="|")
    assert found.paths[0] == Path("a, b.jpg")
    assert found.label_names == ("sea", "sky")
    assert found.labels.tolist() == [[True, True], [False, False], [True, False]]


def test_a_column_for_each_tag(tmp_path):
    path = write(tmp_path / "x.tsv", "file\tsky\tsea\na.jpg\t0\t1\nb.jpg\t0\t0\n")
    found = csv_list(path)
    assert found.label_names == ("sky", "sea")
    assert found.labels.tolist() == [[False, True], [False, False]]
    assert csv_list(path, labels=["sea", "sky"]).labels.tolist() == [[True, False], [False, False]]


def test_files_alone(tmp_path):
    found = csv_list(write(tmp_path / "x.csv", "file\na.jpg\n"))
    assert (found.paths, found.labels) == ((Path("a.jpg"),), None)


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("file,label\na.jpg,1,2\n", {}, "line 2: expected 2 columns, got 3"),
        ("file,label\na.jpg,1\nb.jpg\n", {}, "line 3: expected 2 columns, got 1"),
        ("file,label\na.jpg,\n", {}, "line 2: expected a class, got a blank cell"),
        ("file,label\n,1\n", {}, "line 2: expected a file in 'file', got none"),
        ("file,a,b\na.jpg,0,1\nb.jpg,2,1\n", {}, "line 3: expected 0 or 1 for each tag, got '2'"),
        ('file,label\na.jpg,"x\n', {}, "line 2: expected a table of text"),
        ("file,label\n", {}, "names of columns and a line, got 1"),
        ("", {}, "names of columns and a line, got 0"),
        ("file,file\na,b\n", {}, "columns of different names"),
        ("file,label\na,b\n", {"labels": "tags"}, "'file', 'label', got 'tags'"),
        ("file,label\na,b\n", {"column": "path"}, "'file', 'label', got 'path'"),
        ("file,a,b\na,0,1\n", {"separator": "|"}, "one column of labels with a separator, got 2"),
    ],
)
def test_refuses(tmp_path, text, arguments, words):
    with pytest.raises(ValueError, match=words):
        csv_list(write(tmp_path / "x.csv", text), **arguments)


def test_other_bytes(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"file\n\xff\xfe\n")
    with pytest.raises(ValueError, match="expected a table of text"):
        csv_list(tmp_path / "x.csv")
    with pytest.raises(TypeError, match="separator of some characters"):
        csv_list(write(tmp_path / "y.csv", "file,tags\na,b\n"), separator="")
    with pytest.raises(FileNotFoundError):
        csv_list(tmp_path / "z.csv")
