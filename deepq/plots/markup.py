"""Pieces of HTML. What comes from users is escaped here, and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterable, Sequence
from typing import NewType

Html = NewType("Html", str)

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(text: object) -> Html:
    """Return text for an element or an attribute; what HTML does not hold becomes a mark."""
    return Html(html.escape(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(text))))


def joined(parts: Iterable[Html]) -> Html:
    """Put pieces behind each other, in lines of their own."""
    return Html("\n".join(parts))


def section(name: str, title: str, *parts: Html) -> Html:
    """Return a part of the page, with a heading that its menu leads to."""
    return Html(
        f'<section id="{name}" aria-labelledby="{name}-title">\n'
        f'<h2 id="{name}-title">{escaped(title)}</h2>\n{joined(parts)}\n</section>'
    )


def paragraph(text: str, kind: str = "") -> Html:
    """Return a paragraph of plain text."""
    return Html(f"<p{_kind(kind)}>{escaped(text)}</p>")


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    words: Container[int] = (),
) -> Html:
    """Return a table whose columns, and whose rows by their first cell, have headings.

    Columns of numbers stand right, those in `words`, by their number, left.
    """
    kinds = [_kind("words" if column in words else "") for column in range(len(headings))]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(one)}</th>'
        for kind, one in zip(kinds, headings, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row"{_kind("" if " " in str(first) else "whole")}>{escaped(first)}</th>'
        + "".join(
            f"<td{kind}>{escaped(one)}</td>" for kind, one in zip(kinds[1:], rest, strict=True)
        )
        + "</tr>"
        for first, *rest in rows
    )
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}">'
        f"<table>\n<caption>{escaped(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """Return a list of what is what."""
    rows = "\n".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in pairs
    )
    return Html(f'<dl class="facts">\n{rows}\n</dl>')


def tiles(numbers: Iterable[tuple[str, str, str]]) -> Html:
    """Return the numbers that matter most: what it is, the number, and what it says."""
    rows = "\n".join(
        f'<div><dt>{escaped(name)}</dt><dd class="number">{escaped(value)}</dd>'
        f'<dd class="note">{escaped(note)}</dd></div>'
        for name, value, note in numbers
    )
    return Html(f'<dl class="tiles">\n{rows}\n</dl>')


def figure(title: str, picture: Html, caption: str, numbers: Html | None = None) -> Html:
    """Return a picture with its title and caption, and its numbers for those who open them."""
    opened = (
        "" if numbers is None else f"<details><summary>Numbers</summary>\n{numbers}\n</details>"
    )
    return Html(
        f"<figure>\n<h3>{escaped(title)}</h3>\n{picture}\n"
        f"<figcaption>{escaped(caption)}</figcaption>\n{opened}</figure>"
    )


def beside(parts: Sequence[Html], kind: str = "figures") -> Html:
    """Return pictures, or other parts, beside each other, where there is room."""
    return Html(f"<div{_kind(kind)}>\n{joined(parts)}\n</div>")


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
