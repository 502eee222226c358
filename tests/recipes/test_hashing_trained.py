"""Recipes of hashing once trained: answers, copies, history, Ctrl-C, checkpoints."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch

import deepq
from deepq.encoders import kernel_bits
from deepq.encoders.network import NetworkEncoder
from deepq.index.state import live_state
from deepq.labels import similarity_codes, triplet_codes
from deepq.metrics import mean_average_precision
from deepq.quantizers import BinaryQuantizer
from deepq.training.network import NetworkTraining
from deepq.training.progress import Report

from .hashed import (
    NETWORKS,
    RECIPES,
    XQ,
    YQ,
    X,
    Y,
    body,
    every,
    make,
    of_networks,
    quality,
    train,
)


@pytest.fixture(scope="module", params=RECIPES)
def filled(request: pytest.FixtureRequest) -> deepq.DeepQuantIndex:
    return train(request.param)


def assert_same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.sa_encode(XQ), b.sa_encode(XQ))
    for ours, theirs in zip(a.search(XQ, 50), b.search(XQ, 50), strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Interrupt:
    """Raises at the n-th call of a function, once."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str, n: int = 1) -> None:
        self.calls, real = 0, getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == n:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        patch.setattr(owner, name, call)


def test_codes_find_rows_of_the_class(filled) -> None:
    rng = np.random.default_rng(0)
    z, zq = (rng.choice([-1, 1], (len(y), 16)) for y in (Y, YQ))
    order = np.argsort(-zq @ z.T, axis=1, kind="stable")
    D = np.take_along_axis(-zq @ z.T, order, axis=1)
    assert quality(filled) > mean_average_precision(order, YQ, Y, D=D) + 0.5


# ---- repeatable, and copies ----------------------------------------------------------------------


@every
def test_a_seed_decides_to_the_bit(name) -> None:
    first, again, other = (train(name, seed=seed, epochs=2) for seed in (5, 5, 2**70))
    assert_same(first, again)
    assert first.history == again.history
    assert not np.array_equal(first.sa_encode(X), other.sa_encode(X))


def through_faiss(index: Any, path: Path) -> Any:
    faiss.write_index(index, str(path))
    return deepq.read_index(path)


def through_file(index: Any, path: Path) -> Any:
    deepq.write_index(index, path)
    return deepq.read_index(path)


