"""Colours: contrast on white and on black, for colour-blind eyes and in grey; the user's style."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from deepq.plots import recall_against_bytes, style

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")
colors = pytest.importorskip("matplotlib.colors")

# Linear RGB as people without cones for red, green and blue see it: G. Machado, M. Oliveira and
# L. Fernandes, "A physiologically-based model for simulation of color vision deficiency" (2009).
SEEN_WITHOUT = {
    "red": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "green": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.01182 0.04294 0.968881",
    "blue": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.3039",
}


def linear(colour):
    rgb = np.array(colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    to_xyz = [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("colour", style.COLOURS)
def test_lines_stand_out_on_white_and_on_black(colour):
    white, black = 1.05 / (luminance(colour) + 0.05), (luminance(colour) + 0.05) / 0.05
    assert min(white, black) >= 3


@pytest.mark.parametrize("lacking", SEEN_WITHOUT)
def test_colour_blind_people_tell_the_colours_apart(lacking):
    matrix = np.array(SEEN_WITHOUT[lacking].split(), float).reshape(3, 3)
    seen = [lab(matrix @ linear(colour)) for colour in style.COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_in_grey_marks_and_dashes_differ():
    looks = [style.look(i) for i in range(len(style.COLOURS))]
    assert len({look.mark for look in looks}) == len(looks)
    assert len({look.dashes for look in looks}) == len(looks)
    assert style.look(len(looks)) == looks[0]


def test_text_and_lines_follow_the_users_style():
    with plt.style.context("dark_background"):
        ax = recall_against_bytes([{"bytes_per_vector": 8, "10-recall@10": 0.5}])
    assert ax.xaxis.label.get_color() == "white"
    assert ax.get_facecolor() == (0, 0, 0, 1)


def test_a_missing_matplotlib_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"expected matplotlib, to draw.*deepq\[plots\]"):
        style.axes_of(None)


def test_round_numbers():
    assert style.rounded(100) == [1, 2, 5, 10, 20, 50, 100]
    assert style.rounded(7) == [1, 2, 5, 7]
    assert style.rounded(1) == [1]


def test_what_is_no_axes_is_refused():
    with pytest.raises(TypeError, match="expected ax to be Axes of matplotlib, or None, got int"):
        style.axes_of(3)
