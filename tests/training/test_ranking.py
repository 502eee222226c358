"""Learning the order: loss, gradient, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.types import InCells
from deepq.decoders import Decoder
from deepq.quantizers import METRIC_INNER_PRODUCT, METRIC_L2, ProductQuantizer, pack
from deepq.quantizers.judging import TOP, Judge, Neighbours
from deepq.training import ranking
from deepq.training.ranking import CellRanker, Ranker, learn_order, shrink
from tests.quantizers.builders import both_metrics, normal, on_a_sphere, scores, trained

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
    want = loss_by_loops(ranker, ranker.quantizer.trained(), batch)
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


def cell_ranker_of(n: int, metric: int) -> tuple[CellRanker, np.ndarray]:
    """A ranker of rows in 7 cells, of which a query looks into 3."""
    z = normal(n) + 0.3
    centres = z[:7] + np.float32(0.01)
    far = np.square(z[:, None] - centres).sum(axis=2).argsort(axis=1)
    cells = InCells(centres, far[:, 0])
    quantizer = trained(z - centres[far[:, 0]])
    known = Neighbours.among(z, 30, metric, np.random.default_rng(0))
    known = replace(known, cells=cells, probed=far[known.own, :3])
    return CellRanker(quantizer, known, 2), np.arange(0, 30, 2)


def cell_loss_by_loops(ranker: CellRanker, books: np.ndarray, batch: np.ndarray) -> float:
    """The loss over what queries meet: neighbours in other cells have nothing to lose."""
    known, words, t = ranker.known, ranker.words, ranker.temperature
    cells = known.cells
    decoded = books.astype(np.float64)[np.arange(len(books)), words].reshape(len(words), -1)
    decoded = decoded + cells.centres[cells.cells]
    losses = []
    for i in batch:
        met = np.isin(cells.cells, known.probed[i])
        cost = scores(known.queries[i : i + 1], decoded, known.metric)[0] / t
        rivals = [j for j in np.flatnonzero(met) if j != known.own[i] and j not in known.true[i]]
        for j in known.true[i]:
            pressure = sum(np.exp(cost[j] - cost[rival]) for rival in rivals)
            losses.append(np.log1p(pressure) if met[j] else 0.0)
    return float(np.mean(losses))


@both_metrics
def test_the_loss_in_cells_and_its_gradient(metric: int) -> None:
    ranker, batch = cell_ranker_of(60, metric)
    books = ranker.quantizer.trained().astype(np.float64)
    loss, gradient = ranker._loss(batch)
    assert loss == pytest.approx(cell_loss_by_loops(ranker, books, batch), rel=1e-4)
    want, eps = np.zeros_like(books), 1e-5
    for place in np.ndindex(books.shape):
        ends = []
        for sign in (1, -1):
            moved = books.copy()
            moved[place] += sign * eps
            ends.append(cell_loss_by_loops(ranker, moved, batch))
        want[place] = (ends[0] - ends[1]) / (2 * eps)
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


def test_words_follow_the_codewords_but_not_a_decoders() -> None:
    z = on_a_sphere(1500, 1)
    known = Neighbours.among(z, 1000, METRIC_L2, np.random.default_rng(0))
    for has_decoder in (False, True):
        quantizer = trained(z, 4, 4)
        start = quantizer.assign(z)
        if has_decoder:
            quantizer.decoder = SimpleNamespace(
                shape=(4, 16, 16), width=16, choose=lambda *_, w=start: w
            )
        ranker = Ranker(quantizer, known, 5)
        for _ in range(5):
            follow = quantizer.assign(z)  # as the codewords are when an epoch begins
            ranker.epoch(np.random.default_rng(0))
        assert (follow != start).any()
        np.testing.assert_array_equal(ranker.words, start if has_decoder else follow)


def test_rivals_are_looked_for_among_other_rows_in_every_step(monkeypatch) -> None:
    monkeypatch.setattr(ranking, "_LOOKED_AT", 300)
    z = on_a_sphere(1000, 1)
    known = Neighbours.among(z, 1000, METRIC_L2, np.random.default_rng(0))
    ranker, seen = Ranker(trained(z, 4, 4), known, 1), []
    look_at = ranker._look_at
    monkeypatch.setattr(ranker, "_look_at", lambda rows: (seen.append(rows), look_at(rows)))
    ranker.epoch(np.random.default_rng(0))
    assert [len(rows) for rows in seen] == [300] * 4
    assert len(np.unique(np.concatenate(seen))) == 1000
    np.testing.assert_array_equal(ranker.codes, pack(ranker.words[seen[-1]], 4))


def test_codewords_that_hardly_any_query_saw_stay_near() -> None:
    """Gradients whose squares single precision does not have once led far away."""
    z = on_a_sphere(600, 1)
    quantizer = trained(z, 4, 4)
    known = Neighbours.among(z, 300, METRIC_L2, np.random.default_rng(0))
    ranker, start = Ranker(quantizer, known, 1), quantizer.trained().copy()
    gradient = np.ones_like(start)
    gradient[0, 0] = 1e-25
    ranker._step(gradient)
    moved = np.abs(quantizer.trained() - start)
    assert moved[1:].max() > 0
    assert moved.max() < 2 * moved[1:].max()


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
