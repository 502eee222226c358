"""A query with its results, as texts and as pictures."""

from __future__ import annotations

import numpy as np
import pytest

from deepq import plots
from deepq.plots.found import as_image, cut, share_a_class

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")

TEXTS = ["costs $5 & more", "costs $6", "<b>bold</b>"]


def written(ax):
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.texts]


def test_texts_with_marks_and_scores():
    ax = plots.neighbours(
        "a $query$", TEXTS, labels=(7, np.array([7, 5, 7])), scores=[0.1, 0.25, 3]
    )
    said = written(ax)
    assert said[0] == "a $query$", "no formulas"
    assert [text for text in said if text in TEXTS] == TEXTS
    assert [text for text in said if text in "✓✗"] == ["✓", "✗", "✓"]
    assert [text for text in said if text in ("0.1", "0.25", "3")] == ["0.1", "0.25", "3", "3"]


def test_the_first_ten():
    said = written(plots.neighbours("q", [f"text {i}" for i in range(30)]))
    assert "text 9" in said
    assert "text 10" not in said
    assert not set(said) & set("✓✗")
    assert "text 2" not in written(plots.neighbours("q", [f"text {i}" for i in range(30)], top=2))


def test_where_a_text_is_cut():
    assert cut("  one\n two  ", 20) == "one two"
    assert cut("one two three", 12) == "one two ..."
    assert cut("one two three", 10) == "one ..."
    assert cut("x" * 100, 50) == "x" * 46 + " ...", "a word that is too long is not left out"
    assert cut("one " + "x" * 100, 50) == "one " + "x" * 42 + " ..."


def test_long_texts_are_cut():
    said = written(plots.neighbours("q " * 200, ["word " * 100]))
    assert all(len(text) <= 78 for text in said)


@pytest.mark.parametrize("shape", [(3, 8, 6), (8, 6, 3), (8, 6), (1, 8, 6)])
@pytest.mark.parametrize("count", [3, 10])
def test_pictures(shape, count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count + 1, *shape)).astype(np.uint8)
    right = np.arange(count) % 2 == 0
    ax = plots.neighbours(images[0], images[1:], right=right)
    drawn = [np.asarray(image.get_array()) for image in ax.images]
    assert len(drawn) == count + 1
    for wanted, image in zip(images, drawn, strict=True):
        np.testing.assert_array_equal(image, as_image(wanted, "x"))
    frames = [patch.get_linestyle() in ("-", "solid") for patch in ax.patches]
    assert frames == right.tolist()
    said = written(ax)
    assert said[0] == "query"
    assert said[1].startswith("✓")
    assert said[2].startswith("✗")


def test_images_in_all_their_forms():
    x = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(as_image(x, "x"), x)
    np.testing.assert_array_equal(as_image(x.transpose(2, 0, 1), "x"), x)
    np.testing.assert_array_equal(as_image(x / np.float64(255), "x"), x)
    np.testing.assert_array_equal(as_image(x[:, :, :1], "x"), x[:, :, 0])


@pytest.mark.parametrize(
    ("image", "kind", "words"),
    [
        (np.zeros((4, 4, 2)), ValueError, "got \\(4, 4, 2\\)"),
        (np.zeros((0, 4)), ValueError, "expected pixels"),
        (np.full((4, 4), 2.0), ValueError, "floats from 0 to 1"),
        (np.full((4, 4), np.nan), ValueError, "floats from 0 to 1"),
        (np.zeros((4, 4), np.int64), TypeError, "uint8 or floats, got dtype int64"),
    ],
)
def test_what_is_no_image(image, kind, words):
    with pytest.raises(kind, match=words):
        as_image(image, "an image")


def test_labels_that_share_a_class():
    assert share_a_class(2, [1, 2, 2]).tolist() == [False, True, True]
    assert share_a_class("a", ["a", "b"]).tolist() == [True, False]
    tags = np.array([[1, 0, 1], [0, 1, 0]], bool)
    assert share_a_class(np.array([True, False, False]), tags).tolist() == [True, False]
    with pytest.raises(ValueError, match="labels of one form"):
        share_a_class(2, tags)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ({"results": []}, ValueError, "at least one result, got none"),
        ({"results": [3]}, TypeError, "expected results of texts, got int"),
        ({"right": [True]}, ValueError, "expected marks of 3 results, got shape \\(1,\\)"),
        ({"right": [1, 0, 1]}, TypeError, "expected right to be bools, got dtype int64"),
        ({"labels": 3}, TypeError, "expected labels to be that of the query"),
        ({"right": [True] * 3, "labels": (1, [1, 2, 3])}, ValueError, "right or labels, got both"),
        ({"scores": [1.0]}, ValueError, "expected scores of 3 results, got 1"),
        ({"top": 0}, ValueError, "expected top of at least 1"),
    ],
)
def test_results_that_do_not_fit(how, kind, words):
    with pytest.raises(kind, match=words):
        plots.neighbours("q", how.pop("results", TEXTS), **how)
    assert not plt.get_fignums()
