"""Seeing and choosing: measures by name, the use of codebooks, structure, and suggestions."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq import DeepQuantIndex, TrainConfig
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq.datasets import exact_neighbours
from deepq.encoders.rotation import eigenvalue_allocation
from deepq.evaluation import suggestion
from deepq.evaluation.diagnosis import diagnose
from deepq.evaluation.measures import MEASURES, evaluate
from deepq.evaluation.suggestion import Suggestion, suggest
from deepq.metrics import mean_average_precision, precision_at, recall
from deepq.quantizers import ProductQuantizer
from deepq.training.structure import has_structure, sample, structure


def normal(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Normal vectors whose principal axes have the lengths 1, 1/2, 1/3, ..."""
    return (normal(n, d, seed) / np.arange(1, d + 1) @ rotation(d)).astype(np.float32)


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]


def small_index(M: int = 4, nbits: int = 4, n: int = 300) -> DeepQuantIndex:
    index = DeepQuantIndex(12, M, nbits, training=TrainConfig(epochs=3))
    index.train(correlated(700, 12))
    index.add(correlated(n, 12, 1))
    return index


def takes_rerank(rerank: int) -> bool:
    try:
        DeepQuantIndex(8, 2, 4, rerank=rerank)
    except InputError:
        return False
    return True


if_reranking = pytest.mark.skipif(not takes_rerank(50), reason="there is no re-ranking yet")
each_rerank = pytest.mark.parametrize("rerank", [0, pytest.param(50, marks=if_reranking)])


# ---- evaluate --------------------------------------------------------------------------------


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
    assert 10_000 <= found["us_per_query"] < 15_000
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


# ---- diagnose --------------------------------------------------------------------------------


def diagnosis_by_loops(index: DeepQuantIndex, x: np.ndarray) -> dict[str, list[float]]:
    quantizer = index.quantizer
    z = index.encoder.encode(x).astype(np.float64)
    z_hat = quantizer.decode(index.sa_encode(x)).astype(np.float64)
    words = [
        [tuple(row) for row in np.split(rows, quantizer.M)]
        for rows in quantizer.decode(index.sa_encode(x))  # a codeword stands for its word
    ]
    expected: dict[str, list[float]] = {
        "usage": [],
        "perplexity": [],
        "distortion": [],
        "variance": [],
    }
    for m in range(quantizer.M):
        counts = Counter(row[m] for row in words)
        entropy = -sum(c / len(x) * math.log2(c / len(x)) for c in counts.values())
        columns = slice(m * quantizer.dsub, (m + 1) * quantizer.dsub)
        mean = z[:, columns].mean(axis=0)
        expected["usage"].append(len(counts) / quantizer.ksub)
        expected["perplexity"].append(2**entropy)
        expected["distortion"].append(np.mean(((z - z_hat)[:, columns] ** 2).sum(axis=1)))
        expected["variance"].append(np.mean(((z[:, columns] - mean) ** 2).sum(axis=1)))
    return expected


@pytest.mark.parametrize(("M", "nbits"), [(1, 3), (4, 4), (3, 6), (6, 8)])
@pytest.mark.parametrize("block", [7, 1 << 14])
def test_diagnosis_by_loops(M, nbits, block, monkeypatch):
    monkeypatch.setattr("deepq.evaluation.diagnosis._BLOCK", block)
    index, x = small_index(M, nbits), correlated(300, 12, 1)
    expected = diagnosis_by_loops(index, x)
    of_x, of_codes = diagnose(index, x), diagnose(index)
    assert (of_x.n, of_x.ksub) == (of_codes.n, of_codes.ksub) == (300, 2**nbits)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(of_x, name), values, rtol=1e-4)
    for name in ("usage", "perplexity"):
        np.testing.assert_array_equal(getattr(of_codes, name), getattr(of_x, name))
    assert of_codes.distortion is of_codes.variance is of_codes.error is None
    assert of_x.dead == round(sum((1 - u) * 2**nbits for u in expected["usage"]))
    assert of_x.bits == pytest.approx(sum(map(math.log2, expected["perplexity"])))
    assert of_x.error == pytest.approx(
        sum(expected["distortion"]) / sum(expected["variance"]), rel=1e-4
    )
    assert index.ntotal == 300


