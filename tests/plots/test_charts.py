"""Pictures as SVG: colours by name, letters as text, and ids that no other picture has."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from deepq.plots.charts import svg
from deepq.plots.style import COLOURS

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")


def draw(ax):
    for number, colour in enumerate(COLOURS):
        ax.plot([0, 1], [number, 1], "o-", color=colour, label=f"line {number} <&>")
    ax.bar([0], [1], color=COLOURS[0], alpha=0.3)
    ax.axhline(1, color="gray")
    ax.set_xlabel("x")
    ax.grid()
    ax.legend()


def test_a_picture_is_an_element():
    text = svg(draw, "one", 'says "<this>"')
    root = ET.fromstring(text.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" '))
    assert root.tag == "svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'says "<this>"' == root[0].text
    assert root.get("width") is None
    words = {"".join(one.itertext()).strip() for one in root.iter("text")}
    assert {"x", "line 0 <&>"} <= words


def test_colours_are_those_of_the_page():
    text = svg(draw, "one", "said")
    assert not re.search(r"#[0-9a-fA-F]{6}\b", text)
    assert not re.search(r"(fill|stroke): (black|white)", text)
    names = {f"var(--series-{i})" for i in range(6)} | {"var(--ink)", "var(--grid)", "var(--muted)"}
    assert set(re.findall(r"var\(--[a-z0-9-]+\)", text)) - {"var(--font)"} == names
    assert "DejaVu" not in text
    assert "<style" not in text
    assert "<metadata" not in text


def test_ids_are_used_and_are_of_one_picture():
    ids = [re.findall(r'\bid="([^"]+)"', svg(draw, name, "said")) for name in ("one", "two")]
    assert all(one.startswith("one-") for one in ids[0])
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    text = svg(draw, "one", "said")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    assert used == set(re.findall(r'\bid="([^"]+)"', text))


def test_the_same_picture_every_time_whatever_the_users_style():
    before = svg(draw, "one", "said")
    with plt.style.context("dark_background"), plt.rc_context({"font.size": 30}):
        assert svg(draw, "one", "said") == before
    assert not plt.get_fignums()
