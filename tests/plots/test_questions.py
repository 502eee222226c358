"""What an index is asked: queries that are given or drawn, and the right answers."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq.datasets import Dataset, exact_neighbours
from deepq.plots.questions import questions

NOTHING = {
    "queries": None,
    "truth": None,
    "labels": (None, None),
    "texts": (None, None),
    "images": (None, None),
    "max_queries": 500,
    "seed": 1,
}


def ask(index, data, **how):
    return questions(index, data, **{**NOTHING, **how})


def test_given_queries(small):
    asked = ask(small.index, small.base, queries=small.queries)
    np.testing.assert_array_equal(asked.queries, small.queries)
    np.testing.assert_array_equal(asked.truth, exact_neighbours(small.base, small.queries, 100)[1])
    assert asked.drawn is None
    assert asked.allowed(600) is None
    assert asked.of == 30


def test_some_of_many_queries(small):
    texts = [f"text {i}" for i in range(30)]
    asked = ask(
        small.index,
        small.base,
        queries=small.queries,
        labels=(small.query_labels, small.labels),
        texts=(texts, ["" for _ in small.base]),
        max_queries=10,
    )
    chosen = [texts.index(text) for text in asked.shown.texts[0]]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 10
    np.testing.assert_array_equal(asked.queries, small.queries[chosen])
    np.testing.assert_array_equal(asked.labels[0], small.query_labels[chosen])
    np.testing.assert_array_equal(
        asked.truth, exact_neighbours(small.base, small.queries[chosen], 100)[1]
    )


def test_drawn_queries_may_not_be_found(small):
    asked = ask(small.index, small.base, labels=(None, small.labels))
    assert len(asked.drawn) == 60
    np.testing.assert_array_equal(asked.queries, small.base[asked.drawn])
    np.testing.assert_array_equal(asked.labels[0], small.labels[asked.drawn])
    rest = np.setdiff1d(np.arange(600), asked.drawn)
    right = rest[exact_neighbours(small.base[rest], asked.queries, 100)[1]]
    np.testing.assert_array_equal(asked.truth, right)
    np.testing.assert_array_equal(np.flatnonzero(asked.allowed(600)), rest)


def test_rows_in_a_file(small, tmp_path):
    np.save(tmp_path / "base.npy", small.base)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "base.h5", "w") as file:
        file["x"] = small.base
    whole = ask(small.index, small.base)
    for name in ("base.npy", "base.h5"):
        read = deepq.datasets.read_vectors(tmp_path / name)
        asked = ask(small.index, read)
        np.testing.assert_array_equal(asked.drawn, whole.drawn)
        np.testing.assert_array_equal(asked.queries, whole.queries)
        np.testing.assert_array_equal(asked.truth, whole.truth)


@pytest.mark.parametrize("metric", [0, 1, "cosine"])
def test_neighbours_are_those_of_the_metric(small, metric):
    index = deepq.DeepQuantIndex(16, 2, 4, metric, training=small.index.training)
    index.train(small.base)
    index.add(small.base)
    truth = ask(index, small.base, queries=small.queries).truth
    data = Dataset("s", small.base, small.base, small.queries, metric=metric)
    np.testing.assert_array_equal(truth[:, :10], data.neighbours(100)[:, :10])


def test_a_data_set_brings_what_it_has(small):
    data = Dataset(
        "s",
        small.base,
        small.base,
        small.queries,
        gt=np.tile(np.arange(12), (30, 1)),
        base_labels=small.labels,
        query_labels=small.query_labels,
        label_names=("a", "b", "c"),
        base_texts=tuple(map(str, range(600))),
        query_texts=tuple(map(str, range(30))),
    )
    asked = ask(small.index, data)
    np.testing.assert_array_equal(asked.truth, data.gt)
    np.testing.assert_array_equal(asked.labels[1], small.labels)
    assert asked.label_names == ("a", "b", "c")
    assert asked.shown.texts[1][7] == "7"
    other = ask(small.index, data, queries=small.queries[:4])
    assert other.truth.shape == (4, 100), "the set's neighbours are those of its own queries"


def test_truth_alone_is_enough(small):
    gt = exact_neighbours(small.base, small.queries, 12)[1]
    asked = ask(small.index, None, queries=small.queries, truth=gt)
    np.testing.assert_array_equal(asked.truth, gt)
    assert asked.base is None


EMPTY = deepq.DeepQuantIndex(16, 4, 4)
Q, Y = np.zeros((3, 16), np.float32), np.zeros(3, int)
X = np.zeros((600, 16), np.float32)


@pytest.mark.parametrize(
    ("data", "how", "kind", "words"),
    [
        (None, {}, ValueError, "expected stored vectors or queries, got neither"),
        (None, {"queries": Q}, ValueError, "expected the stored vectors, or the truth"),
        (X[:5], {}, ValueError, "expected the 600 vectors that are in the index, got 5"),
        (X[:0], {}, ValueError, "expected the 600 vectors that are in the index, got 0"),
        (X[:, :8], {}, ValueError, r"expected data of shape \(n, 16\), got \(600, 8\)"),
        (X, {"queries": Q[:, :8]}, ValueError, "queries"),
        (X, {"queries": Q[:0]}, ValueError, "expected at least one query, got none"),
        (X, {"queries": Q + np.nan}, ValueError, "row 0"),
        (X, {"truth": Y}, ValueError, "expected queries with their truth"),
        (X, {"texts": (["a"], None)}, ValueError, "expected queries with their truth"),
        (X, {"queries": Q, "truth": Y}, ValueError, r"truth of shape \(3, depth\), got \(3,\)"),
        (X, {"queries": Q, "truth": Y[:, None] + 600}, ValueError, "from 0 to 599 in truth"),
        (X, {"queries": Q, "labels": (Y, None)}, ValueError, "labels of the stored vectors"),
        (X, {"queries": Q, "labels": (None, Y)}, ValueError, "labels of the queries as well"),
        (X, {"queries": Q, "labels": (Y, Y)}, ValueError, "expected 600 labels, got 3"),
        (X, {"labels": (None, Y)}, ValueError, "expected 600 query_labels, got 3"),
        (X, {"queries": Q, "texts": (["a"], ["b"] * 600)}, ValueError, "3 query_texts, got 1"),
        (X, {"queries": Q, "texts": (None, ["b"])}, ValueError, "expected 600 texts, got 1"),
        (X, {"queries": Q, "texts": (None, [3] * 600)}, TypeError, "texts to be str, got int"),
        (X, {"queries": Q, "texts": (None, "b" * 600)}, TypeError, "a sequence, got str"),
        (X, {"queries": Q, "texts": (["a"] * 3, None)}, ValueError, "texts of the stored vectors"),
        (X, {"queries": Q, "max_queries": 0}, ValueError, "max_queries of at least 1"),
        (X, {"labels": (None, np.full(600, 0.5))}, ValueError, "whole numbers"),
        ("base.npy", {}, TypeError, "data"),
    ],
)
def test_what_does_not_fit(small, data, how, kind, words):
    with pytest.raises(kind, match=words):
        ask(small.index, data, **how)


def test_indexes_without_vectors(small):
    with pytest.raises(RuntimeError, match=r"expected an index with vectors .* an untrained one"):
        ask(EMPTY, X)
    with pytest.raises(
        RuntimeError, match=r"expected an index with vectors .* one without vectors"
    ):
        ask(small.index.copy_empty(), X)
    few = small.index.copy_empty()
    few.add(X[:9])
    with pytest.raises(ValueError, match="at least 10 stored vectors to draw some of, got 9"):
        ask(few, X[:9])
