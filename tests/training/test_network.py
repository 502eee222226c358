"""Training a network: what is told, what is kept, what ends it and how it goes on."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

import deepq
from deepq import NetworkEncoder, objectives
from deepq._common.errors import InputError
from deepq.training import network as training

from .classes import (
    CLASSES,
    IMAGES,
    KINDS,
    LABELS,
    XQ,
    D,
    X,
    Y,
    assert_same,
    convnet,
    epochs,
    network,
    quality,
    train,
    untrained,
    weights,
)


class Interrupt:
    """Raises at the n-th call of a method, once."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, n: int, owner: Any = None) -> None:
        owner = training.NetworkTraining if owner is None else owner
        self.calls, real = 0, getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == n:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        patch.setattr(owner, name, call)


# ---- history, patience, time ---------------------------------------------------------------------


def test_history_and_bars_tell_loss_and_quality(capsys) -> None:
    index = untrained()
    index.verbose = True
    index.train(X, Y)
    entries = epochs(index)
    assert [entry["iteration"] for entry in entries] == [0, 1, 2, 3]
    assert all(0 <= entry["mAP"] <= 1 and entry["loss"] > 0 for entry in entries)
    bar = capsys.readouterr().err
    assert "network" in bar
    assert "4/4" in bar
    assert "mAP=" in bar
    assert "loss=" in bar
    assert "<00:0" in bar  # time left
    assert "mAP" not in epochs(train(validation=0))[0]


def judged(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    left = iter(values)
    monkeypatch.setattr(training.NetworkTraining, "_judge", lambda *_: next(left))


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.9, 0.8, 0.3, 0.5, 0.5, 0.4], 4), ([0.9, 0.9, 0.1, 0.2, 0.3, 0.4], 5)],
)
def test_the_best_epoch_of_the_objective_is_kept(values, best, monkeypatch) -> None:
    judged(monkeypatch, values)
    copies = []
    real = training.NetworkTraining._close

    def close(self: Any, *args: Any) -> None:
        copies.append(self._copy())
        real(self, *args)

    monkeypatch.setattr(training.NetworkTraining, "_close", close)
    index = train(epochs=6, objective=objectives.PairwiseCosine(0.0, warm_up=2 / 6))
    for name, tensor in weights(index).items():
        assert torch.equal(tensor, copies[best][name])


