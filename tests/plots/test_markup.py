"""Pieces of HTML: what comes from users is escaped."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq.plots import markup
from tests.plots.pages import Page


@given(st.text())
def test_any_text_comes_through_as_text(text):
    written = markup.escaped(text)
    assert not set(written) & set("<>\"'")
    shown = html.unescape(written)
    assert shown == "".join(
        "\N{REPLACEMENT CHARACTER}"
        if (ord(c) < 32 and c not in "\t\n\r") or 127 <= ord(c) < 160 or c in "\ufffe\uffff"
        else c
        for c in text
    )


def test_what_no_file_holds_becomes_a_mark():
    assert (
        markup.escaped("a\ud800b\x00c") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    )
    markup.escaped("\udcff").encode()


def test_a_table_has_headings():
    page = Page(markup.table("<all>", ["A", "B & C"], [["x y", 1], ["z", 2]], words=(1,)))
    assert [cell["scope"] for cell in page.all("th")] == ["col", "col", "row", "row"]
    assert [cell.get("class") for cell in page.all("td")] == ["words", "words"]
    assert page.text == "<all> AB & C x y1 z2"
    assert page.all("div")[0]["aria-label"] == "<all>"


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        markup.table("t", ["A", "B"], [["x"]])


@pytest.mark.parametrize(
    "piece",
    [
        markup.paragraph("<script>"),
        markup.facts([("<script>", "<script>")]),
        markup.tiles([("<script>", "<script>", "<script>")]),
        markup.figure("<script>", markup.Html("<svg></svg>"), "<script>", markup.Html("")),
        markup.section("x", "<script>"),
    ],
)
def test_no_piece_lets_an_element_in(piece):
    page = Page(piece)
    assert not page.all("script")
    assert "<script>" in page.text
