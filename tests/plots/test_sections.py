"""Sections of a page: the tables have the numbers of `metrics`, `diagnose` and the history."""

from __future__ import annotations

import re

import numpy as np
import pytest

import deepq
from deepq import metrics
from deepq.plots import sections
from deepq.plots.measured import facts, measure
from tests.plots.test_questions import ask

pytest.importorskip("matplotlib", reason="needs deepq[plots]")


def tables(text):
    """Cells of every table, by its caption."""
    found = {}
    for table in re.findall(r"<table>(.*?)</table>", text, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        caption = re.search("<caption>(.*?)</caption>", table)[1]
        found[caption] = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    return found


@pytest.fixture(scope="module")
def labelled(small):
    asked = ask(
        small.index,
        small.base,
        queries=small.queries,
        labels=(small.query_labels, small.labels),
    )
    return asked, measure(small.index, asked, 1)


def test_recall(labelled):
    asked, found = labelled
    rows = tables(sections.recall(found, asked))["Recall by results that are looked at"]
    assert rows[0] == ["R", "1-recall@R", "10-recall@R"]
    for r, one, ten in rows[1:]:
        assert one == f"{metrics.recall(found.I, asked.truth, 1, int(r)):.3f}"
        deep = [f"{metrics.recall(found.I, asked.truth, 10, int(r)):.3f}"] if int(r) >= 10 else [""]
        assert [ten] == deep


def test_labels(labelled):
    asked, found = labelled
    said = tables(sections.by_labels(found))
    levels = np.arange(11) / 10
    right = metrics.precision_recall_curve(found.deep, *asked.labels, levels=levels)[0]
    rows = said["Interpolated precision at levels of recall"][1:]
    assert rows == [[f"{a:.1f}", f"{p:.3f}"] for a, p in zip(levels, right, strict=True)]
    for r, value in said["Precision at R"][1:]:
        assert value == f"{metrics.precision_at(found.deep, *asked.labels, int(r)):.3f}"


def test_times(cells, small):
    asked = ask(cells, small.base, queries=small.queries)
    found = measure(cells, asked, 1)
    said = tables(sections.times(found, asked))
    rows = said["Recall and time"]
    assert rows[0] == ["nprobe", "10-recall@10", "Time of a query"]
    assert [row[:2] for row in rows[1:]] == [
        [point["label"], f"{point['10-recall@10']:.3f}"] for point in found.sweep
    ]
    assert said["Time of a query for 10 results"][1][0] == "30 queries in one call"


def test_codebooks(labelled, small, cells):
    said = tables(sections.codebooks(labelled[1]))
    use, lost = deepq.diagnose(small.index), deepq.diagnose(small.index, small.base)
    perplexity = [row[2] for row in said["Use of the codebooks"][1:]]
    assert perplexity == [f"{p:.1f}" for p in use.perplexity]
    parts = lost.distortion / lost.variance
    assert [row[3] for row in said["What codes lose"][1:]] == [f"{part:.3f}" for part in parts]
    asked = ask(cells, None, queries=small.queries, truth=np.zeros((30, 1), int))
    text = sections.codebooks(measure(cells, asked, 1))
    assert "8 cells of up to" in text
    assert "What codes lose" not in text


def test_training(small):
    rows = tables(sections.training(small.index.history))["First and last values of each stage"]
    first = small.index.history[0]
    assert rows[1][0] == f"{first['stage']}: error"
    assert rows[1][2] == f"{first['error']:.4g}"


def test_suggestions():
    tried = [deepq.Suggestion(4, 8, 100, 4, 0.5, 12_345.0, 1.0, 64, 8)]
    rows = tables(sections.suggestions(tried))["Settings that were tried on a sample"]
    assert rows[1] == ["M=4, nbits=8, rerank=100, nlist=64, nprobe=8", "4", "0.500", "12 ms"]


def test_facts(small):
    text = sections.index_facts(facts(small.index))
    assert f"<dd>{small.index.fingerprint}</dd>" in text
