"""Stages of training that Ctrl-C or the time ends: the best so far is kept."""

from __future__ import annotations

import logging
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.quantizers.judging import Judge
from deepq.training import fitting, ranking
from deepq.training.progress import Report

from .clusters import XB, XQ, X, assert_same_training, plain, stages_of, train, untrained

_STARTS = 6  # how often those that a decoder may have are judged


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


class After:
    """Interrupts a method from its n-th call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, n: int) -> None:
        self.left, self.real = n, getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, **kw: self(*args, **kw))

    def __call__(self, *args: Any, **kw: Any) -> Any:
        self.left -= 1
        return self.real(*args, **kw) if self.left >= 0 else interrupt()


@pytest.mark.parametrize("calls", [0, 3, 70])
def test_an_interrupt_before_there_is_anything_changes_nothing(calls, monkeypatch) -> None:
    fresh, filled = untrained(rerank=20), train()
    for index in (fresh, filled):
        index.training = deepq.TrainConfig(epochs=60)
    before, history = faiss.serialize_index(filled), filled.history
    After(monkeypatch, deepq._scan, "accumulate", calls)
    for index in (fresh, filled):
        with pytest.raises(KeyboardInterrupt):
            index.train(XB)
    assert not fresh.is_trained
    assert fresh.history == []
    np.testing.assert_array_equal(faiss.serialize_index(filled), before)
    assert filled.history is history


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [(ranking.Ranker, "_step", 0), (ranking.Ranker, "_step", 2), (Judge, "by_tables", 5)],
    ids=["at once", "in an epoch", "while shrinking"],
)
def test_an_interrupt_of_the_order_leaves_the_best_so_far(owner, name, calls, monkeypatch) -> None:
    index, want = untrained(rerank=20), plain()
    After(monkeypatch, owner, name, calls)
    with pytest.raises(KeyboardInterrupt):
        index.train(X)
    assert index.is_trained
    assert_same_training(index, want)
    index.add(XB[:50])
    assert (index.search(XQ, 3)[1] >= 0).all()


@pytest.mark.parametrize("steps", [0, 1, 9])
@pytest.mark.parametrize("worth", [False, True], ids=["kept out", "kept"])
@pytest.mark.usefixtures("small")
def test_an_interrupt_of_the_decoder_leaves_the_best_so_far(steps, worth, monkeypatch) -> None:
    from deepq.training.decoding import Learner

    monkeypatch.setattr(fitting, "pays", lambda *_: worth)
    index, want = untrained(rerank=20), train()
    After(monkeypatch, Learner, "step", steps)
    with pytest.raises(KeyboardInterrupt):
        index.train(X)
    assert index.is_trained
    if worth:
        assert index.quantizer.decoder is not None
    else:
        assert_same_training(index, want)
    assert stages_of(index)[:3] == ["rotation", "codebooks", "order"]
    index.add(XB[:50])
    assert (index.search(XQ, 3)[1] >= 0).all()


@pytest.mark.usefixtures("small")
def test_an_interrupt_after_the_decoder_leaves_the_tables(monkeypatch) -> None:
    index, want = untrained(rerank=20), train()
    After(monkeypatch, Judge, "reranked", _STARTS + 3)
    with pytest.raises(KeyboardInterrupt):
        index.train(X)
    assert_same_training(index, want)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("calls", range(_STARTS))
def test_an_interrupt_while_a_start_is_found_leaves_the_codebooks(calls, monkeypatch) -> None:
    index, want = untrained(rerank=20), plain()
    After(monkeypatch, Judge, "reranked", calls)
    with pytest.raises(KeyboardInterrupt):
        index.train(X)
    assert_same_training(index, want)


@pytest.mark.parametrize("rerank", [0, 20])
def test_without_time_later_stages_are_left_out(rerank, caplog) -> None:
    caplog.set_level(logging.INFO, "deepq")
    index = train(max_seconds=0, rerank=rerank)
    assert stages_of(index) == ["rotation", "codebooks"]
    assert "no time left for the stage 'order'" in caplog.text
    assert_same_training(index, plain())


@pytest.mark.usefixtures("small")
def test_time_that_runs_out_ends_the_learning_of_a_decoder(monkeypatch) -> None:
    from deepq.training.decoding import Learner

    seen: list[float] = []
    real = Learner.step

    def step(self: Learner, z: np.ndarray, progress: float) -> float:
        seen.append(progress)
        return real(self, z, progress)

    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(Report, "elapsed", property(lambda _: len(seen) / 4))
    index = train(rerank=20, max_seconds=1)
    assert seen[-1] == 1
    assert len(seen) == 5  # of 15
    assert seen == sorted(seen)
    assert index.quantizer.decoder is not None


@pytest.mark.usefixtures("small")
def test_time_enough_changes_nothing() -> None:
    assert_same_training(train(rerank=20, max_seconds=1e6), train(rerank=20))
