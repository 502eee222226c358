"""Curves: what is drawn are the numbers of `metrics`, `evaluate` and `suggest`."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq import metrics, plots

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")

TRIED = [
    deepq.Suggestion(16, 4, 0, 8, 0.40, 12.0, 1.0),
    deepq.Suggestion(8, 8, 0, 8, 0.45, 10.0, 1.0),
    deepq.Suggestion(4, 8, 0, 4, 0.30, 6.0, 1.0),
    deepq.Suggestion(8, 8, 100, 8, 0.55, 60.0, 1.0),
    deepq.Suggestion(8, 8, 0, 8, 0.44, 3.0, 1.0, 64, 8),
]


def points(ax):
    """The points of every series, by name, and the lines through the best of them."""
    named = {line.get_label(): line for line in ax.lines if line.get_linestyle() == "None"}
    return {name: line.get_xydata().tolist() for name, line in named.items()}


def test_suggestions_against_bytes():
    ax = plots.recall_against_bytes(TRIED)
    assert points(ax) == {
        "codes": [[4, 0.30], [8, 0.40], [8, 0.45]],
        "re-ranked": [[8, 0.55]],
        "in cells": [[8, 0.44]],
    }
    line = next(line for line in ax.lines if line.get_linestyle() == "-")
    assert line.get_xydata().tolist() == [[4, 0.30], [8, 0.45]], "the best of each size"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("bytes per vector", "10-recall@10")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(points(ax))


def test_suggestions_against_time():
    ax = plots.recall_against_time(TRIED)
    assert points(ax)["codes"] == [[6, 0.30], [10, 0.45], [12, 0.40]]
    assert "µs" in ax.get_xlabel()
    line = next(line for line in ax.lines if line.get_linestyle() == "-")
    assert line.get_xydata().tolist() == [[6, 0.30], [10, 0.45]], "what nothing beats"


def test_what_evaluate_returns(small, cells):
    gt = deepq.datasets.exact_neighbours(small.base, small.queries, 10)[1]
    measures = ["10-recall@10", "us_per_query"]
    curve = []
    for nprobe in (1, 2, 8):
        cells.nprobe = nprobe
        curve.append({"label": nprobe, **deepq.evaluate(cells, small.queries, gt, measures)})
    cells.nprobe = 2
    flat = deepq.evaluate(small.index, small.queries, gt, measures)
    figure, ax = plt.subplots()
    assert plots.recall_against_time({"cells": curve, "all": [flat]}, ax=ax) is ax
    drawn = points(ax)
    wanted = sorted([point["us_per_query"], point["10-recall@10"]] for point in curve)
    assert drawn["cells"] == wanted
    assert drawn["all"] == [[flat["us_per_query"], flat["10-recall@10"]]]
    assert {text.get_text() for text in ax.texts} == {"1", "2", "8"}
    figure.canvas.draw()
    with_bytes = [{"bytes_per_vector": small.index.code_size, **flat}]
    assert points(plots.recall_against_bytes({"all": with_bytes})) == {
        "all": [[2, flat["10-recall@10"]]]
    }


def test_ticks_are_round_and_there():
    for least, most in ((1, 1.01), (3, 3), (20, 70), (0.5, 90_000)):
        ax = plots.recall_against_time(
            [{"us_per_query": us, "10-recall@10": 0.5} for us in (least, most)]
        )
        ax.figure.canvas.draw()
        seen = [t for t in ax.get_xticks() if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
        assert 2 <= len(seen) <= 9
        assert all(len(f"{tick:.6g}".strip("0.")) <= 4 for tick in seen)


def test_recall_by_rank(small):
    gt = deepq.datasets.exact_neighbours(small.base, small.queries, 10)[1]
    I = small.index.search(small.queries, 50)[1]
    ax = plots.recall_by_rank({"codes": I}, gt)
    one, ten = ax.lines
    assert one.get_label() == "codes 1-recall@R"
    assert one.get_xdata().tolist() == [1, 2, 5, 10, 20, 50]
    assert one.get_ydata().tolist() == [metrics.recall(I, gt, 1, r) for r in one.get_xdata()]
    assert ten.get_xdata().tolist() == [10, 20, 50]
    assert ten.get_ydata().tolist() == [metrics.recall(I, gt, 10, r) for r in ten.get_xdata()]
    only = plots.recall_by_rank(I, gt, ks=[5], ranks=[7, 30]).lines
    assert only[0].get_ydata().tolist() == [metrics.recall(I, gt, 5, r) for r in (7, 30)]


def test_precision_and_recall(small):
    I = small.index.search(small.queries, 600)[1]
    precision, recall = metrics.precision_recall_curve(I, small.query_labels, small.labels)
    line = plots.precision_recall(I, small.query_labels, small.labels).lines[0]
    drawn = list(zip(*line.get_data(), strict=True))
    known = list(zip(recall, precision, strict=True))
    assert set(drawn) <= set(known)
    assert (drawn[0], drawn[-1]) == (known[0], known[-1])
    assert len(drawn) > 100
    levels = np.array([0, 0.5, 1.0])
    ax = plots.precision_recall(
        {"a": I, "b": I[:, ::-1]}, small.query_labels, small.labels, levels=levels
    )
    wanted = metrics.precision_recall_curve(I, small.query_labels, small.labels, levels=levels)[0]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), wanted)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_precision_at(small):
    I = small.index.search(small.queries, 100)[1]
    ax = plots.precision_at(I, small.query_labels, small.labels)
    at, values = ax.lines[0].get_data()
    assert at.tolist() == [1, 2, 5, 10, 20, 50, 100]
    np.testing.assert_array_equal(
        values, metrics.precision_at(I, small.query_labels, small.labels, at)
    )
    ax = plots.precision_at(I, small.query_labels, small.labels, top=[30, 3])
    assert ax.lines[0].get_xdata().tolist() == [3, 30]


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ([], ValueError, "at least one point, got none"),
        ({}, ValueError, "at least one point, got none"),
        ({"a": []}, ValueError, "at least one point, got none"),
        ([{"10-recall@10": 1.0}], ValueError, "expected bytes_per_vector in every point"),
        ([{"bytes_per_vector": 8}], ValueError, "expected 10-recall@10 in every point"),
        ([{"bytes_per_vector": 0, "10-recall@10": 1}], ValueError, "above 0, got 0.0"),
        ([{"bytes_per_vector": 8, "10-recall@10": "x"}], ValueError, "to be a number"),
        ([3], TypeError, "expected a Suggestion or a mapping, got int"),
        ({3: TRIED}, TypeError, "expected names of series to be str, got int"),
        (TRIED[0], TypeError, "expected a sequence of points, got Suggestion"),
        ("points", TypeError, "expected a sequence of points, got str"),
    ],
)
def test_points_that_are_of_no_use(given, kind, words):
    with pytest.raises(kind, match=words):
        plots.recall_against_bytes(given)
    assert not plt.get_fignums(), "no empty figure is left"


def test_results_that_are_of_no_use(small):
    I = small.index.search(small.queries, 5)[1]
    with pytest.raises(ValueError, match="at least one search, got none"):
        plots.precision_at({}, small.query_labels, small.labels)
    with pytest.raises(ValueError, match="expected 30 query_labels"):
        plots.precision_recall(I, small.query_labels[:3], small.labels)
    with pytest.raises(ValueError, match="expected top from 1 to 5"):
        plots.precision_at(I, small.query_labels, small.labels, top=[6])
    with pytest.raises(ValueError, match="expected gt with 30 rows"):
        plots.recall_by_rank(I, I[:4])
    with pytest.raises(ValueError, match="at least one of ks"):
        plots.recall_by_rank(I, I, ks=[])
