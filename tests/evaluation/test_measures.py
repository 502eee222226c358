"""The measures of an index: recalls and class-based ones, and the time that they are of."""

from __future__ import annotations

import time

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError, KindError
from deepq.datasets import exact_neighbours
from deepq.evaluation.measures import MEASURES, evaluate
from deepq.metrics import mean_average_precision, precision_at

from .builders import correlated, normal, small_index


class Answers:
    """An index that gives prepared answers, and remembers what it was asked."""

    def __init__(self, I: np.ndarray, d: int = 3, seconds: float = 0.0) -> None:
        self.I, self.d, self.ntotal, self.seconds = np.asarray(I), d, 1000, seconds
        self.calls: list[tuple[int, int]] = []

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append((k, faiss.omp_get_max_threads()))
        time.sleep(self.seconds)  # takes no CPU time
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return np.zeros((len(x), k), np.float32), self.I[:, :k]


def recall_by_loops(I: np.ndarray, true: np.ndarray, k: int, r: int) -> float:
    found = 0
    for row, best in zip(I.tolist(), true.tolist(), strict=True):
        for i in best[:k]:
            found += i in row[:r]
    return found / (len(I) * k)


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 9)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_recalls_by_name(nq, pairs, seed):
    rng = np.random.default_rng(seed)
    I, true = (
        np.stack([rng.permutation(12)[:width] for _ in range(nq)]).astype(np.int64)
        for width in (9, 8)
    )
    index = Answers(I)
    found = evaluate(index, normal(nq, 3), true, [f"{k}-recall@{r}" for k, r in pairs])
    assert found == {
        f"{k}-recall@{r}": pytest.approx(recall_by_loops(I, true, k, r)) for k, r in pairs
    }
    assert [k for k, _ in index.calls] == [max(r for _, r in pairs)]


def test_the_default_measures():
    index = small_index()
    queries = correlated(20, 12, 2)
    _, true = exact_neighbours(correlated(300, 12, 1), queries, 10)
    _, I = index.search(queries, 100)
    found = evaluate(index, queries, true)
    assert list(found) == list(MEASURES)
    expected = [recall_by_loops(I, true, k, r) for k, r in [(1, 1), (1, 10), (1, 100), (10, 10)]]
    assert list(found.values()) == pytest.approx(expected)
    assert 0.2 < found["10-recall@10"] < 1


def test_any_index_of_faiss():
    x, queries = correlated(400, 12), correlated(10, 12, 1)
    _, true = exact_neighbours(x, queries, 5)
    flat, numbered = faiss.IndexFlatL2(12), faiss.IndexIDMap2(faiss.IndexFlatL2(12))
    flat.add(x)
    numbered.add_with_ids(x, np.arange(400) + 7000)
    names = ["1-recall@1", "5-recall@5"]
    assert evaluate(flat, queries, true, names) == dict.fromkeys(names, 1.0)
    assert evaluate(numbered, queries, true + 7000, names) == dict.fromkeys(names, 1.0)
    assert evaluate(numbered, queries, true, names) == dict.fromkeys(names, 0.0)


def test_results_come_in_the_order_of_the_measures():
    names = ["us_per_query", "3-recall@4", "queries_per_second", "1-recall@2"]
    index = Answers(np.arange(40).reshape(4, 10))
    assert list(evaluate(index, normal(4, 3), np.zeros((4, 3), int), names)) == names


def test_one_measure_may_be_a_string():
    index = Answers(np.arange(40).reshape(4, 10))
    found = evaluate(index, normal(4, 3), index.I, "10-recall@5")
    assert found == {"10-recall@5": 0.5}


@pytest.mark.usefixtures("two_threads")
def test_times_are_cpu_times_of_one_thread():
    index = Answers(np.zeros((5, 20), int), seconds=0.05)
    found = evaluate(index, normal(5, 3), index.I, ("us_per_query", "queries_per_second"))
    assert faiss.omp_get_max_threads() == 2
    evaluate(index, normal(5, 3), index.I, "1-recall@3")
    assert 10_000 <= found["us_per_query"] < 20_000  # that of the clock
    assert found["queries_per_second"] == pytest.approx(1e6 / found["us_per_query"])
    assert index.calls == [(10, 1), (3, 2)]


@pytest.mark.usefixtures("two_threads")
def test_threads_are_as_before_after_a_failure():
    with pytest.raises(RuntimeError):
        evaluate(faiss.IndexPQ(4, 2, 4), normal(3, 4), np.zeros((3, 1), int), "us_per_query")
    assert faiss.omp_get_max_threads() == 2