WAYS = {
    "pickle": lambda index, _: pickle.loads(pickle.dumps(index)),
    "deepq's file": through_file,
    "faiss's file": through_faiss,
    "copy": lambda index, _: copy.deepcopy(index),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_copies_are_the_same_index(filled, way, tmp_path) -> None:
    again = way(filled, tmp_path / "i")
    assert_same(again, filled)
    assert type(again.quantizer) is BinaryQuantizer
    if way is not through_faiss:
        assert again.history == filled.history
        assert again.training == filled.training
        assert type(again.objective) is type(filled.objective)
    if way is through_file and filled.objective is not None:
        assert again.objective.state() == filled.objective.state()


@every
def test_untrained_indexes_go_round(name, tmp_path) -> None:
    index = make(name, epochs=2)
    want = train(name, epochs=2)
    for again in (through_file(index, tmp_path / "i"), pickle.loads(pickle.dumps(index))):
        assert not again.is_trained
        again.train(X, Y)
        again.add(X)
        assert_same(again, want)


def test_a_binary_index_of_faiss_agrees(filled) -> None:
    native = deepq.to_faiss(filled, binary=True)
    assert native.ntotal == len(X)
    found, ids = native.search(filled.sa_encode(XQ), len(X))
    distances, ours = filled.search(XQ, len(X))
    np.testing.assert_array_equal(found, distances / 4)
    np.testing.assert_array_equal(  # of each row, whatever the order of ties
        np.take_along_axis(found, np.argsort(ids, axis=1), axis=1),
        np.take_along_axis(distances, np.argsort(ours, axis=1), axis=1) / 4,
    )


# ---- history, Ctrl-C, checkpoints ----------------------------------------------------------------


def test_history_tells_of_the_training(filled) -> None:
    if filled.objective is None:  # of KSH
        assert [(e["stage"], e["iteration"]) for e in filled.history] == [
            ("codes", bit) for bit in range(16)
        ]
        assert np.all(np.diff([entry["error"] for entry in filled.history]) < 0)
    else:
        assert [(e["stage"], e["iteration"]) for e in filled.history] == [
            ("network", epoch) for epoch in range(5)
        ]
        assert all(e["loss"] >= 0 and 0 <= e["mAP"] <= 1 for e in filled.history)


FIRST_STAGES = [
    *[(name, NetworkTraining, "_step", 3) for name in NETWORKS],
    ("cnnh", similarity_codes, "_sweep", 2),
    ("ftbe", triplet_codes, "inferred", 1),
    ("csq", NetworkTraining, "_judge", 1),
    ("ksh", kernel_bits, "best_direction", 5),
    ("ksh", Report, "__call__", 2),
]


@pytest.mark.parametrize(("name", "owner", "function", "n"), FIRST_STAGES)
def test_ctrl_c_in_the_first_stage_changes_nothing(name, owner, function, n, monkeypatch) -> None:
    fresh, trained = make(name), make(name)
    trained.train(X, Y)
    for index in (fresh, trained):
        history, state = list(index.history), pickle.dumps(live_state(index))
        with monkeypatch.context() as patch:
            interrupt = Interrupt(patch, owner, function, n)
            with pytest.raises(KeyboardInterrupt):
                index.train(X, Y % 3)
        assert interrupt.calls == n
        assert index.history == history
        assert pickle.dumps(live_state(index)) == state
    assert not fresh.is_trained


@of_networks
def test_ctrl_c_later_keeps_the_best_so_far(name, monkeypatch) -> None:
    index = make(name)
    with monkeypatch.context() as patch:
        Interrupt(patch, NetworkTraining, "_step", 20)
        with pytest.raises(KeyboardInterrupt):
            index.train(X, Y)
    assert index.is_trained
    assert len(index.history) == 3
    index.add(X)
    assert quality(index) > 0.5


STEPS = dict(zip(NETWORKS, [9, 17, 25, 28, 30, 14, 16, 13, 8], strict=True))  # of 5 x 6
RESUMED = [
    *[(name, 0.0, at) for name, at in STEPS.items()],
    ("ftbe", 0.4, 15),
    ("ftbe", 0.0, 25),
    ("cnnh", 0.4, 20),
    ("csq", 0.4, 17),
]


@pytest.mark.parametrize(("name", "warm_up", "at"), RESUMED)
def test_a_resumed_training_is_that_of_a_whole_one(name, warm_up, at, tmp_path, monkeypatch):
    options: dict[str, Any] = {"warm_up": warm_up}
    options |= {"group": 4} if name == "ftbe" else {}
    whole = train(name, **options)
    for n in (at, 3):  # and once more at once
        with monkeypatch.context() as patch:
            Interrupt(patch, NetworkTraining, "_step", n)
            with pytest.raises(KeyboardInterrupt):
                train(name, checkpoint=tmp_path / "c", **options)
    resumed = train(name, checkpoint=tmp_path / "c", **options)
    assert resumed.history == whole.history
    assert_same(resumed, whole)
    for ours, theirs in zip(
        resumed.encoder.members[0].network.parameters(),
        whole.encoder.members[0].network.parameters(),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_kernels_are_learned_at_once_and_keep_no_checkpoint(tmp_path) -> None:
    first, again = (train("ksh", checkpoint=tmp_path / "c") for _ in range(2))
    assert_same(first, again)
    assert first.history == again.history
    assert not (tmp_path / "c").exists()


def test_a_backbone_makes_features_of_training_rows_once(monkeypatch) -> None:
    counts, real = [], NetworkEncoder.encode
    monkeypatch.setattr(
        NetworkEncoder, "encode", lambda self, x: counts.append(len(x)) or real(self, x)
    )
    make("ksh", backbone=body()).train(X, Y)
    assert sum(counts) == len(X)
