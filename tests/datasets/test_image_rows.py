"""Pictures in folders, and their pixels as rows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import deepq
from deepq.datasets import csv_list, image_folder, read_images

pillow = pytest.importorskip("PIL.Image")


def picture(seed=0, height=4, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pillow.fromarray(pixels)
    (made if mode is None else made.convert(mode)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    names = [
        "dog/a.png",
        "cat/z.png",
        "cat/deep/b.PNG",
        "dog/notes.txt",
        ".git/x.png",
        "cat/.x.png",
    ]
    for i, name in enumerate(names):
        save((tmp_path / name).with_suffix(".png"), picture(i))
        (tmp_path / name).with_suffix(".png").rename(tmp_path / name)
    return tmp_path


def test_a_folder_for_each_class(folder):
    found = image_folder(folder)
    assert [p.relative_to(folder).as_posix() for p in found.paths] == [
        "cat/deep/b.PNG",
        "cat/z.png",
        "dog/a.png",
    ]
    assert found.labels.tolist() == [0, 0, 1]
    assert found.label_names == ("cat", "dog")
    rows = read_images(found)
    assert (rows.shape, rows.dtype, rows.image_shape) == ((3, 72), np.uint8, (3, 4, 6))
    right = np.stack([picture(i).transpose(2, 0, 1).ravel() for i in (2, 1, 0)])
    np.testing.assert_array_equal(np.asarray(rows), right)
    np.testing.assert_array_equal(rows[np.array([2, 0])], right[[2, 0]])


def test_folders_without(tmp_path):
    with pytest.raises(FileNotFoundError):
        image_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="a folder for each class in it, got none"):
        image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"cat: expected pictures, .*, got none"):
        image_folder(tmp_path)


def test_one_size_for_all(tmp_path):
    paths = [save(tmp_path / f"{i}.png", picture(i, 8 + 4 * i, 8)) for i in range(3)]
    with pytest.raises(ValueError, match=r"1\.png: expected 8 x 8 pixels, .*, got 8 x 12"):
        np.asarray(read_images(paths))
    assert read_images(paths, 4).image_shape == (3, 4, 4)
    rows = read_images(paths, (2, 5))
    assert np.asarray(rows).shape == (3, 30)
    flat = save(tmp_path / "flat.png", np.full((9, 30, 3), (10, 20, 30), np.uint8))
    pixels = np.asarray(read_images([flat], (3, 2)))[0].reshape(3, 6)
    assert [set(channel) for channel in pixels.tolist()] == [{10}, {20}, {30}]


def test_modes(tmp_path):
    gray = save(tmp_path / "gray.png", picture(), "L")
    assert len(set(map(bytes, np.asarray(read_images([gray]))[0].reshape(3, -1)))) == 1
    assert read_images([gray], gray=True).image_shape == (1, 4, 6)
    for mode in ("P", "LA", "RGBA", "1", "CMYK"):
        path = save(tmp_path / ("x.tif" if mode == "CMYK" else f"{mode}.png"), picture(), mode)
        assert np.asarray(read_images([path])).shape == (1, 72)
    deep = save(tmp_path / "deep.png", picture()[:, :, 0].astype(np.uint16))
    with pytest.raises(ValueError, match=r"deep\.png: expected pixels of 8 bits, got mode I;16"):
        read_images([deep])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_damaged(tmp_path, suffix):
    path = save(tmp_path / f"x{suffix}", picture(0, 64, 64))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(deepq.FormatError, match=rf"x\{suffix}: expected a whole picture"):
            read_images([path])


@pytest.mark.parametrize("size", [0, (0, 3), (1, 2, 3), "big", 1.5])
def test_sizes(tmp_path, size):
    with pytest.raises((ValueError, TypeError), match="expected"):
        read_images([tmp_path / "x.png"], size)


def test_none_and_missing(tmp_path):
    with pytest.raises(ValueError, match="a picture at least"):
        read_images([])
    with pytest.raises(FileNotFoundError):
        read_images([tmp_path / "x.png"])


def test_without_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", picture())
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"expected Pillow.*pip install 'deepq\[formats\]'"):
        read_images([path])


def test_a_network_learns_from_them(tmp_path):
    lines = ["file,label"]
    for i in range(60):
        save(tmp_path / f"{i}.png", (picture(i, 12, 12) // 4 + 60 * (i % 3)).astype(np.uint8))
        lines.append(f"{i}.png,{'abc'[i % 3]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    found = csv_list(tmp_path / "list.csv", tmp_path)
    rows = read_images(found)
    index = deepq.recipes.class_codes(rows.image_shape, 8, 3, nbits=4)
    index.training = deepq.TrainConfig(epochs=1, batch_size=30)
    index.train(rows, found.labels)
    index.add(rows)
    assert index.search(rows[:3], 2)[1].shape == (3, 2)