@pytest.mark.parametrize(
    "name",
    [
        *("recall", "recall@10", "0-recall@1", "1-recall@0", "1-recall@1 ", "01-recall@1", 7),
        *("map", "mAP@", "mAP@0", "precision", "3-precision@1", "3-mAP@2"),
    ],
)
def test_an_unknown_measure(name):
    index = Answers(np.zeros((2, 5), int))
    with pytest.raises(InputError, match=r"expected a measure K-recall@R .*, got "):
        evaluate(index, normal(2, 3), index.I, ["1-recall@1", name])
    assert not index.calls


@pytest.mark.parametrize(
    ("true", "name", "error", "words"),
    [
        (np.zeros((2, 3), int), "4-recall@5", InputError, "at least 4 columns .*, got 3"),
        (np.zeros((2, 3), int), "1-recall@1001", InputError, "at least 1001 stored .*, got 1000"),
        (np.zeros((3, 3), int), "1-recall@1", InputError, r"each of 2 queries, got .*\(3, 3\)"),
        (np.zeros(2, int), "1-recall@1", InputError, r"got shape \(2,\)"),
        (np.zeros((2, 3)), "1-recall@1", KindError, "integers, got dtype float64"),
    ],
)
def test_ground_truth_that_does_not_fit(true, name, error, words):
    index = Answers(np.zeros((2, 5), int))
    with pytest.raises(error, match=words):
        evaluate(index, normal(2, 3), true, name)
    assert not index.calls


def test_measures_by_class():
    x, queries = correlated(300, 12), correlated(20, 12, 1)
    labels = np.arange(20) % 3, np.arange(300) % 3
    index = faiss.IndexFlatL2(12)
    index.add(x)
    _, I = index.search(queries, 300)
    found = evaluate(
        index, queries, I, ["mAP", "precision@7", "mAP@50", "1-recall@1"], labels=labels
    )
    assert found == {
        "mAP": mean_average_precision(I, *labels),
        "precision@7": precision_at(I, *labels, 7),
        "mAP@50": mean_average_precision(I, *labels, top=50),
        "1-recall@1": 1.0,
    }
    several = tuple(np.eye(3, dtype=bool)[part] for part in labels)
    assert evaluate(index, queries, measures="mAP", labels=several) == {"mAP": found["mAP"]}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("mAP", {}, "labels for mAP, got None"),
        ("1-recall@1", {}, "ground_truth for 1-recall@1, got None"),
        ("mAP", {"labels": ([0], [0] * 1000)}, "2 queries and of 1000 stored .*, got 1 and 1000"),
        ("mAP", {"labels": ([0, 0], [0] * 9)}, "2 queries and of 1000 stored .*, got 2 and 9"),
        ("precision@1001", {"labels": ([0, 0], [0] * 1000)}, "at least 1001 stored .*, got 1000"),
    ],
)
def test_what_a_measure_lacks(name, given, words):
    index = Answers(np.zeros((2, 5), int))
    with pytest.raises(InputError, match=words):
        evaluate(index, normal(2, 3), measures=name, **given)
    assert not index.calls


def test_an_empty_index_has_no_map():
    with pytest.raises(InputError, match="at least 1 stored vectors for mAP, got 0"):
        evaluate(faiss.IndexFlatL2(3), normal(2, 3), measures="mAP", labels=([0, 0], []))


def test_queries_that_do_not_fit():
    index = Answers(np.zeros((2, 5), int))
    with pytest.raises(DimensionError, match="queries"):
        evaluate(index, normal(2, 4), index.I)
    with pytest.raises(InputError, match="0 queries"):
        evaluate(index, normal(0, 3), np.zeros((0, 1), int))


def test_a_binary_index_takes_codes():
    codes = np.random.default_rng(0).integers(0, 256, (60, 4), np.uint8)
    index = faiss.IndexBinaryFlat(32)
    index.add(codes)
    labels = np.arange(60) % 3
    found = evaluate(index, codes[:9], None, ["precision@1", "mAP"], labels=(labels[:9], labels))
    assert found["precision@1"] == 1.0
    assert 0.3 < found["mAP"] < 1
    with pytest.raises(DimensionError, match=r"codes of shape \(n, 4\)"):
        evaluate(index, codes[:9, :3], None, ["precision@1"], labels=(labels[:9], labels))
