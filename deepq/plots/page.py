"""The page of a report around its sections: head, main figures, menu and foot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import deepq
from deepq.plots import markup as html
from deepq.plots.markup import Html
from deepq.plots.measured import Findings, compared, smaller
from deepq.plots.questions import Questions
from deepq.plots.stylesheet import CSS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # nothing runs or loads
_ORDER = ("recall", "labels", "samples", "time", "codebooks", "training", "settings", "index")


def lead(index: Any, asked: Questions) -> str:
    """Say in two sentences what was measured."""
    said = (
        f"{int(index.ntotal):,} vectors of {int(index.d):,} numbers, in codes of "
        f"{int(index.code_size)} bytes, compared by {compared(index)}. "
    )
    count = len(asked.queries)
    if asked.drawn is not None:
        return said + f"{count:,} of them, drawn at random, are the queries, and may not be found."
    if count < asked.of:
        return said + f"Searched for: {count:,} of {asked.of:,} queries, drawn at random."
    return said + f"Searched for: {count:,} queries."


def numbers(index: Any, found: Findings) -> list[tuple[str, str, str]]:
    """Return the figures that matter most: what it is, the number, and what it says."""
    told: list[tuple[str, str, str]] = []
    for name in ("10-recall@10", "1-recall@1"):
        if name in found.recalls:
            said = "of the ten nearest, in ten results" if name[1] == "0" else "nearest comes first"
            told.append((name, f"{found.recalls[name]:.3f}", said))
    for name, value in found.by_labels.items():
        told.append((name, f"{value:.3f}", "by labels"))
    us = found.together_us
    told.append(
        ("Time of a query", f"{us:,.0f} µs" if us >= 10 else f"{us:.2g} µs", "one processor")
    )
    size = int(index.code_size)
    told.append(("Bytes of a vector", f"{size}", f"{smaller(index)} times smaller"))
    return told


def whole(
    title: str,
    said: str,
    figures: list[tuple[str, str, str]],
    parts: Mapping[str, tuple[str, Html]],
) -> str:
    """Return the page: a document of HTML."""
    known = [name for name in _ORDER if name in parts]
    menu = "\n".join(
        f'<li><a href="#{name}">{html.escaped(parts[name][0])}</a></li>' for name in known
    )
    body = html.joined(parts[name][1] for name in known)
    heading = html.escaped(title)
    date = datetime.now(timezone.utc)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="deepq {html.escaped(deepq.__version__)}">
<title>{heading} - deepq report</title>
<style>{CSS}</style>
</head>
<body>
<a class="skip" href="#main">To the figures</a>
<header>
<p class="eyebrow">deepq report</p>
<h1 dir="auto">{heading}</h1>
<p class="lead">{html.escaped(said)}</p>
{html.tiles(figures)}
<nav aria-label="Parts of this page"><ul>
{menu}
</ul></nav>
</header>
<main id="main">
{body}
</main>
<footer>
<p>Written by deepq {html.escaped(deepq.__version__)} on
<time datetime="{date:%Y-%m-%dT%H:%M}Z">{date:%Y-%m-%d %H:%M} UTC</time>.
This page is one file: it loads nothing and runs nothing.</p>
</footer>
</body>
</html>
"""
