"""The sections of a report: sentences, pictures and tables of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from deepq.evaluation.suggestion import Suggestion
from deepq.metrics.neighbours import recall as k_recall
from deepq.metrics.ranking import precision_at, precision_recall_curve
from deepq.plots import curves, inside, style
from deepq.plots import markup as html
from deepq.plots.charts import svg
from deepq.plots.markup import Html
from deepq.plots.measured import Findings
from deepq.plots.questions import Questions

_MEANS = {
    "1-recall@1": "the nearest vector comes first",
    "1-recall@10": "the nearest vector is among ten results",
    "1-recall@100": "the nearest vector is among a hundred results",
    "10-recall@10": "part of the ten nearest that is among ten results",
    "10-recall@100": "part of the ten nearest that is among a hundred results",
}
_SWEPT = {
    "nprobe": "how many cells a search looks into (nprobe)",
    "rerank": "how many of the best of a scan are ranked anew (rerank)",
}


def recall(found: Findings, asked: Questions) -> Html:
    """Return what part of the true neighbours is found."""
    truth, depth = np.asarray(asked.truth), found.I.shape[1]
    ks = [k for k in (1, 10) if k <= min(depth, truth.shape[1])]
    ranks = style.rounded(depth)
    picture = svg(
        lambda ax: curves.recall_by_rank(found.I, truth, ks=ks, ranks=ranks, ax=ax),
        "recall",
        "Recall against the number of results that are looked at; the numbers are in the table "
        "below.",
    )
    numbers = html.table(
        "Recall by results that are looked at",
        ["R", *(f"{k}-recall@R" for k in ks)],
        [
            [r, *(_part(k_recall(found.I, truth, k=k, r=r)) if k <= r else "" for k in ks)]
            for r in ranks
        ],
    )
    headings = ["Measure", "Value", "Says"]
    rows = [[name, _part(value), _MEANS[name]] for name, value in found.recalls.items()]
    return html.section(
        "recall",
        "What it finds",
        html.paragraph(
            "Recall is the part of the true nearest neighbours that is among the results. A search "
            "through the vectors themselves finds all of them: 1."
        ),
        html.beside(
            [
                html.figure(
                    "Recall by rank",
                    picture,
                    "The more results are looked at, the more of the nearest vectors are there.",
                    numbers,
                ),
                _card(html.table("Recall of this index", headings, rows, words=(2,))),
            ]
        ),
    )


def by_labels(found: Findings) -> Html:
    """Return how many results share a class with their query."""
    deep: Any = found.deep
    labels: Any = found.labels
    of_queries, of_base = labels
    drawn: dict[str, tuple[str, Callable[..., Any], str]] = {
        "pr": ("Precision and recall", curves.precision_recall, "precision against recall"),
        "at": ("Precision at R", curves.precision_at, "precision at R against R"),
    }
    captions = {
        "pr": "Going down the results: how many of them are right, against how many of all that "
        "are right have come. Means over the queries.",
        "at": "How many of the first R results are right. Mean over the queries.",
    }
    tops = style.rounded(deep.shape[1])
    precision, at = precision_recall_curve(deep, of_queries, of_base, levels=np.arange(11) / 10)
    values = precision_at(deep, of_queries, of_base, tops)
    tables = {
        "pr": html.table(
            "Interpolated precision at levels of recall",
            ["Recall", "Precision"],
            [[f"{a:.1f}", _part(p)] for a, p in zip(at, precision, strict=True)],
        ),
        "at": html.table(
            "Precision at R",
            ["R", "Precision"],
            [[f"{r:,}", _part(p)] for r, p in zip(tops, np.asarray(values), strict=True)],
        ),
    }
    parts = [
        html.figure(
            title,
            svg(
                partial(_on, draw, deep, of_queries, of_base),
                name,
                f"A curve of {said}; the numbers are in the table below.",
            ),
            captions[name],
            tables[name],
        )
        for name, (title, draw, said) in drawn.items()
    ]
    said = ", ".join(f"{name} {_part(value)}" for name, value in found.by_labels.items())
    return html.section(
        "labels",
        "By labels",
        html.paragraph(
            f"A result is right if it shares a class with its query: {said}. mAP is the mean over "
            "queries of the average precision."
        ),
        html.beside(parts),
    )


def times(found: Findings, asked: Questions) -> Html:
    """Return how long a query takes, and what more time would find."""
    rows = [
        [
            f"{len(asked.queries):,} queries in one call",
            _us(found.together_us),
            _per_second(found.together_us),
        ],
        ["one query a call", _us(found.alone_us), _per_second(found.alone_us)],
    ]
    card = _card(
        html.table("Time of a query for 10 results", ["How", "Time", "Queries a second"], rows)
    )
    parts = [card]
    if found.sweep:
        measure = list(found.sweep[0])[-1]
        picture = svg(
            lambda ax: curves.recall_against_time(found.sweep, measure=measure, ax=ax),
            "time",
            f"{measure} against the time of a query; the numbers are in the table below.",
        )
        numbers = html.table(
            "Recall and time",
            [found.swept, measure, "Time of a query"],
            [[p["label"], _part(p[measure]), _us(p["us_per_query"])] for p in found.sweep],
        )
        caption = f"Beside each point: {_SWEPT[found.swept]}. Up and left is better."
        parts.insert(0, html.figure("What more time finds", picture, caption, numbers))
    return html.section(
        "time",
        "How fast it is",
        html.paragraph(
            "Times are of one processor, on the machine that wrote this page, and grow with the "
            "number of vectors."
        ),
        html.beside(parts),
    )


def codebooks(found: Findings) -> Html:
    """Return how the codewords are used, and what codes lose."""
    stored, lost = found.stored, found.lost
    M = len(stored.usage)
    picture = svg(
        lambda ax: inside.codebook_usage(stored, ax=ax),
        "usage",
        f"Codewords in use in each of {M} codebooks; the numbers are in the table below.",
    )
    numbers = html.table(
        "Use of the codebooks",
        ["Codebook", "Codewords that occur", "Perplexity"],
        [
            [m, f"{u * stored.ksub:.0f} of {stored.ksub}", f"{p:.1f}"]
            for m, (u, p) in enumerate(zip(stored.usage, stored.perplexity, strict=True))
        ],
    )
    parts = [
        html.figure(
            "Codewords in use",
            picture,
            f"Codes tell {stored.bits:.1f} of {M * np.log2(stored.ksub):.0f} bits apart. "
            f"{stored.dead:,} of {M * stored.ksub:,} codewords do not occur.",
            numbers,
        )
    ]
    if lost is not None and lost.distortion is not None and lost.variance is not None:
        picture = svg(
            lambda ax: inside.distortion(lost, ax=ax),
            "distortion",
            f"Distortion and variance of each of {M} sub-spaces; the numbers are in the table "
            "below.",
        )
        numbers = html.table(
            "What codes lose",
            ["Codebook", "Distortion", "Variance", "Part"],
            [
                [m, f"{d:.4g}", f"{v:.4g}", _part(d / v) if v else ""]
                for m, (d, v) in enumerate(zip(lost.distortion, lost.variance, strict=True))
            ],
        )
        error = 100 * (lost.error or 0)
        caption = (
            f"Of the variance of {lost.n:,} vectors, {error:.1f} % lies between them and what the "
            "codebooks make of their codes. Codewords that were moved for the order of neighbours "
            "lose more, and find more."
        )
        parts.append(html.figure("What codes lose", picture, caption, numbers))
    cells = []
    if stored.cells is not None:
        cells = [
            html.paragraph(
                f"{len(stored.cells):,} cells of up to {stored.cells.max():,} vectors, "
                f"{stored.empty_cells:,} of them empty. A search meets {stored.imbalance:.2f} "
                "times as many codes as in cells of equal size."
            )
        ]
    return html.section(
        "codebooks",
        "How the codes are used",
        html.paragraph(
            "A codebook serves its code best where all codewords occur about equally often: then "
            "the perplexity is near their number."
        ),
        *cells,
        html.beside(parts),
    )


def training(history: Sequence[Mapping[str, Any]]) -> Html:
    """Return how the training went."""
    runs = inside.runs_of(history)
    picture = svg(
        lambda ax: inside.training(history, ax=ax),
        "training",
        "Errors, losses and recall in each stage of the training, as parts of their first values; "
        "the numbers are in the table beside it.",
    )
    rows = []
    for run in runs:
        for name, values in run.values().items():
            known = values[~np.isnan(values)]
            first, last = f"{known[0]:.4g}", f"{known[-1]:.4g}"
            rows.append([f"{run.stage}: {name}", len(known), first, last])
    headings = ["Stage", "Steps", "First", "Last"]
    numbers = html.table("First and last values of each stage", headings, rows)
    caption = (
        "Each stage has the same width here, however many steps it took, and its values are parts "
        "of the first one. During the rotation noise is added that fades."
    )
    return html.section(
        "training",
        "How it was trained",
        html.beside([html.figure("Stages of the training", picture, caption), _card(numbers)]),
    )


def suggestions(tried: Sequence[Suggestion]) -> Html:
    """Return what other settings would find."""
    rows = [
        [
            f"M={one.M}, nbits={one.nbits}, rerank={one.rerank}"
            + (f", nlist={one.nlist}, nprobe={one.nprobe}" if one.nlist else ""),
            one.bytes_per_vector,
            _part(one.recall),
            _us(one.search_us),
        ]
        for one in tried
    ]
    headings = ["Settings", "Bytes", "10-recall@10", "Time of a query"]
    numbers = html.table("Settings that were tried on a sample", headings, rows)
    drawn: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("bytes", "Recall against bytes", curves.recall_against_bytes),
        ("times", "Recall against time", curves.recall_against_time),
    )
    parts = [
        html.figure(
            title,
            svg(
                partial(_on, draw, tried),
                name,
                f"{title} of other settings; the numbers are in the table below.",
            ),
            "Up and left is better.",
            numbers,
        )
        for name, title, draw in drawn
    ]
    return html.section(
        "settings",
        "Other settings",
        html.paragraph(
            "What deepq suggest has tried, on a sample of the vectors, with short trainings. "
            "Recall is lower among more vectors."
        ),
        html.beside(parts),
    )


def index_facts(told: Mapping[str, str]) -> Html:
    """Return what the index is."""
    return html.section("index", "The index", _card(html.facts(told.items())))


def _on(draw: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of pictures with its arguments, of which the last is the Axes."""
    *others, ax = arguments
    return draw(*others, ax=ax)


def _card(body: Html) -> Html:
    return Html(f'<div class="card">{body}</div>')


def _part(value: float) -> str:
    return f"{value:.3f}"


def _us(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f} ms"
    return f"{value:,.0f} µs" if value >= 10 else f"{value:.2g} µs"


def _per_second(us: float) -> str:
    return f"{1e6 / max(us, 1e-3):,.0f}"
