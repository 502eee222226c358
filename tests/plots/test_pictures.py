"""Small pictures inside of a page."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest

from deepq.plots.pictures import img
from tests.plots.pages import Page

image = pytest.importorskip("PIL.Image")


def opened(text):
    kind, data = re.search(r"data:image/(\w+);base64,([^\"]+)", text).groups()
    picture = image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.format.lower() == kind
    return picture


def test_few_pixels_stay_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 30, 64)).astype(np.uint8)
    text = img(pixels, 'a "picture"')
    np.testing.assert_array_equal(np.asarray(opened(text)), pixels.transpose(1, 2, 0))
    attributes = Page(text).all("img")[0]
    assert attributes["alt"] == 'a "picture"'
    assert (attributes["width"], attributes["height"]) == ("64", "30")
    assert attributes["class"] == "pixels"


def test_many_become_fewer_in_the_same_shape():
    text = img(np.zeros((300, 900), np.uint8), "x")
    assert opened(text).size == (224, 75)
    assert "class" not in Page(text).all("img")[0]


def test_a_file_whose_ground_can_be_seen_through(tmp_path):
    path = tmp_path / "x.png"
    image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(path)
    assert np.asarray(opened(img(path, "x"))).min() == 255
    assert img(str(path), "x") == img(path, "x")


def test_files_of_no_use(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a picture .*none\.png, got no such"):
        img(tmp_path / "none.png", "x")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match=r"x\.png: expected a picture, got"):
        img(tmp_path / "x.png", "x")
    with pytest.raises(TypeError, match="expected an image or a path, got NoneType"):
        img(None, "x")
