"""Neighbours to judge by, the recall among them, and what pays."""

from __future__ import annotations

import numpy as np
import pytest

from deepq.quantizers import METRIC_L2, judging
from deepq.quantizers.judging import TOP, Judge, Neighbours, pays
from deepq.quantizers.packing import pack

from .builders import both_metrics, normal, on_a_sphere, scores, trained

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
    decoded = np.array([means[row.tobytes()] for row in words])
    own = dict(zip((row.tobytes() for row in pack(words, 3)), decoded, strict=True))
    quantizer.decode_narrow = lambda codes: np.array([own[row.tobytes()] for row in codes])
    short = np.argsort(by_codewords, axis=1, kind="stable")[:, :100]
    again = np.take_along_axis(scores(queries, decoded, metric), short, axis=1)
    best = np.take_along_axis(short, np.argsort(again, axis=1, kind="stable")[:, :TOP], axis=1)
    hits = [len(set(a) & set(b)) / TOP for a, b in zip(best, true, strict=True)]
    assert judge.reranked(quantizer).mean() == pytest.approx(np.mean(hits), abs=0.02)


def test_a_judge_scans_again_only_for_other_tables_or_words(monkeypatch) -> None:
    z = on_a_sphere(400, 5)
    quantizer, judge, scans = trained(z, 4, 3), Judge(z, METRIC_L2), []
    real = judging.scan
    monkeypatch.setattr(judging, "scan", lambda *args: scans.append(1) or real(*args))
    first = judge.reranked(quantizer)
    np.testing.assert_array_equal(judge.reranked(quantizer), first)
    assert len(scans) == 1
    start = quantizer.trained().copy()
    quantizer.trained()[:] = start[:, ::-1]  # in place: other tables, and other words
    wanted = Judge(z, METRIC_L2).reranked(quantizer)
    np.testing.assert_array_equal(judge.reranked(quantizer), wanted)
    assert len(scans) == 3
    quantizer.trained()[:] = start
    np.testing.assert_array_equal(judge.reranked(quantizer), first)


@both_metrics
def test_a_judge_knows_how_long_vectors_are(metric: int) -> None:
    z = 3 * on_a_sphere(400, 5)
    assert Judge(z, metric).length == pytest.approx(3)
    assert Judge(np.zeros_like(z), metric).length == 1
