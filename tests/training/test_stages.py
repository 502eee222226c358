"""Stages of training: each is kept only where it pays on rows that were held out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.quantizers import ProductQuantizer
from deepq.quantizers.judging import Judge
from deepq.training import fitting, ranking, stages

from .clusters import (
    HELD,
    XB,
    XQ,
    D,
    N,
    X,
    assert_same_training,
    plain,
    stages_of,
    train,
    untrained,
)


def normal(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, D), dtype=np.float32)


def recall(index: Any, base: np.ndarray = XB, queries: np.ndarray = XQ) -> float:
    index = deepq.from_faiss(index)
    index.reset()
    index.add(base)
    true = faiss.knn(queries, base, 10)[1]
    return float(deepq.metrics.recall(index.search(queries, 10)[1], true, k=10, r=10))


# ---- never worse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rerank", [0, 20])
@pytest.mark.parametrize("n", [20, 500, 999])
def test_few_rows_are_trained_on_plainly(n, rerank, caplog) -> None:
    caplog.set_level(logging.INFO, "deepq")
    index = train(X[:n], rerank=rerank)
    assert "too few to judge" in caplog.text
    assert set(stages_of(index)) <= {"rotation", "codebooks"}
    assert_same_training(index, train(X[:n], validation=0))


def test_rows_are_held_out_from_the_first_stage() -> None:
    few, many = train(X, validation=0), train(X, ranking=False)
    assert not np.array_equal(few.codebooks, many.codebooks)


@pytest.mark.parametrize("rerank", [0, 20])
def test_with_no_part_held_out_training_is_plain(rerank) -> None:
    index = train(X, validation=0, rerank=rerank)
    assert stages_of(index) == ["rotation", "codebooks"]
    assert index.quantizer.decoder is None


def test_vectors_without_structure_are_trained_on_plainly_or_better(caplog) -> None:
    caplog.set_level(logging.INFO, "deepq")
    x, base, queries = normal(3000, 1), normal(4000, 2), normal(300, 3)
    before = train(x, ranking=False)
    index = train(x)
    assert stages_of(index) == ["rotation", "codebooks", "order"]
    if "nothing else ranks better" in caplog.text:
        assert_same_training(index, before)
    assert recall(index, base, queries) > recall(before, base, queries) - 0.01


@pytest.mark.usefixtures("small")
def test_a_decoder_that_does_not_pay_leaves_what_there_was(caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO, "deepq")
    monkeypatch.setattr(fitting, "pays", lambda *_: False)
    index = train(rerank=20)
    assert "no decoder" in caplog.text
    assert stages_of(index)[-1] == "decoder, judged"
    assert_same_training(index, train())
    index.add(XB)
    np.testing.assert_array_equal(
        index.search(XQ, 5), [*index.search(XQ, 5, params=deepq.SearchParameters(rerank=0))]
    )


def test_an_order_that_does_not_pay_leaves_the_means(caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO, "deepq")
    monkeypatch.setattr(ranking, "pays", lambda *_: False)
    index = train()
    assert "codewords stay the means of their cells" in caplog.text
    assert_same_training(index, plain())


@pytest.mark.usefixtures("small")
def test_nothing_is_learned_from_what_is_held_out(monkeypatch) -> None:
    from deepq.training.decoding import Learner

    held, learned = [], []
    init, step = Judge.__init__, Learner.step

    def judge(self: Judge, z: np.ndarray, metric: int, others: np.ndarray | None = None) -> None:
        held.append(z)
        init(self, z, metric, others)

    def learn(self: Learner, z: np.ndarray, progress: float) -> float:
        learned.append(z)
        return step(self, z, progress)

    monkeypatch.setattr(Judge, "__init__", judge)
    monkeypatch.setattr(Learner, "step", learn)
    index = train(rerank=20, max_points=1050)
    assert {len(z) for z in held} == {208}  # 16 stretches of 13 rows, for every judge
    rows = np.concatenate(learned)
    assert len(rows) == 2 * (N - 210) // 128 * 128  # all rows, not the 1,050 drawn
    near = np.concatenate([held[0], rows])
    exact = faiss.knn(held[0], near, 2)[0]
    assert (exact[:, 1] > 1e-4).all()
    inside = faiss.knn(held[0], index.encoder.encode(X), 1)[0]
    assert (inside < 1e-4).all()


# ---- repeatable ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rerank", [0, 20])
@pytest.mark.parametrize("metric", [1, "cosine"])
@pytest.mark.usefixtures("small")
def test_a_seed_decides_to_the_bit(rerank, metric) -> None:
    def summary(seed: int) -> list[Any]:
        index = train(rerank=rerank, metric=metric, seed=seed)
        assert (index.quantizer.decoder is not None) == (rerank > 0)
        return [faiss.serialize_index(index).tobytes(), json.dumps(index.history)]

    first = summary(5)
    assert first == summary(5)
    assert first[0] != summary(6)[0]


@pytest.mark.usefixtures("small")
def test_ranking_off_keeps_the_means_of_cells() -> None:
    index = train(ranking=False)
    assert stages_of(index) == ["rotation", "codebooks"]
    ranked = train()
    np.testing.assert_array_equal(ranked.encoder.A, index.encoder.A)
    reranked = train(ranking=False, rerank=20)
    assert stages_of(reranked) == ["rotation", "codebooks", "decoder", "decoder, judged"]
    decoder = reranked.quantizer.decoder
    assert decoder.shrink == 1
    np.testing.assert_array_equal(reranked.codebooks, index.codebooks)


@pytest.mark.usefixtures("small")
def test_the_global_generators_are_left_alone() -> None:
    import torch

    before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    train(rerank=20)
    after = np.random.get_state()[1], torch.random.get_rng_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


# ---- where the rows are --------------------------------------------------------------------------


@pytest.mark.parametrize("rerank", [0, 20])
@pytest.mark.usefixtures("small")
def test_a_callable_trains_as_an_array_does(rerank) -> None:
    def blocks() -> Iterator[np.ndarray]:
        return (X[i : i + 333] for i in range(0, len(X), 333))

    ours, want = train(blocks, rerank=rerank), train(rerank=rerank)
    assert_same_training(ours, train(blocks, rerank=rerank))
    assert stages_of(ours) == stages_of(want)
    assert ours.codebooks.shape == want.codebooks.shape
    assert (ours.quantizer.decoder is None) == (want.quantizer.decoder is None)
    assert recall(ours) == pytest.approx(recall(want), abs=0.05)


@pytest.mark.parametrize("rerank", [0, 20])
@pytest.mark.parametrize("max_points", [None, 1050])
@pytest.mark.usefixtures("small")
def test_a_mapped_file_trains_as_the_array_does(rerank, max_points, tmp_path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    ours = train(mapped, rerank=rerank, max_points=max_points)
    assert_same_training(ours, train(rerank=rerank, max_points=max_points))


@pytest.mark.parametrize("dtype", ["f8", "f2"])
def test_a_mapped_file_of_another_dtype_trains_as_the_array_does(dtype, tmp_path) -> None:
    np.save(tmp_path / "x.npy", X.astype(dtype))
    ours = train(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert_same_training(ours, train(X.astype(dtype)))


@pytest.mark.usefixtures("small")
def test_bad_numbers_found_late_leave_the_index_unchanged() -> None:
    passes: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        passes.append(1)
        x = X.copy()
        if len(passes) > 1:
            x[1000] = np.nan
        return iter([x])

    index = untrained(rerank=20)
    with pytest.raises(ValueError, match=r"expected finite .*got NaN"):
        index.train(blocks)
    assert not index.is_trained
    assert index.history == []


def test_too_few_rows_are_refused() -> None:
    for x in (X[:15], lambda: [X[:8], X[:7]], list):
        with pytest.raises(ValueError, match=r"at least 16 training vectors.*, got"):
            train(x)


@pytest.mark.usefixtures("small")
def test_training_leaves_its_rows_alone() -> None:
    x = X.copy()
    train(x, rerank=20)
    np.testing.assert_array_equal(x, X)


# ---- other kinds of index ------------------------------------------------------------------------


@pytest.mark.parametrize("rerank", [0, 20])
def test_long_words_are_trained_plainly(rerank) -> None:
    index = train(normal(6000, 1), nbits=12, rerank=rerank, epochs=1)
    assert set(stages_of(index)) <= {"rotation", "codebooks"}
    assert index.quantizer.decoder is None
    index.add(XB[:100])
    assert (index.search(XQ, 3)[1] >= 0).all()


@pytest.mark.parametrize("metric", [0, "cosine"])
@pytest.mark.usefixtures("small")
def test_inner_products_are_not_drawn_towards_the_centre(metric) -> None:
    assert train(rerank=20, metric=metric).quantizer.decoder.shrink == 1


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize(("harmless", "weight"), [(1.0, 1.0), (0.7, 0.6), (0.0, 0.4)])
@pytest.mark.usefixtures("small")
def test_a_decoder_weighs_less_where_it_harms_nearest_codes(
    monkeypatch, metric, harmless, weight
) -> None:
    harm = lambda _, quantizer: quantizer.decoder.weight > harmless  # noqa: E731
    monkeypatch.setattr(Judge, "nearest_suffer", harm)
    assert train(rerank=20, metric=metric).quantizer.decoder.weight == weight


@pytest.mark.parametrize(("enough", "spare"), [(1, 10), (20, 20), (21, 40), (41, 0)])
@pytest.mark.usefixtures("small")
def test_a_decoder_decodes_as_few_as_cost_little_recall(monkeypatch, enough, spare) -> None:
    def reranked(judge: Judge, quantizer: ProductQuantizer) -> np.ndarray:
        loss = 0.01 * (0 < quantizer.decoder.spare < enough)
        return judge.by_tables(quantizer) * 0 + np.float32(1 - loss)

    monkeypatch.setattr(Judge, "reranked", reranked)
    monkeypatch.setattr(Judge, "nearest_suffer", lambda *_: False)
    assert train(rerank=20).quantizer.decoder.spare == spare


@pytest.mark.parametrize("rerank", [0, 20])
def test_polysemous_training_keeps_codes_right(rerank) -> None:
    index = untrained(rerank=rerank, nbits=4)
    index.do_polysemous_training = True
    index.train(X)
    index.add(XB)
    got = np.square(XB - index.reconstruct_n()).sum(axis=1).mean()
    z = index.encoder.encode(XB)
    near = index.quantizer.gather(index.quantizer.assign(z))
    assert got <= np.square(z - near).sum(axis=1).mean() * 1.001
    assert recall(index) > recall(plain()) - 0.05


def on_a_surface(n: int, seed: int) -> np.ndarray:
    """Vectors of three degrees of freedom: what sub-vectors have in common can be learned."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).standard_normal((3, D))
    x = np.sin(rng.uniform(-1.5, 1.5, (n, 3)) @ mix)
    return (x + 0.03 * rng.standard_normal((n, D))).astype(np.float32)


