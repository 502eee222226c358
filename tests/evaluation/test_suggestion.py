"""Settings for a number of bytes or a recall, tried on a part of the vectors."""

from __future__ import annotations

import dataclasses
import logging

import faiss
import numpy as np
import pytest

from deepq import DeepQuantIndex, DeepQuantIVFIndex, TrainConfig
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.evaluation import suggestion
from deepq.evaluation.suggestion import Suggestion, suggest
from deepq.metrics import recall

from .builders import correlated, normal


def takes_rerank(rerank: int) -> bool:
    try:
        DeepQuantIndex(8, 2, 4, rerank=rerank)
    except InputError:
        return False
    return True


if_reranking = pytest.mark.skipif(not takes_rerank(50), reason="there is no re-ranking yet")
each_rerank = pytest.mark.parametrize("rerank", [0, pytest.param(50, marks=if_reranking)])


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

    def measure(trial, M, nbits, rerank, nlist):
        tried.append((M, nbits, rerank))
        bits, most = M * nbits, 8 * trial.base.shape[1]
        recall = 0.95 * bits / most - 0.01 * (8 - nbits) / 8
        return [Suggestion(M, nbits, rerank, -(-bits // 8), recall, 1.0, 1.0, nlist)]

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
    best, *others = suggest(glosses.base[:3000], bytes_per_vector=8, queries=glosses.query[:200])
    assert (best.M, best.nbits) in {(8, 8), (16, 4)}
    assert 0.35 < best.recall < 0.55
    assert all(best.recall >= other.recall for other in others)


def test_a_row_that_is_not_finite_is_named_by_its_number() -> None:
    x = normal(600, 8)
    x[431, 3] = np.nan
    with pytest.raises(InputError, match=r"in x, got NaN or infinity in row 431$"):
        suggest(x, bytes_per_vector=4)
    x, queries = normal(600, 8), normal(50, 8)
    queries[17, 0] = np.inf
    with pytest.raises(InputError, match=r"in queries, got NaN or infinity in row 17$"):
        suggest(x, bytes_per_vector=4, queries=queries)


# ---- cells and times ---------------------------------------------------------------------------


@pytest.fixture
def in_cells(monkeypatch):
    """Let parts be small, and times be those of as many codes as are looked at."""
    make_small(monkeypatch)
    monkeypatch.setattr(suggestion, "RERANKS", ())
    monkeypatch.setattr(suggestion, "_MOST_IN_CELLS", 1100)
    monkeypatch.setattr(suggestion, "_NUMBERS_IN_CELLS", 1100 * 12)
    searched = suggestion._Trial._searched

    def timed(trial, index, wanted):
        share = wanted.nprobe / wanted.nlist if wanted.nlist else 1
        return dataclasses.replace(searched(trial, index, wanted), search_us=100 * share)

    monkeypatch.setattr(suggestion._Trial, "_searched", timed)


@pytest.mark.usefixtures("in_cells")
def test_cells_are_suggested_where_they_take_less_time() -> None:
    x = correlated(2000, 12)
    found = suggest(x, bytes_per_vector=3, cells=True)
    cells = [s for s in found if s.nlist]
    assert {s.nlist for s in cells} == {32}  # near the root of 1,100; 700 rows are few for 128
    assert [s.nprobe for s in sorted(cells, key=lambda s: s.nprobe)][:2] == [1, 2]
    assert all(8 * s.nprobe <= 2 * s.nlist for s in cells)
    by_time = sorted(cells, key=lambda s: s.search_us)
    assert [s.recall for s in by_time] == sorted(s.recall for s in by_time)
    assert any(not s.nlist for s in found)
    recalls = [s.recall for s in found]
    assert recalls == sorted(recalls, reverse=True)


@pytest.mark.usefixtures("in_cells")
def test_as_many_bytes_come_by_time_with_cells() -> None:
    found = suggest(correlated(2000, 12), recall=0.2, cells=True)
    order = [(s.bytes_per_vector, s.search_us) for s in found]
    assert order == sorted(order)
    assert all(s.recall >= 0.2 for s in found)


@pytest.mark.usefixtures("in_cells")
def test_no_suggestion_takes_longer_than_asked_for() -> None:
    x = correlated(2000, 12)
    found = suggest(x, bytes_per_vector=3, cells=True, us_per_query=10)
    assert found
    assert all(s.nlist for s in found)
    assert all(s.search_us <= 10 for s in found)
    with pytest.raises(InputError, match=r"expected at least 100.0 us_per_query"):
        suggest(x, bytes_per_vector=3, us_per_query=10)


@pytest.mark.parametrize("most", [0, -1])
def test_times_that_are_none_are_refused(most) -> None:
    with pytest.raises(InputError, match="us_per_query above 0"):
        suggest(normal(300, 8), bytes_per_vector=2, us_per_query=most)


def test_an_index_of_cells_is_made_of_a_suggestion() -> None:
    found = Suggestion(2, 4, 0, 1, 0.5, 1.0, 1.0, nlist=8, nprobe=3)
    assert "nlist=8, nprobe=3" in str(found)
    index = found.index(9)
    assert isinstance(index, DeepQuantIVFIndex)
    assert (index.d, index.nlist, index.nprobe) == (9, 8, 3)
    index.train(correlated(600, 9))
    index.add(correlated(50, 9))
    assert index.search(correlated(3, 9), 4)[1].shape == (3, 4)
