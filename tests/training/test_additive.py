"""Additive codes learned: codewords, lengths, and whether a training takes them."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import deepq
from deepq.decoders import AdditiveDecoder
from deepq.quantizers import ProductQuantizer
from deepq.training import additive, fitting, stages
from deepq.training.additive import fit_lengths, learn_additive

from .clusters import NBITS, XB, XQ, D, M, X, stages_of, train, untrained

KSUB = 1 << NBITS


def learned(**options: Any) -> tuple[AdditiveDecoder, list[float]]:
    errors: list[float] = []
    coder = learn_additive(
        X, X.mean(axis=0), M, KSUB, progress=lambda entry: errors.append(entry["error"]), **options
    )
    assert coder is not None
    return coder, errors


def error(z: np.ndarray, found: np.ndarray) -> float:
    return float(np.square(z - found).sum(axis=1, dtype=np.float64).mean())


@pytest.fixture
def kept(monkeypatch):
    """Additive codes are kept whatever they are worth, and nothing of a neural decoder."""
    monkeypatch.setattr(fitting, "pays", lambda *_: True)
    monkeypatch.setattr(fitting, "_HOPE", 1.0)
    monkeypatch.setattr(stages.Stages, "learn_decoder", lambda _: None)


def test_every_round_errs_less() -> None:
    _, errors = learned(rounds=5)
    assert len(errors) == 5
    assert all(after < before for before, after in pairwise(errors[1:]))


def test_sums_err_less_than_sub_vectors_on_other_rows() -> None:
    coder, _ = learned()
    quantizer = ProductQuantizer(M, NBITS)
    quantizer.train(X)
    own = error(XB, coder.decode(coder.choose(XB)))
    assert own < 0.9 * error(XB, quantizer.decode(quantizer.encode(XB)))


def test_codewords_count_some_zeros(monkeypatch) -> None:
    few = X[:200]
    coder = learn_additive(few, few.mean(axis=0), M, KSUB)
    monkeypatch.setattr(additive, "_ZEROS", 0)
    free = learn_additive(few, few.mean(axis=0), M, KSUB)
    assert error(few, free.decode(free.choose(few))) < error(few, coder.decode(coder.choose(few)))
    assert error(XB, free.decode(free.choose(XB))) > error(XB, coder.decode(coder.choose(XB)))


def test_seed_and_threads() -> None:
    want, _ = learned(rounds=2)
    for options in ({}, {"num_threads": 2}):
        again, _ = learned(rounds=2, **options)
        np.testing.assert_array_equal(again.arrays["tables"], want.arrays["tables"])
    other, _ = learned(rounds=2, seed=5)
    assert not np.array_equal(other.arrays["tables"], want.arrays["tables"])


def test_equal_rows_are_learned() -> None:
    z = np.ones((40, 3), np.float32)
    coder = learn_additive(z, z[0], 2, 4)
    np.testing.assert_array_equal(coder.decode(coder.choose(z)), z)


def test_lengths_are_those_of_the_sums() -> None:
    coder, _ = learned()
    words = coder.choose(X)
    lengths = fit_lengths(coder, words)
    true = np.square(coder.decode(words) - coder.arrays["centre"]).sum(axis=1)
    sums = lengths[np.arange(M), words].sum(axis=1)
    np.testing.assert_allclose(sums.mean(), true.mean(), rtol=0.02)
    assert np.var(true - sums) < 0.8 * np.var(true)


# ---- stages --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kept")
def test_additive_codes_are_taken_where_they_pay() -> None:
    index = train(rerank=20, additive=True, epochs=4)
    assert isinstance(index.quantizer.decoder, AdditiveDecoder)
    assert stages_of(index)[-2:] == ["additive", "additive, judged"]
    assert index.code_size == M * NBITS // 8
    index.add(XB)
    assert index.search(XQ, 10)[1].shape == (len(XQ), 10)


@pytest.mark.usefixtures("kept")
def test_it_must_pay(monkeypatch) -> None:
    monkeypatch.setattr(fitting, "pays", lambda *_: False)
    index = train(rerank=20, additive=True)
    assert index.quantizer.decoder is None
    np.testing.assert_array_equal(index.encoder.A, train().encoder.A)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    "settings",
    [{"additive": False}, {"preset": "fast"}, {"ranking": False}, {"validation": 0}],
    ids=str,
)
def test_where_nobody_asks(settings) -> None:
    index = train(rerank=20, **{"additive": True, **settings})
    assert "additive" not in stages_of(index)
    assert index.quantizer.decoder is None


@pytest.mark.usefixtures("kept")
def test_too_many_words_stay_apart() -> None:
    index = deepq.DeepQuantIndex(66, 33, 4, rerank=20)
    x = np.random.default_rng(0).standard_normal((2500, 66)).astype(np.float32)
    index.training = deepq.TrainConfig(epochs=1)
    index.train(x)
    assert "additive" not in stages_of(index)


@pytest.mark.usefixtures("kept")
def test_no_matrix_is_made_that_would_be_too_large(monkeypatch) -> None:
    monkeypatch.setattr(fitting, "_MOST_NUMBERS", M * D * (D + 1) - 1)
    assert "additive" not in stages_of(train(rerank=20, additive=True))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("metric", [0, 1])
def test_what_is_unseen_is_measured(metric) -> None:
    index = train(rerank=20, additive=True, metric=metric)
    entry = index.history[-1]
    assert entry["stage"] == "held out"
    assert 0 < entry["error"] < np.square(XB - XB.mean(axis=0)).sum(axis=1).mean()


@pytest.mark.usefixtures("kept")
def test_an_interrupt_leaves_what_there_was(monkeypatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    index, want = untrained(rerank=20, additive=True), train()
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.train(X)
    assert index.quantizer.decoder is None
    np.testing.assert_array_equal(index.codebooks, want.codebooks)


@pytest.mark.usefixtures("kept")
def test_a_resumed_training_learns_them_once(monkeypatch, tmp_path) -> None:
    config = {"additive": True, "checkpoint": tmp_path / "c", "rerank": 20}
    want = train(**config)
    monkeypatch.setattr(additive, "learn_additive", None)
    again = train(**config)
    assert again.fingerprint == want.fingerprint
    assert again.history == want.history


@pytest.mark.usefixtures("kept")
def test_a_second_training_begins_anew() -> None:
    index = train(rerank=20, additive=True)
    first = index.fingerprint
    index.train(X)
    assert index.fingerprint == first
    index.rerank = 0
    index.train(X)
    assert index.fingerprint == train(additive=True).fingerprint
    assert index.encoder.d_out == D


@pytest.mark.usefixtures("kept")
def test_without_hope_it_ends_early(monkeypatch, caplog) -> None:
    monkeypatch.setattr(fitting, "_HOPE", -1.0)
    with caplog.at_level(logging.INFO, "deepq.training"):
        index = train(rerank=20, additive=True, epochs=5)
    assert "no additive codes: they find" in caplog.text
    assert sum(entry["stage"] == "additive" for entry in index.history) == 1
    np.testing.assert_array_equal(index.codebooks, train(epochs=5).codebooks)


def test_it_may_end_after_two_rounds() -> None:
    asked: list[AdditiveDecoder] = []
    assert learn_additive(X, X[0], M, KSUB, goes_on=lambda each: bool(asked.append(each))) is None
    assert len(asked) == 1