def test_extremes_of_usage():
    index = small_index(n=0)
    index.add_sa_codes(np.repeat(np.arange(16, dtype=np.uint8)[:, None] * 17, 2, axis=1))
    even = diagnose(index)
    np.testing.assert_allclose(even.usage, 1)
    np.testing.assert_allclose(even.perplexity, 16)
    assert (even.dead, even.bits) == (0, pytest.approx(16))
    one = diagnose(index, np.repeat(correlated(1, 12), 50, axis=0))
    np.testing.assert_allclose(one.usage, 1 / 16)
    np.testing.assert_allclose(one.perplexity, 1)
    np.testing.assert_allclose(one.variance, 0, atol=1e-9)
    assert (one.dead, one.bits, one.error) == (60, 0, 0)


def test_variance_far_from_the_origin():
    index = small_index()
    x = correlated(300, 12, 1)
    near, far = diagnose(index, x), diagnose(index, x + np.float32(1000))
    np.testing.assert_allclose(far.variance, near.variance, rtol=1e-2)


def test_diagnosis_of_an_index_of_faiss():
    x = correlated(500, 12)
    index = faiss.index_factory(12, "RR12,PQ3x4np")
    index.train(x)
    index.add(x)
    found = diagnose(index, x)
    x_hat = index.reconstruct_n(0, 500)
    assert found.distortion.sum() == pytest.approx(((x - x_hat) ** 2).sum() / 500, rel=1e-3)
    np.testing.assert_array_equal(diagnose(index).perplexity, found.perplexity)


def test_the_table_of_a_diagnosis():
    index = small_index()
    found = diagnose(index, correlated(300, 12, 1))
    lines = str(found).splitlines()
    assert len(lines) == 6
    assert f"{found.bits:.1f} of 16 bits" in lines[0]
    assert f"relative error {found.error:.3f}" in lines[0]
    for m, line in enumerate(lines[2:]):
        part = found.distortion[m] / found.variance[m]
        numbers = [m, found.usage[m], found.perplexity[m], found.distortion[m], part]
        assert list(map(float, line.split())) == pytest.approx(numbers, rel=0.01, abs=1e-3)
    lines = str(diagnose(index)).splitlines()
    assert [len(line.split()) for line in lines[2:]] == [3] * 4
    assert "error" not in lines[0]


def test_nothing_to_diagnose():
    with pytest.raises(StateError, match="trained"):
        diagnose(DeepQuantIndex(12, 4, 4))
    with pytest.raises(KindError, match="IndexFlat"):
        diagnose(faiss.IndexFlatL2(12))
    index = small_index(n=0)
    for x in (None, normal(0, 12)):
        with pytest.raises(InputError, match="got none"):
            diagnose(index, x)
    with pytest.raises(DimensionError):
        diagnose(index, normal(5, 11))
    with pytest.raises(InputError, match="NaN"):
        diagnose(index, np.full((1, 12), np.nan))


# ---- structure -------------------------------------------------------------------------------


