"""Codewords that rank: the loss and its gradient, neighbours, and the judges of what is kept."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq.decoders import Decoder
from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer, pack, reranking
from deepq.quantizers.judging import TOP, Judge, Neighbours, pays
from deepq.training import ranking
from deepq.training.ranking import Ranker, learn_order, shrink

METRICS = {"l2": METRIC_L2, "ip": METRIC_INNER_PRODUCT}
both_metrics = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def normal(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


def on_a_sphere(n: int, seed: int) -> np.ndarray:
    """Clustered directions: quantized coarsely, vectors that a code explains badly are far off."""
    centres = normal(40, 16, seed=99)
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(40, size=n)] + rng.standard_normal((n, 16))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def trained(z: np.ndarray, M: int = 2, nbits: int = 3) -> ProductQuantizer:
    quantizer = ProductQuantizer(M, nbits)
    quantizer.train(z, iterations=4)
    return quantizer


def scores(queries: np.ndarray, vectors: np.ndarray, metric: int) -> np.ndarray:
    """Squared distances, or negative inner products, (nq, n) float64."""
    q, x = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == METRIC_INNER_PRODUCT:
        return -q @ x.T
    return np.square(q[:, None] - x[None]).sum(axis=2)


# ---- neighbours ----------------------------------------------------------------------------------


@both_metrics
def test_neighbours_among_rows_are_the_others_nearest_to_each(metric: int) -> None:
    z = normal(200)
    known = Neighbours.among(z, 50, metric, np.random.default_rng(0))
    assert known.true.shape == (50, TOP)
    assert len(np.unique(known.own)) == 50
    np.testing.assert_array_equal(known.queries, z[known.own])
    far = scores(known.queries, z, metric)
    far[np.arange(50), known.own] = np.inf
    np.testing.assert_array_equal(known.true, np.argsort(far, axis=1)[:, :TOP])


@both_metrics
@pytest.mark.parametrize("copies", [2, TOP, TOP + 1, 30])
def test_a_query_is_no_neighbour_of_itself_among_its_copies(metric: int, copies: int) -> None:
    z = np.repeat(normal(8), copies, axis=0)
    z = np.concatenate([z, normal(20, seed=1)])
    known = Neighbours.among(z, len(z), metric, np.random.default_rng(0))
    assert known.true.shape == (len(z), TOP)
    assert not (known.true == known.own[:, None]).any()
    assert (known.true >= 0).all()
    assert all(len(set(row)) == TOP for row in known.true)
    far = scores(known.queries, z, metric)
    far[np.arange(len(z)), known.own] = np.inf
    got = np.take_along_axis(far, known.true, axis=1)
    np.testing.assert_allclose(got, np.sort(far, axis=1)[:, :TOP], rtol=1e-4, atol=1e-4)


def test_neighbours_among_rows_are_drawn_by_the_generator() -> None:
    z = normal(300)
    own = [Neighbours.among(z, 40, METRIC_L2, np.random.default_rng(s)).own for s in (1, 1, 2)]
    np.testing.assert_array_equal(own[0], own[1])
    assert not np.array_equal(own[0], own[2])
    assert len(Neighbours.among(z, 5000, METRIC_L2, np.random.default_rng(1)).own) == 300


@both_metrics
def test_neighbours_apart(metric: int) -> None:
    z = normal(120)
    known = Neighbours.apart(z, 30, metric)
    np.testing.assert_array_equal(known.queries, z[:30])
    np.testing.assert_array_equal(known.base, z[30:])
    want = np.argsort(scores(z[:30], z[30:], metric), axis=1)[:, :TOP]
    np.testing.assert_array_equal(known.true, want)
    assert (known.own == -1).all()


def test_recall_counts_the_first_ten() -> None:
    true = np.arange(20).reshape(2, 10)
    known = Neighbours(normal(30), normal(2), true, np.full(2, -1), METRIC_L2)
    found = np.full((2, 15), 29)
    found[0, :4] = [3, 9, 0, 12]
    found[1, 5:15] = np.arange(10, 20)
    np.testing.assert_allclose(known.recall(found), [0.3, 0.5])


# ---- the loss and its gradient -------------------------------------------------------------------


def loss_by_loops(ranker: Ranker, books: np.ndarray, batch: np.ndarray) -> float:
    """The loss in the docstring of `_loss`, an exponential at a time, in float64."""
    known, words, t = ranker.known, ranker.words, ranker.temperature
    decoded = books.astype(np.float64)[np.arange(len(books)), words].reshape(len(words), -1)
    losses = []
    for i in batch:
        cost = scores(known.queries[i : i + 1], decoded, known.metric)[0] / t
        rivals = np.argsort(cost, kind="stable")[: ranking._RIVALS]
        rivals = [j for j in rivals if j != known.own[i] and j not in known.true[i]]
        losses += [np.log1p(sum(np.exp(cost[i] - cost[j]) for j in rivals)) for i in known.true[i]]
    return float(np.mean(losses))


def ranker_of(n: int, metric: int) -> tuple[Ranker, np.ndarray]:
    z = normal(n) + 0.3
    quantizer = trained(z)
    known = Neighbours.among(z, 30, metric, np.random.default_rng(0))
    return Ranker(quantizer, known, 2), np.arange(0, 30, 2)


@both_metrics
@pytest.mark.parametrize("n", [12, 60, 100, 400])
def test_the_loss_is_that_of_the_docstring(metric: int, n: int) -> None:
    z = normal(n) + 0.3
    quantizer = trained(z)
    known = Neighbours.among(z, 30, metric, np.random.default_rng(0))
    ranker = Ranker(quantizer, known, 2)
    batch = np.arange(0, len(known.queries), 2)
    loss, _ = ranker._loss(batch)
    want = loss_by_loops(ranker, quantizer.trained(), batch)
    assert loss == pytest.approx(want, rel=1e-4, abs=1e-6)


@both_metrics
def test_the_gradient_is_that_of_finite_differences(metric: int) -> None:
    ranker, batch = ranker_of(60, metric)  # fewer than the rivals, so which they are is no matter
    books = ranker.quantizer.trained().astype(np.float64)
    _, gradient = ranker._loss(batch)
    want, eps = np.zeros_like(books), 1e-5
    for place in np.ndindex(books.shape):
        ends = []
        for sign in (1, -1):
            moved = books.copy()
            moved[place] += sign * eps
            ends.append(loss_by_loops(ranker, moved, batch))
        want[place] = (ends[0] - ends[1]) / (2 * eps)
    assert gradient.shape == books.shape
    np.testing.assert_allclose(gradient, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_without_rivals_there_is_nothing_to_lose() -> None:
    z = normal(TOP + 1)
    quantizer = trained(z)
    known = Neighbours.among(z, len(z), METRIC_L2, np.random.default_rng(0))
    loss, gradient = Ranker(quantizer, known, 1)._loss(np.arange(len(z)))
    assert loss == 0
    assert not gradient.any()


def test_losses_of_rows_far_apart_stay_finite() -> None:
    z = normal(60) * np.float32(1e6)
    quantizer = trained(z)
    known = Neighbours.among(z, 30, METRIC_L2, np.random.default_rng(0))
    ranker = Ranker(quantizer, known, 1)
    ranker.temperature *= 1e-4
    loss, gradient = ranker._loss(np.arange(30))
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_identical_rows_do_no_harm() -> None:
    z = np.full((60, 6), 2, np.float32)
    quantizer = trained(z)
    known = Neighbours.among(z, 30, METRIC_L2, np.random.default_rng(0))
    Ranker(quantizer, known, 1).epoch(np.random.default_rng(0))
    assert np.isfinite(quantizer.trained()).all()
    np.testing.assert_allclose(quantizer.trained(), 2)


@both_metrics
def test_epochs_lower_the_loss(metric: int) -> None:
    z = on_a_sphere(1500, 1)
    quantizer = trained(z, 4, 4)
    start = quantizer.trained()
    known = Neighbours.among(z, 1000, metric, np.random.default_rng(0))
    ranker = Ranker(quantizer, known, 4)
    rng = np.random.default_rng(0)
    losses = [ranker.epoch(rng) for _ in range(4)]
    assert all(b < a for a, b in pairwise(losses))
    assert not np.array_equal(quantizer.trained(), start)


def test_words_follow_the_codewords_but_not_a_decoders(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "_STEPS_PER_WORDS", 1)
    z = on_a_sphere(1500, 1)
    known = Neighbours.among(z, 1000, METRIC_L2, np.random.default_rng(0))
    for has_decoder in (False, True):
        quantizer = trained(z, 4, 4)
        start = quantizer.assign(z)
        if has_decoder:
            quantizer.decoder = SimpleNamespace(shape=(4, 16, 16), choose=lambda _, w=start: w)
        ranker = Ranker(quantizer, known, 4)
        for _ in range(4):
            ranker.epoch(np.random.default_rng(0))
        follow = quantizer.assign(z)
        assert (follow != start).any()
        np.testing.assert_array_equal(ranker.words, start if has_decoder else follow)
        np.testing.assert_array_equal(ranker.codes, pack(ranker.words, 4))


# ---- shrinking -----------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(1, 3), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_shrink_draws_towards_the_mean(M: int, dsub: int, factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    books = rng.standard_normal((M, 4, dsub)).astype(np.float32)
    mean = rng.standard_normal(M * dsub).astype(np.float32)
    got = shrink(books, mean, factor)
    for m in range(M):
        centre = mean[m * dsub : (m + 1) * dsub]
        for word in range(4):
            want = centre + factor * (books[m, word] - centre)
            np.testing.assert_allclose(got[m, word], want, rtol=1e-5, atol=1e-5)
    assert got.dtype == np.float32


def test_shrinking_by_nothing_changes_no_bit_that_matters() -> None:
    books, mean = normal(8, 4).reshape(2, 4, 4), normal(1, 8)[0]
    np.testing.assert_allclose(shrink(books, mean, 1.0), books, rtol=1e-5, atol=1e-6)


# ---- what is kept --------------------------------------------------------------------------------


class Opinion:
    """A judge that says what a function of the codewords tells it to."""

    def __init__(self, recall: Callable[[np.ndarray], float]) -> None:
        self._recall = recall

    def by_tables(self, quantizer: ProductQuantizer) -> np.ndarray:
        return np.full(20, self._recall(quantizer.trained()), np.float32)


@pytest.fixture
def scene():
    """A quantizer, its codewords, neighbours, and how far the codewords have been moved."""
    z = on_a_sphere(600, 2)
    quantizer = trained(z, 4, 4)
    start = quantizer.trained()
    known = Neighbours.among(z, 300, METRIC_L2, np.random.default_rng(0))
    return SimpleNamespace(
        quantizer=quantizer,
        start=start,
        known=known,
        moved=lambda books: float(not np.array_equal(books, start)),
        size=lambda books: float(np.linalg.norm(books - start) / np.linalg.norm(start)),
    )


def test_codewords_stay_where_the_judge_says_no(scene) -> None:
    judge = Opinion(lambda _: 0.5)
    assert learn_order(scene.quantizer, scene.known, judge, epochs=2) is False
    assert scene.quantizer.trained() is scene.start


def test_codewords_move_where_the_judge_says_yes(scene) -> None:
    judge = Opinion(scene.size)
    entries: list[dict] = []
    assert (
        learn_order(scene.quantizer, scene.known, judge, epochs=3, progress=entries.append) is True
    )
    assert scene.moved(scene.quantizer.trained())
    assert [e["iteration"] for e in entries] == [0, 1, 2]
    assert {e["stage"] for e in entries} == {"order"}
    assert all(e["loss"] > 0 for e in entries)
    assert max(e["recall"] for e in entries) == pytest.approx(scene.size(scene.quantizer.trained()))


def test_the_best_epoch_is_kept(scene) -> None:
    seen: list[np.ndarray] = []

    def second_is_best(books: np.ndarray) -> float:
        if not any(books is other for other in seen):
            seen.append(books)
        return 1.0 if books is seen[-1] and len(seen) == at else 0.0

    at = -1
    judge = Opinion(second_is_best)
    learn_order(scene.quantizer, scene.known, judge, epochs=3)
    at = len(seen) - 1  # the same again, and the epoch before the last is the best
    scene.quantizer.codebooks = scene.start
    seen.clear()
    assert learn_order(scene.quantizer, scene.known, judge, epochs=3) is True
    assert scene.quantizer.trained() is seen[at - 1]


def test_learning_starts_from_the_best_shrunk_codewords(scene, monkeypatch) -> None:
    mean = scene.known.base.mean(axis=0)
    wanted = shrink(scene.start, mean, 0.7)
    judge = Opinion(lambda b: -float(np.abs(b - wanted).max()))
    monkeypatch.setattr(Ranker, "epoch", lambda *_: 1.0)  # which moves nothing
    assert learn_order(scene.quantizer, scene.known, judge, epochs=1) is True
    np.testing.assert_array_equal(scene.quantizer.trained(), wanted)


def test_inner_products_are_not_learned_from_shrunk_codewords(scene, monkeypatch) -> None:
    known = Neighbours.among(scene.known.base, 300, METRIC_INNER_PRODUCT, np.random.default_rng(0))
    judge = Opinion(lambda b: -float(np.linalg.norm(b)))
    monkeypatch.setattr(Ranker, "epoch", lambda *_: 1.0)
    assert learn_order(scene.quantizer, known, judge, epochs=1) is False
    assert scene.quantizer.trained() is scene.start


def fresh_recall(quantizer: ProductQuantizer, z: np.ndarray, metric: int = METRIC_L2) -> float:
    return float(Judge(z, metric).by_tables(quantizer).mean())


def unevenly_explained(n: int, seed: int) -> np.ndarray:
    """Unit vectors, of which codewords explain very different parts: look-up tables go wrong."""

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    centres, rng = unit(normal(60, 64, seed=99)), np.random.default_rng(seed)
    part = rng.random((n, 1))
    noise = unit(rng.standard_normal((n, 64)))
    x = np.sqrt(part) * centres[rng.integers(60, size=n)] + np.sqrt(1 - part) * noise
    return unit(x).astype(np.float32)


def decoder_of(quantizer: ProductQuantizer) -> Decoder:
    """A decoder that keeps to the nearest words of the codebooks as they are now."""
    books = quantizer.trained()
    M, ksub, dsub = books.shape
    tables = np.zeros((M, ksub, M, dsub))
    tables[np.arange(M), :, np.arange(M)] = books
    arrays = {"sites": books, "tables": tables.reshape(M, ksub, -1), "centre": np.zeros(M * dsub)}
    arrays |= {"features": np.zeros((M, ksub, 1)), "inner": np.zeros((1, 1)), "bias": np.zeros(1)}
    arrays |= {"outer": np.zeros((1, 1)), "output": np.zeros((1, M * dsub))}
    return Decoder(arrays, candidates=1)


@both_metrics
@pytest.mark.parametrize("held", [1000, 4000])
def test_tables_are_learned_for_words_that_stay(metric: int, held: int) -> None:
    z, judge = unevenly_explained(3000, 1), Judge(unevenly_explained(held, 2), metric)
    fresh = Judge(unevenly_explained(4000, 3), metric)
    quantizer = trained(z, 4, 8)
    quantizer.decoder = decoder_of(quantizer)
    before = fresh.by_tables(quantizer).mean()
    known = Neighbours.among(z, 2000, metric, np.random.default_rng(0))
    moved = learn_order(quantizer, known, judge, epochs=2)
    after = fresh.by_tables(quantizer).mean()
    assert moved or after == before
    assert after >= before + (0.02 if metric == METRIC_L2 else 0)


def test_tables_are_learned_for_nearest_words(glosses) -> None:
    z, judge = glosses.train[:3000], Judge(glosses.train[3000:5000], METRIC_L2)
    fresh = Judge(glosses.base[:4000], METRIC_L2)
    quantizer = trained(z, 8, 8)
    before = fresh.by_tables(quantizer).mean()
    known = Neighbours.among(z, 2000, METRIC_L2, np.random.default_rng(0))
    assert learn_order(quantizer, known, judge, epochs=2)
    assert fresh.by_tables(quantizer).mean() > before + 0.005


# Among 750 rows ten neighbours are a coarse neighbourhood. What pays there may do harm among more
# vectors, so the judge searches among the training rows as well.
def test_what_pays_among_few_rows_does_no_harm_among_more() -> None:
    z = unevenly_explained(3000, 1)
    judge = Judge(unevenly_explained(1000, 2), METRIC_L2, z)
    fresh = Judge(unevenly_explained(4000, 3), METRIC_L2)
    quantizer = trained(z, 4, 8)
    before = fresh.by_tables(quantizer).mean()
    known = Neighbours.among(z, 2000, METRIC_L2, np.random.default_rng(0))
    learn_order(quantizer, known, judge, epochs=4)
    assert fresh.by_tables(quantizer).mean() > before - 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_structure_nothing_is_made_worse(seed: int) -> None:
    z, held = normal(2000, 16, seed), normal(600, 16, seed + 10)
    fresh = normal(4000, 16, seed + 20)
    quantizer = trained(z, 4, 4)
    start, before = quantizer.trained(), fresh_recall(quantizer, fresh)
    known = Neighbours.among(z, 1000, METRIC_L2, np.random.default_rng(seed))
    if not learn_order(quantizer, known, Judge(held, METRIC_L2), epochs=2):
        assert quantizer.trained() is start
    assert fresh_recall(quantizer, fresh) > before - 0.01


def test_learning_repeats() -> None:
    z, held = on_a_sphere(800, 1), on_a_sphere(300, 2)
    books = []
    for seed in (3, 3, 4):
        quantizer = trained(z, 4, 4)
        known = Neighbours.among(z, 400, METRIC_L2, np.random.default_rng(0))
        ranker = Ranker(quantizer, known, 1)
        ranker.epoch(np.random.default_rng(seed))
        books.append(quantizer.trained())
    assert len(held) == 300
    np.testing.assert_array_equal(books[0], books[1])
    assert not np.array_equal(books[0], books[2])


@pytest.mark.parametrize("at", ["while shrinking", "in an epoch"])
def test_an_interrupt_leaves_the_best_until_then(scene, monkeypatch, at: str) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    calls = iter(range(100))

    def chosen(_: np.ndarray) -> float:
        if at == "while shrinking" and next(calls) == 6:
            raise KeyboardInterrupt
        return 0.5

    if at == "in an epoch":
        real = Ranker._step
        steps = iter(range(100))
        monkeypatch.setattr(
            Ranker, "_step", lambda self, g: interrupt() if next(steps) else real(self, g)
        )
    with pytest.raises(KeyboardInterrupt):
        learn_order(scene.quantizer, scene.known, Opinion(chosen), epochs=1)
    np.testing.assert_array_equal(scene.quantizer.trained(), scene.start)


# ---- judging -------------------------------------------------------------------------------------


def test_only_a_gain_beyond_its_standard_error_pays() -> None:
    old = np.linspace(0, 1, 100, dtype=np.float32)
    noise = np.where(np.arange(100) % 2, 0.5, -0.5)
    assert not pays(old, old)
    assert pays(old + 0.01, old)
    assert not pays(old - 0.01, old)
    assert not pays(old + noise, old)
    assert not pays(old + noise + 0.049, old)
    assert pays(old + noise + 0.051, old)


@both_metrics
def test_a_judge_measures_recall_of_tables_and_of_decoded_vectors(metric: int) -> None:
    z = on_a_sphere(400, 5)
    quantizer = trained(z, 4, 3)
    judge = Judge(z, metric)
    queries, base = z[:100], z[100:]
    true = np.argsort(scores(queries, base, metric), axis=1)[:, :TOP]
    words = quantizer.assign(base)
    by_codewords = scores(queries, quantizer.gather(words), metric)
    found = np.argsort(by_codewords, axis=1, kind="stable")[:, :TOP]
    hits = [len(set(a) & set(b)) / TOP for a, b in zip(found, true, strict=True)]
    got = judge.by_tables(quantizer)
    assert got.mean() == pytest.approx(np.mean(hits), abs=0.02)  # equal codes tie
    assert judge.reranked(quantizer).mean() == pytest.approx(got.mean(), abs=0.02)
    means = {row.tobytes(): base[(words == row).all(axis=1)].mean(axis=0) for row in words}
    quantizer.reconstruct = lambda some: np.array([means[row.tobytes()] for row in some])
    decoded = quantizer.reconstruct(words)
    short = np.argsort(by_codewords, axis=1, kind="stable")[:, :100]
    again = np.take_along_axis(scores(queries, decoded, metric), short, axis=1)
    best = np.take_along_axis(short, np.argsort(again, axis=1, kind="stable")[:, :TOP], axis=1)
    hits = [len(set(a) & set(b)) / TOP for a, b in zip(best, true, strict=True)]
    assert judge.reranked(quantizer).mean() == pytest.approx(np.mean(hits), abs=0.02)


# ---- ranking anew --------------------------------------------------------------------------------


@both_metrics
@pytest.mark.parametrize("rows", [1, 7, 1 << 15])
def test_rerank_sorts_by_decoded_vectors(metric: int, rows: int, monkeypatch) -> None:
    monkeypatch.setattr(reranking, "_NUMBERS", rows)
    rng = np.random.default_rng(0)
    vectors, queries = rng.integers(-2, 3, (40, 4)).astype("f4"), normal(9, 4)
    queries[::2] = np.round(queries[::2])  # scores that tie
    found = np.stack([rng.permutation(40)[:6] for _ in queries])
    found[2, 3:] = found[5] = -1
    given = found.copy()
    asked: list[np.ndarray] = []

    def decode(ids: np.ndarray) -> np.ndarray:
        asked.append(ids)
        return vectors[ids]

    D = reranking.rerank(queries, found, decode, metric)
    assert (D.dtype, D.shape) == (np.float32, found.shape)
    for i, ids in enumerate(given):
        cost = scores(queries[i : i + 1], vectors, metric)[0]
        want = sorted(ids[ids >= 0], key=lambda j: (np.float32(cost[j]), j))
        want += [-1] * (6 - len(want))
        assert found[i].tolist() == want
        signed = -cost if metric == METRIC_INNER_PRODUCT else cost
        worst = -np.inf if metric == METRIC_INNER_PRODUCT else np.inf
        right = [worst if j < 0 else signed[j] for j in want]
        np.testing.assert_allclose(D[i], right, rtol=1e-5, atol=1e-5)
    assert all(len(np.unique(ids)) == len(ids) for ids in asked)
    assert len(asked) == (9 if rows < 6 * 2 else 1)


def test_rerank_of_nothing() -> None:
    D = reranking.rerank(
        normal(3, 4), np.empty((3, 0), np.int64), lambda i: np.empty((len(i), 4), "f4"), METRIC_L2
    )
    assert D.shape == (3, 0)