def test_patience_ends_a_training_after_its_classifier(monkeypatch) -> None:
    judged(monkeypatch, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    index = train(epochs=8, patience=2, objective=objectives.PairwiseCosine(0.0, warm_up=0.5))
    assert len(epochs(index)) == 7  # 4 of the classifier, the best, and 2 worse ones


def test_patience_needs_rows_to_judge_by(caplog) -> None:
    caplog.set_level(logging.INFO, "deepq")
    assert len(epochs(train(y=LABELS["pairs"], patience=1))) == 4
    assert "patience has no effect" in caplog.text


def test_without_time_the_network_stays_as_it_is(caplog) -> None:
    index = train(max_seconds=0)
    assert "no time to train the network" in caplog.text
    assert index.is_trained
    assert epochs(index) == []
    index.add(X)
    assert index.search(XQ, 3)[1].min() >= 0


def test_time_ends_a_training_within_an_epoch(monkeypatch) -> None:
    steps = []
    real = training.NetworkTraining._step

    def step(self: Any, *args: Any) -> float:
        steps.append(1)
        if len(steps) == 10:
            self.report._seconds = 1e-9
        return real(self, *args)

    monkeypatch.setattr(training.NetworkTraining, "_step", step)
    index = train(max_seconds=1000)
    assert len(steps) == 10
    assert len(epochs(index)) == 2
    assert index.is_trained


# ---- Ctrl-C and checkpoints ----------------------------------------------------------------------


def test_ctrl_c_in_the_first_epoch_changes_nothing(monkeypatch) -> None:
    for name in ("_step", "_judge"):
        index = untrained()
        with monkeypatch.context() as patch:
            Interrupt(patch, name, 1)
            with pytest.raises(KeyboardInterrupt):
                index.train(X, Y)
        assert not index.is_trained
        assert index.history == []


@pytest.mark.parametrize(("name", "n"), [("_step", 9), ("_judge", 3), ("_refresh", 1)])
def test_ctrl_c_keeps_the_best_so_far(name, n, monkeypatch, caplog) -> None:
    index = untrained()
    with monkeypatch.context() as patch:
        Interrupt(patch, name, n)
        with pytest.raises(KeyboardInterrupt):
            index.train(X, Y)
    assert "interrupted" in caplog.text
    assert index.is_trained
    assert quality(index) > 0.4


def test_ctrl_c_after_the_network_keeps_it(monkeypatch) -> None:
    from deepq.training.stages import Stages

    index = untrained(objective=objectives.PairwiseCosine(0.0))
    with monkeypatch.context() as patch:
        Interrupt(patch, "learn_codebooks", 1, Stages)
        with pytest.raises(KeyboardInterrupt):
            index.train(X, Y)
    assert len(epochs(index)) == 4
    assert quality(index) > 0.5


@pytest.mark.parametrize("at", range(1, 5))
def test_a_resumed_training_is_that_of_a_whole_one(at, tmp_path, monkeypatch) -> None:
    def index(path: Any) -> deepq.DeepQuantIndex:
        return convnet(checkpoint=path)

    whole = index(None)
    whole.train(IMAGES, KINDS)
    for number, n in enumerate((4 * at - 1, 1)):  # in epoch `at`, and once more at once
        with monkeypatch.context() as patch:
            Interrupt(patch, "_step", n)
            stopped = index(tmp_path / "c")
            with pytest.raises(KeyboardInterrupt):
                stopped.train(IMAGES, KINDS)
        assert stopped.is_trained == (at > 1), number
    resumed = index(tmp_path / "c")
    resumed.train(IMAGES, KINDS)
    assert_same(resumed, whole)
    assert resumed.history == whole.history


@pytest.mark.parametrize(("labels", "at"), [("tags", 3), ("pairs", 2), ("log", 4), ("tags", 4)])
def test_all_labels_resume(labels, at, tmp_path, monkeypatch) -> None:
    y = LABELS[labels]
    with monkeypatch.context() as patch:
        Interrupt(patch, "_keep", at)
        with pytest.raises(KeyboardInterrupt):
            train(y=y, checkpoint=tmp_path / "c")
    assert_same(train(y=y, checkpoint=tmp_path / "c"), train(y=y))


def test_more_time_goes_on_with_the_network(tmp_path, monkeypatch) -> None:
    judged(monkeypatch, [0.5, 0.6, 0.7, 0.8])
    real = training.NetworkTraining._keep

    def keep(self: Any) -> None:
        real(self)
        if self.epoch == 2 and self.config.max_seconds:
            self.report._seconds = 1e-9

    monkeypatch.setattr(training.NetworkTraining, "_keep", keep)
    first = train(checkpoint=tmp_path / "c", max_seconds=1e6)
    assert len(epochs(first)) == 2
    resumed = train(checkpoint=tmp_path / "c")
    judged(monkeypatch, [0.5, 0.6, 0.7, 0.8])
    assert_same(resumed, train())


@pytest.mark.parametrize("at", [10, 30])  # of 32 steps
def test_more_time_does_an_epoch_again_that_was_cut_short(at, tmp_path, monkeypatch) -> None:
    steps = []
    real = training.NetworkTraining._step

    def step(self: Any, *args: Any) -> float:
        steps.append(1)
        if len(steps) == at:
            self.report._seconds = 1e-9
        return real(self, *args)

    monkeypatch.setattr(training.NetworkTraining, "_step", step)
    train(checkpoint=tmp_path / "c", max_seconds=1e6)
    assert len(steps) == at
    assert_same(train(checkpoint=tmp_path / "c"), train())
    assert len(steps) == at + (32 - at // 8 * 8) + 32


def test_a_training_that_patience_ended_stays_ended(tmp_path, monkeypatch) -> None:
    judged(monkeypatch, [0.9, 0.8, 0.7, 0.6])
    options = {"patience": 1, "objective": objectives.PairwiseCosine(0.1, warm_up=0.0)}
    first = train(checkpoint=tmp_path / "c", **options)
    assert len(epochs(first)) == 2
    again = train(checkpoint=tmp_path / "c", **options)
    assert_same(first, again)
    assert again.history == first.history


OTHERS: dict[str, Any] = {
    "objective": {"objective": objectives.PairwiseCosine(0.2, warm_up=0.5)},
    "labels": {"y": (Y + 1) % CLASSES},
    "settings": {"batch_size": 32},
    "encoder": {"encoder": NetworkEncoder(network(4), D)},
}


@pytest.mark.parametrize("differs", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(differs, tmp_path) -> None:
    train(checkpoint=tmp_path / "c", epochs=1)
    with pytest.raises(InputError, match=rf"another {differs}: give another path"):
        train(checkpoint=tmp_path / "c", **{"epochs": 1, **OTHERS[differs]})
