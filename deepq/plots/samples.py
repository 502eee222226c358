"""Queries of a report with their first results: texts, pictures, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepq._common.types import METRIC_L2
from deepq.index.search_parameters import SearchParameters
from deepq.plots import markup as html
from deepq.plots.found import cut, share_a_class
from deepq.plots.markup import Html
from deepq.plots.measured import TOP
from deepq.plots.pictures import img
from deepq.plots.questions import Questions

_LETTERS = 180
_CHECK = '<path d="M3 8.5 6.5 12 13 4.5" fill="none" stroke="currentColor" stroke-width="2.2"/>'
_CROSS = '<path d="M4 4 12 12M12 4 4 12" fill="none" stroke="currentColor" stroke-width="1.6"/>'


class _Result(NamedTuple):
    id: int
    score: float
    right: bool | None


def samples(index: Any, asked: Questions, count: int, seed: int) -> Html:
    """Return some queries, drawn at random, with what they find."""
    rng = np.random.default_rng([seed, 1])
    chosen = np.sort(rng.permutation(len(asked.queries))[:count])
    allowed = asked.allowed(int(index.ntotal))
    most = int(index.ntotal) if allowed is None else int(allowed.sum())
    params = SearchParameters(sel=allowed)
    D, I = index.search(asked.queries[chosen], min(TOP, most), params=params)
    cards = [
        _card(asked, int(q), _results(asked, int(q), ids, scores))
        for q, ids, scores in zip(chosen, I, D, strict=True)
    ]
    told = "Queries drawn at random, and their first results. "
    if asked.labels is not None:
        told += "Marked is what shares a class with the query."
    elif asked.truth is not None:
        told += f"Marked is what belongs to its {min(TOP, asked.truth.shape[1])} true neighbours."
    if asked.shown.images is None:
        score = "squared distance" if index.metric_type == METRIC_L2 else "inner product"
        told += f" The number on the right is the {score} that the codes give."
    return html.section(
        "samples", "What queries find", html.paragraph(told), html.beside(cards, "samples")
    )


def _results(asked: Questions, q: int, ids: Any, scores: Any) -> list[_Result]:
    there = ids >= 0
    ids, scores = ids[there], scores[there]
    right: Sequence[bool | None] = [None] * len(ids)
    if asked.labels is not None:
        right = share_a_class(asked.labels[0][q], asked.labels[1][ids]).tolist()
    elif asked.truth is not None:
        right = np.isin(ids, asked.truth[q, :TOP]).tolist()
    return [
        _Result(int(i), float(score), mark)
        for i, score, mark in zip(ids, scores, right, strict=True)
    ]


def _card(asked: Questions, q: int, results: list[_Result]) -> Html:
    shown = asked.shown
    name = None if shown.texts is None else shown.texts[0][q]
    number = q if asked.drawn is None else int(asked.drawn[q])
    title = html.escaped(cut(name, _LETTERS) if name else f"Query {number}")
    said = "" if asked.labels is None else _class(asked, asked.labels[0][q])
    label = f' <span class="label">{html.escaped(said)}</span>' if said else ""
    head = f'<h3><span dir="auto">{title}</span>{label}</h3>'
    if shown.images is not None:
        picture = shown.images[0][q]
        if picture is not None:
            head += f'\n<div class="asked">{img(picture, f"Query {number}")}</div>'
        items = [_pictured(asked, rank, one) for rank, one in enumerate(results, 1)]
        body = '<ol class="gallery">\n' + "\n".join(items) + "\n</ol>"
    else:
        items = [_written(asked, rank, one) for rank, one in enumerate(results, 1)]
        body = '<ol class="found">\n' + "\n".join(items) + "\n</ol>"
    return Html(f'<article class="query">\n{head}\n{body}\n</article>')


def _written(asked: Questions, rank: int, one: _Result) -> str:
    texts = asked.shown.texts
    text = f"vector {one.id}" if texts is None else cut(texts[1][one.id], _LETTERS)
    return (
        f'<li class="{_kind(one.right)}"><span class="rank">{rank}</span>'
        f'{_mark(one.right)}<span dir="auto">{html.escaped(text)}</span>'
        f'<span class="score">{one.score:.3g}</span></li>'
    )


def _pictured(asked: Questions, rank: int, one: _Result) -> str:
    shown = asked.shown
    said = [f"vector {one.id}"]
    if asked.labels is not None:
        said = [_class(asked, asked.labels[1][one.id]) or said[0]]
    if shown.texts is not None:
        said = [cut(shown.texts[1][one.id], 60)]
    picture = shown.images[1][one.id] if shown.images else None
    return (
        f'<li class="{_kind(one.right)}">{img(picture, f"Result {rank}: {said[0]}")}'
        f'{_mark(one.right)} {rank} · <span dir="auto">{html.escaped(said[0])}</span></li>'
    )


def _class(asked: Questions, label: Any) -> str:
    """Names of the classes of a label."""
    names = asked.label_names
    if np.ndim(label):
        numbers = np.flatnonzero(label)
        return ", ".join(names[i] if i < len(names) else str(i) for i in numbers)
    if isinstance(label, str):
        return str(label)
    return names[int(label)] if 0 <= int(label) < len(names) else f"class {label}"


def _kind(right: bool | None) -> str:
    return "unknown" if right is None else "right" if right else "wrong"


def _mark(right: bool | None) -> str:
    if right is None:
        return "<span></span>"
    said, path = ("right", _CHECK) if right else ("not right", _CROSS)
    return f'<svg class="mark" viewBox="0 0 16 16" role="img" aria-label="{said}">{path}</svg>'