def test_a_trained_decoder_ranks_better_than_the_tables(monkeypatch) -> None:
    pytest.importorskip("torch")
    real = stages.plan
    monkeypatch.setattr(stages, "plan", lambda *a, **kw: real(*a, **kw)._replace(hidden=32))
    x, base, queries = on_a_surface(3000, 1), on_a_surface(3000, 2), on_a_surface(300, 3)
    index, tables = (train(x, rerank=rerank, epochs=50) for rerank in (50, 0))
    assert index.quantizer.decoder is not None
    assert recall(index, base, queries) > recall(tables, base, queries) + 0.005


# ---- history -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_history_tells_of_every_stage() -> None:
    index = train(rerank=20, epochs=3)
    measures = {
        "rotation": {"error"},
        "codebooks": {"error"},
        "order": {"loss", "recall"},
        "decoder": {"error"},
        "decoder, judged": {"recall", "plain"},
    }
    assert stages_of(index) == list(measures)
    assert index.history[-1]["stage"] == "held out"  # see tests/evaluation/test_drift.py
    for entry in index.history[:-1]:
        assert set(entry) == {"stage", "iteration"} | measures[entry["stage"]]
        assert type(entry["iteration"]) is int
        for name in measures[entry["stage"]]:
            assert type(entry[name]) is float
            assert np.isfinite(entry[name])
            assert name != "recall" or 0 <= entry[name] <= 1
    assert json.loads(json.dumps(index.history)) == index.history
    orders = [entry["iteration"] for entry in index.history if entry["stage"] == "order"]
    assert orders == [0, 1, 2, 0, 1, 2]  # for the tables alone, then for codes of the decoder
    last = [entry["iteration"] for entry in index.history if entry["stage"] == "decoder"][-1]
    assert last == 3 * (N - HELD) // 128 - 1


@pytest.mark.usefixtures("small")
def test_bars_are_shown_only_when_verbose(capfd) -> None:
    train(rerank=20, epochs=1)
    assert capfd.readouterr() == ("", "")
    index = untrained(rerank=20, epochs=1)
    index.verbose = True
    index.train(X)
    out, err = capfd.readouterr()
    assert not out
    assert all(f"{stage}:" in err for stage in ("rotation", "codebooks", "order", "decoder"))