def clusters(n: int, d: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((20, d))
    return (centres[rng.integers(0, 20, n)] + spread * rng.standard_normal((n, d))).astype("f4")


def relative_error_by_loops(x: np.ndarray, seed: int) -> float:
    error = variance = 0.0
    for held, kept in [(x[:300], x[300:]), (x[300:], x[:300])]:
        R = eigenvalue_allocation(kept, 2)
        quantizer = ProductQuantizer(2, 6)
        quantizer.train(kept @ R.T.astype("f4"), iterations=10, seed=seed)
        for row in held:
            variance += float(row @ row)
            for part, book in zip(np.split(R @ row, 2), quantizer.codebooks, strict=True):
                error += min(float((part - word) @ (part - word)) for word in book)
    return error / variance


def test_structure_by_loops():
    x, seed = correlated(600, 16) * 3 + 1, 7
    rng = np.random.default_rng(seed)
    sampled = x[rng.permutation(600)] - x.mean(axis=0)
    normals = rng.standard_normal((600, 16), dtype=np.float32)
    expected = 1 - relative_error_by_loops(sampled, seed) / relative_error_by_loops(normals, seed)
    assert structure(x, seed=seed) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("d", [32, 100, 127, 256])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_normal_vectors_have_no_structure(d, seed):
    x = normal(4000, d, seed)
    assert abs(structure(x, seed=seed)) < 0.015
    assert not has_structure(x, seed=seed)


def test_independent_columns_have_no_structure():
    assert not has_structure(np.random.default_rng(0).random((10_000, 64), dtype=np.float32))
    assert not has_structure(np.random.default_rng(0).integers(0, 2, (10_000, 64)))


def test_real_and_correlated_vectors_have_structure(glosses):
    assert structure(glosses.base) > 0.3
    assert structure(correlated(3000, 64)) > 0.3
    assert has_structure(normal(3000, 64) @ (np.eye(64) + 0.1 * normal(64, 64, 1)))
    assert has_structure(correlated(3000, 127))


def test_shuffled_columns_lose_it():
    x = correlated(6000, 64)
    x /= x.std(axis=0)
    assert structure(x) > 0.5
    assert not has_structure(np.random.default_rng(0).permuted(x, axis=0))


def test_tighter_clusters_have_more_structure():
    found = [structure(clusters(4000, 64, spread)) for spread in (0.1, 0.5, 1.0, 2.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.9
    assert found[-1] > 0.02


@given(st.floats(-30, 14), st.floats(-100, 100), st.booleans())
@settings(max_examples=10)
def test_structure_does_not_depend_on_scale_offset_and_rotation(exponent, offset, turn):
    x = correlated(1500, 16).astype(np.float64)
    moved = (x @ rotation(16)[::-1] if turn else x) + offset * x.std()
    assert structure(moved * 10.0**exponent) == pytest.approx(structure(x), abs=0.03)


def test_extremes_of_structure():
    assert structure(np.full((300, 5), 3.0)) == 1
    assert structure(np.repeat(normal(2, 40), 200, axis=0)) > 0.99


def test_structure_looks_at_a_sample(monkeypatch):
    monkeypatch.setattr("deepq.training.structure._MOST_ROWS", 400)
    x = np.concatenate([correlated(500, 16), correlated(500, 16, 1)])
    assert structure(x, seed=3) == structure(x, seed=3) != structure(x, seed=4)
    rows = sample(x, 400, np.random.default_rng(3))
    assert len(np.unique(rows, axis=0)) == 400
    assert {row.tobytes() for row in rows} <= {row.tobytes() for row in x}


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (normal(255, 8), InputError),
        (np.full((300, 8), np.inf), InputError),
        (normal(300, 8)[0], DimensionError),
        (np.zeros((300, 0)), DimensionError),
        (normal(300, 8).tolist(), KindError),
        (np.full((300, 8), "a"), KindError),
    ],
)
def test_vectors_without_an_answer(x, error):
    with pytest.raises(error, match="expected"):
        structure(x)


# ---- suggest ---------------------------------------------------------------------------------


def make_small(monkeypatch):
    monkeypatch.setattr(suggestion, "_MOST_ROWS", 700)
    monkeypatch.setattr(suggestion, "_MOST_QUERIES", 40)
    monkeypatch.setattr(suggestion, "_EPOCHS", 2)


@pytest.fixture
def small_parts(monkeypatch):
    """Make the parts of a trial small, and trainings short."""
    make_small(monkeypatch)


@pytest.fixture
def pretended(monkeypatch):
    """Instead of training, let recall grow with the bits; return the settings that were tried."""
    make_small(monkeypatch)
    tried = []

    def measure(trial, M, nbits, rerank):
        tried.append((M, nbits, rerank))
        bits, most = M * nbits, 8 * trial.base.shape[1]
        recall = 0.95 * bits / most - 0.01 * (8 - nbits) / 8
        return Suggestion(M, nbits, rerank, -(-bits // 8), recall, 1.0, 1.0)

    monkeypatch.setattr(suggestion._Trial, "measure", measure)
    monkeypatch.setattr(suggestion, "RERANKS", ())
    return tried


@each_rerank
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
@pytest.mark.usefixtures("small_parts")
def test_suggestions_for_some_bytes(rerank, metric, monkeypatch):
    monkeypatch.setattr(suggestion, "RERANKS", (rerank,) if rerank else ())
    x = correlated(2000, 24)
    found = suggest(x, bytes_per_vector=4, metric=metric)
    codes = {(s.M, s.nbits, s.bytes_per_vector) for s in found if s.rerank == 0}
    assert codes == {(8, 4, 4), (4, 6, 3), (4, 8, 4)}
    assert {s.rerank for s in found} <= {0, rerank}
    recalls = [s.recall for s in found]
    assert recalls == sorted(recalls, reverse=True)
    assert all(0.1 < r < 1 for r in recalls)
    assert all(0 < t < 1e4 for s in found for t in (s.search_us, s.encode_us))
    again = suggest(x, bytes_per_vector=4, metric=metric)
    assert [s.recall for s in again] == recalls


@each_rerank
@pytest.mark.usefixtures("small_parts")
def test_recall_is_that_of_an_index_made_by_hand(rerank, monkeypatch):
    monkeypatch.setattr(suggestion, "RERANKS", (rerank,) if rerank else ())
    x, queries = correlated(1400, 24), correlated(40, 24, 1)
    found = suggest(x, bytes_per_vector=2, queries=queries, seed=5)
    best = next((s for s in found if s.rerank == rerank), found[0])
    training = TrainConfig(seed=5, epochs=None if rerank else 2)
    trial = suggestion._Trial.draw(x, queries, faiss.METRIC_L2, training)
    index = DeepQuantIndex(24, best.M, best.nbits, rerank=rerank, training=training)
    index.train(trial.train)
    if best.rerank != rerank:  # it is among the suggestions where there is something to it
        assert index.quantizer.decoder is None
        return
    index.add(trial.base)
    _, I = index.search(trial.queries, 10)
    distances = ((trial.queries[:, None].astype(float) - trial.base[None]) ** 2).sum(axis=2)
    true = np.argsort(distances, axis=1)[:, :10]
    assert best.recall == pytest.approx(recall(I, true, 10, 10))


@pytest.mark.parametrize(("n", "sizes"), [(1000, (480, 480, 40)), (3000, (700, 700, 40))])
@pytest.mark.usefixtures("small_parts")
def test_the_parts_have_no_row_in_common(n, sizes):
    x = correlated(n, 8)
    trial = suggestion._Trial.draw(x, None, faiss.METRIC_L2, TrainConfig())
    parts = [{row.tobytes() for row in part} for part in (trial.train, trial.base, trial.queries)]
    assert tuple(map(len, parts)) == sizes
    assert len(set.union(*parts)) == sum(sizes)
    assert set.union(*parts) <= {row.tobytes() for row in x}


@pytest.mark.parametrize(
    ("d", "budget", "settings"),
    [
        (24, 1, {(2, 4), (1, 6), (1, 8)}),
        (24, 5, {(8, 4), (6, 6), (4, 8)}),
        (24, 1000, {(24, 4), (24, 6), (24, 8)}),
        (7, 4, {(7, 4), (1, 6), (4, 6), (1, 8), (4, 8)}),
        (97, 8, {(1, 4), (14, 4), (1, 6), (10, 6), (1, 8), (8, 8)}),
    ],
)
def test_the_largest_m_that_fits_is_tried(d, budget, settings, pretended):
    found = suggest(correlated(1000, d), bytes_per_vector=budget)
    assert {(s.M, s.nbits) for s in found} == settings
    assert len(pretended) == len(settings)
    assert all(s.bytes_per_vector <= budget for s in found)


def test_each_rerank_is_tried_with_the_best_code(pretended, monkeypatch):
    monkeypatch.setattr(suggestion, "RERANKS", (50, 100))
    suggest(correlated(1000, 8), bytes_per_vector=8)
    assert pretended == [(8, 4, 0), (8, 6, 0), (8, 8, 0), (8, 8, 50), (8, 8, 100)]


def test_more_codewords_than_rows_are_not_tried(pretended):
    suggest(correlated(300, 8), bytes_per_vector=8)
    assert {nbits for _, nbits, _ in pretended} == {4, 6}


@pytest.mark.parametrize("d", [1, 7, 24, 64])
@pytest.mark.parametrize("target", [0.0, 0.05, 0.3, 0.5, 0.9])
def test_the_fewest_bytes_that_reach_a_recall(d, target, pretended):
    x = correlated(1000, d)
    found = suggest(x, recall=target)
    assert len(set(pretended)) == len(pretended)
    assert all(s.recall >= target for s in found)
    sizes = [s.bytes_per_vector for s in found]
    assert sizes == sorted(sizes)
    for budget in (b for b in range(1, d + 1) if d % b == 0 or d == 7):
        reached = [s for s in suggest(x, bytes_per_vector=budget) if s.recall >= target]
        if reached:
            assert sizes[0] == min(s.bytes_per_vector for s in reached)
            assert set(reached) <= set(found)
            break


@pytest.mark.usefixtures("pretended")
def test_a_recall_that_is_not_reached():
    with pytest.raises(InputError, match=r"at most 0\.950, which 16 bytes reach, got 0\.96"):
        suggest(correlated(1000, 16), recall=0.96)


def test_vectors_without_structure_are_told_of_once(caplog, monkeypatch):
    monkeypatch.setattr(suggestion, "RERANKS", ())
    with caplog.at_level(logging.WARNING, "deepq.training"):
        suggest(correlated(2000, 32), bytes_per_vector=4)
        assert "no structure to learn" not in caplog.text
        suggest(normal(2000, 32), bytes_per_vector=4)
    assert caplog.text.count("no structure to learn") == 1


@pytest.mark.usefixtures("pretended")
def test_the_progress_bar(capsys):
    x = correlated(1000, 8)
    suggest(x, bytes_per_vector=2)
    assert capsys.readouterr() == ("", "")
    suggest(x, bytes_per_vector=2, verbose=True)
    out, err = capsys.readouterr()
    assert not out
    assert "3setting" in err
    assert "nbits=8" in err


@pytest.mark.usefixtures("small_parts")
def test_an_interrupt_passes(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(DeepQuantIndex, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        suggest(correlated(1000, 8), bytes_per_vector=2, verbose=True)


@pytest.mark.usefixtures("small_parts")
def test_suggestions_for_cosines(monkeypatch):
    monkeypatch.setattr(suggestion, "RERANKS", ())
    x = correlated(1400, 13) * np.random.default_rng(0).lognormal(size=(1400, 1)).astype("f4")
    found = suggest(x, bytes_per_vector=4, metric="cosine")
    assert max(s.recall for s in found) > 0.3
    index = max(found, key=lambda s: s.M).index(13, "cosine")
    index.training = TrainConfig(epochs=2)
    index.train(x)
    index.add(x)
    assert (13 % index.quantizer.M, index.metric_type) != (0, faiss.METRIC_L2)
    assert np.mean(index.search(x[:50], 3)[1] == np.arange(50)[:, None]) * 3 > 0.5
    with pytest.raises(InputError, match="cosine"):
        suggest(x, bytes_per_vector=4, metric="angle")


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


@each_rerank
def test_a_suggestion_makes_an_index(rerank):
    found = Suggestion(8, 6, rerank, 6, 0.5, 12.34, 1.0)
    index = found.index(32, faiss.METRIC_INNER_PRODUCT)
    assert isinstance(index, DeepQuantIndex)
    assert not index.is_trained
    assert (index.d, index.quantizer.M, index.quantizer.nbits) == (32, 8, 6)
    assert (index.rerank, index.metric_type, index.code_size) == (rerank, 0, 6)
    assert found.index(32).metric_type == faiss.METRIC_L2
    assert str(found).startswith(f"M=8, nbits=6, rerank={rerank}: 6 bytes, 10-recall@10 0.500")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.M = 3


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({}, InputError, "either .*, got neither"),
        ({"bytes_per_vector": 4, "recall": 0.5}, InputError, "either .*, got both"),
        ({"bytes_per_vector": 0}, InputError, "bytes_per_vector"),
        ({"bytes_per_vector": 1.5}, KindError, "bytes_per_vector"),
        ({"recall": 1.5}, InputError, "recall from 0 to 1, got 1.5"),
        ({"recall": -0.5}, InputError, "recall from 0 to 1"),
        ({"recall": float("nan")}, InputError, "recall"),
        ({"recall": 0.5, "metric": 7}, InputError, "METRIC_L2"),
        ({"recall": 0.5, "seed": -1}, InputError, "seed"),
        ({"recall": 0.5, "queries": normal(5, 7)}, DimensionError, r"queries \(nq, 8\)"),
        ({"recall": 0.5, "queries": normal(5, 8).tolist()}, KindError, "array"),
        ({"recall": 0.5, "x": normal(200, 8)}, InputError, "at least 256 vectors, got 200"),
        ({"recall": 0.5, "x": normal(300, 8)[0]}, DimensionError, r"\(n, d\)"),
        ({"recall": 0.5, "x": np.full((300, 8), np.nan)}, InputError, "NaN"),
    ],
)
def test_what_suggest_refuses(wrong, error, words):
    with pytest.raises(error, match=words):
        suggest(**{"x": correlated(300, 8), **wrong})


def test_suggestions_for_real_vectors(glosses):
    best, *others = suggest(glosses.base[:6000], bytes_per_vector=8, queries=glosses.query[:200])
    assert (best.M, best.nbits) in {(8, 8), (16, 4)}
    assert 0.4 < best.recall < 0.6
    assert all(best.recall >= other.recall for other in others)
