"""Drift: what new rows lose beside what the training's held-out rows lost."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import DeepQuantIndex, DeepQuantIVFIndex, diagnose
from deepq.quantizers.usage import expected_bits

D = 16


def rows(n: int, seed: int) -> np.ndarray:
    """Draw rows near a plane, whose place does not depend on the seed."""
    mixing = np.random.default_rng(0).standard_normal((D, D)) * np.linspace(1, 0.1, D)
    return (np.random.default_rng(seed).standard_normal((n, D)) @ mixing.T).astype(np.float32)


KINDS = {
    "flat": lambda **how: DeepQuantIndex(D, 4, 4, **how),
    "re-ranked": lambda **how: DeepQuantIndex(D, 4, 4, rerank=20, **how),
    "cells": lambda **how: DeepQuantIVFIndex(D, 6, 4, 4, **how),
    "whole in cells": lambda **how: DeepQuantIVFIndex(D, 6, 4, 4, by_residual=False, **how),
}


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    found = {}
    for kind, make in KINDS.items():
        found[kind] = make(training=deepq.TrainConfig(epochs=4))
        found[kind].train(rows(6000, 1))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rows_alike_do_not_drift_and_others_do(trained, kind):
    index = trained[kind]
    alike = diagnose(index, rows(4000, 2))
    assert abs(alike.drift) < 0.05
    assert abs(alike.idle) < 0.3
    others = diagnose(index, 1.5 * rows(4000, 2))
    assert others.drift > 0.5
    few = diagnose(index, np.repeat(rows(4, 2), 500, axis=0))
    assert few.idle > 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_entry_is_what_a_search_in_held_out_rows_loses(trained, kind):
    index = trained[kind]
    entry = index.history[-1]
    assert (entry["stage"], entry["fingerprint"]) == ("held out", index.fingerprint)
    assert 400 < entry["rows"] <= 600
    found = diagnose(index, rows(4000, 2))
    assert found.drift == pytest.approx(found.distortion.sum() / entry["error"] - 1)


def test_it_is_in_copies_of_every_kind(trained, tmp_path):
    index = trained["flat"]
    deepq.write_index(index, tmp_path / "a.dpq")
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    others = [
        deepq.read_index(tmp_path / "a.dpq"),
        deepq.read_index(tmp_path / "a.faiss"),
        pickle.loads(pickle.dumps(index)),
        copy.copy(index),
        index.copy_empty(),
    ]
    x = rows(500, 3)
    assert {diagnose(other, x).drift for other in others} == {diagnose(index, x).drift}


def test_it_is_unknown_where_nothing_is_known(trained, caplog):
    x = rows(300, 2)
    few = DeepQuantIndex(D, 4, 4, training=deepq.TrainConfig(epochs=1))
    few.train(x)
    theirs = faiss.IndexPQ(D, 4, 4)
    theirs.train(x)
    books = copy.copy(trained["flat"])
    books.codebooks = books.codebooks * np.float32(1.01)  # others than the entry is of
    emptied = copy.copy(trained["flat"])
    emptied.history = [{"stage": "held out"}, "what a user has put here"]
    for index in (few, theirs, books, emptied):
        assert diagnose(index, x).drift is diagnose(index, x).idle is None
    assert diagnose(trained["flat"].copy_empty(), x).drift is not None
    with caplog.at_level(logging.WARNING, "deepq.evaluation"):
        diagnose(few, x, warn_above=0.1)
    assert "drift is not known" in caplog.text


def test_a_training_with_labels_tells_nothing():
    index = deepq.recipes.dqn(D, 8)
    index.training = deepq.TrainConfig(epochs=1)
    x = rows(1000, 1)
    index.train(x, (x[:, 0] > 0).astype(int))
    assert diagnose(index, x).drift is None


def test_stored_codes_tell_of_bits_alone(trained, caplog):
    index = trained["flat"].copy_empty()
    index.add(rows(2000, 2))
    found = diagnose(index)
    assert found.drift is None
    assert abs(found.idle) < 0.3
    with caplog.at_level(logging.WARNING, "deepq.evaluation"):
        diagnose(index, warn_above=0.1)
    assert "drift of stored codes is not known" in caplog.text


def test_other_rows_to_compare_with(trained):
    index = trained["flat"].copy_empty()
    index.history = []
    then = diagnose(index, rows(4000, 2))
    assert abs(diagnose(index, rows(4000, 3), like=then).drift) < 0.05
    now = diagnose(index, 1.5 * rows(4000, 3), like=then)
    assert now.drift == pytest.approx(now.distortion.sum() / then.distortion.sum() - 1)
    assert "drift +" in str(now)
    assert "drift" not in str(then)
    index.add(rows(100, 2))
    assert diagnose(index, rows(100, 2), like=diagnose(index)).drift is None
    other = trained["cells"]
    both = f"{index.fingerprint}, got one of {other.fingerprint}"
    with pytest.raises(ValueError, match=f"of the same training to compare with, {both}"):
        diagnose(index, rows(100, 2), like=diagnose(other, rows(100, 2)))
    with pytest.raises(TypeError, match="expected a Diagnosis to compare with, got float"):
        diagnose(index, rows(100, 2), like=0.3)


def test_a_warning_is_logged_where_it_is_asked_for(trained, caplog):
    index, x = trained["flat"], 1.5 * rows(1000, 2)
    with caplog.at_level(logging.WARNING, "deepq.evaluation"):
        found = diagnose(index, x)
        diagnose(index, x, warn_above=found.drift)
        assert not caplog.records
        diagnose(index, x, warn_above=found.drift - 0.01)
    assert f"drift {found.drift:.3f} of 1000 vectors is above" in caplog.text
    with pytest.raises(TypeError, match="warn_above"):
        diagnose(index, x, warn_above=[])
    with pytest.raises(ValueError, match="warn_above"):
        diagnose(index, x, warn_above=float("nan"))


def test_entropies_of_few_rows_are_corrected():
    rng, truth = np.random.default_rng(0), 6.0  # bits of 64 codewords, used alike
    found = []
    for _ in range(50):
        counts = np.bincount(rng.integers(0, 64, 500), minlength=64)
        p = counts[counts > 0] / 500
        found.append([-(p * np.log2(p)).sum(), len(p)])
    seen, occurring = np.mean(found, axis=0)
    assert truth - seen > 0.05
    assert abs(truth - expected_bits(500, np.array([seen]), np.array([occurring]))) < 0.01


def test_an_encoder_without_a_state_leaves_no_entry():
    class Stateless(deepq.encoders.Encoder):
        def encode(self, x: Any) -> Any:
            return x

        def decode(self, z: Any) -> Any:
            return z

    index = DeepQuantIndex(D, 4, 4, encoder=Stateless(D, D), training=deepq.TrainConfig(epochs=1))
    index.train(rows(3000, 1))
    assert all(entry["stage"] != "held out" for entry in index.history)
    file = io.BytesIO()
    with pytest.raises(TypeError, match="Stateless"):
        deepq.write_index(index, file)
