"""The numbers of a report are those of `evaluate`, `metrics` and `diagnose`."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq import metrics
from deepq.datasets import exact_neighbours
from deepq.plots.measured import facts, measure
from tests.index.reranked.builders import XB, XQ
from tests.plots.test_questions import ask


def test_given_queries(small):
    asked = ask(
        small.index,
        small.base,
        queries=small.queries,
        labels=(small.query_labels, small.labels),
    )
    found = measure(small.index, asked, 1)
    gt = exact_neighbours(small.base, small.queries, 100)[1]
    names = ["1-recall@1", "1-recall@10", "1-recall@100", "10-recall@10", "10-recall@100"]
    assert found.recalls == deepq.evaluate(small.index, small.queries, gt, names)
    labels = small.query_labels, small.labels
    names = ["mAP", "precision@10"]
    assert found.by_labels == deepq.evaluate(
        small.index, small.queries, measures=names, labels=labels
    )
    np.testing.assert_array_equal(
        found.lost.distortion, deepq.diagnose(small.index, small.base).distortion
    )
    np.testing.assert_array_equal(found.stored.usage, deepq.diagnose(small.index).usage)
    assert found.together_us > 0
    assert found.alone_us > 0
    assert not found.sweep, "a plain scan has nothing that costs more time"


def test_drawn_queries_are_as_if_they_had_never_been_stored(small):
    asked = ask(small.index, small.base, labels=(None, small.labels))
    found = measure(small.index, asked, 1)
    rest = np.setdiff1d(np.arange(600), asked.drawn)
    other = small.index.copy_empty()
    other.add(small.base[rest])
    gt = exact_neighbours(small.base[rest], asked.queries, 100)[1]
    labels = small.labels[asked.drawn], small.labels[rest]
    names = [*found.recalls, *found.by_labels]
    right = deepq.evaluate(other, asked.queries, gt, names, labels=labels)
    assert {**found.recalls, **found.by_labels} == pytest.approx(right, abs=1e-12)
    tags = np.eye(3, dtype=bool)[small.labels]
    asked = ask(small.index, small.base, labels=(None, tags))
    assert measure(small.index, asked, 1).by_labels == pytest.approx(
        {name: right[name] for name in found.by_labels}
    )


def test_cells_and_re_ranking_are_swept(small, cells, reranked):
    asked = ask(cells, small.base, queries=small.queries)
    found = measure(cells, asked, 1)
    assert found.swept == "nprobe"
    assert [point["label"] for point in found.sweep] == ["1", "2", "4", "8"]
    for point in found.sweep:
        params = deepq.SearchParameters(nprobe=int(point["label"]))
        I = cells.search(small.queries, 10, params=params)[1]
        assert point["10-recall@10"] == metrics.recall(I, asked.truth, 10, 10)
        assert point["us_per_query"] > 0
    assert cells.nprobe == 2, "an index stays as it is"
    found = measure(reranked, ask(reranked, XB, queries=XQ), 1)
    assert found.swept == "rerank"
    assert [point["label"] for point in found.sweep] == ["0", "20", "50", "100", "200", "500"]


def test_a_few_true_neighbours(small):
    gt = exact_neighbours(small.base, small.queries, 3)[1]
    found = measure(small.index, ask(small.index, None, queries=small.queries, truth=gt), 1)
    assert list(found.recalls) == ["1-recall@1", "1-recall@10", "1-recall@100"]
    assert found.lost is None


def test_a_tiny_index(small):
    few = small.index.copy_empty()
    few.add(small.base[:12])
    found = measure(few, ask(few, small.base[:12]), 1)
    assert found.I.shape == (1, 11)


def test_the_steps_are_told(small):
    steps = []
    asked = ask(small.index, small.base, queries=small.queries)
    measure(small.index, asked, 1, steps.append)
    assert steps == ["search", "times", "codebooks"]


def test_facts(small, cells):
    told = facts(small.index)
    assert told["Vectors"] == "600"
    assert told["Code"].startswith("4 words of 4 bits: 2 bytes, 32 times smaller than 64 bytes")
    assert told["All codes"] == "1.2 kB"
    assert told["Fingerprint"] == small.index.fingerprint
    assert facts(cells)["Cells"] == "8, of which a search looks into 2"
    cosine = deepq.DeepQuantIndex(16, 2, 4, "cosine", training=small.index.training)
    cosine.train(small.base)
    assert facts(cosine)["Compared by"] == "cosine"
