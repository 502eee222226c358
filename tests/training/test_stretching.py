"""Errors that count: what they are measured by, and when they change a training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import deepq
from deepq.decoders import Decoder
from deepq.quantizers import METRIC_L2, ProductQuantizer
from deepq.quantizers.judging import Judge, Neighbours
from deepq.training import fitting, stretching
from deepq.training.additive import decoder_of
from deepq.training.embedded import Embedded

from .clusters import XB, XQ, D, M, X, assert_same_training, train

DSUB = D // M


def known(x: np.ndarray = X) -> Neighbours:
    return Neighbours.among(x, 300, METRIC_L2, np.random.default_rng(0))


def rows(x: np.ndarray = X) -> Embedded:
    return Embedded(x, XB[:1000], METRIC_L2, 1)


def quantizer(x: np.ndarray = X, M: int = M, nbits: int = 4) -> ProductQuantizer:
    made = ProductQuantizer(M, nbits)
    made.train(x, iterations=10)
    return made


def test_stretch_is_a_power_of_the_second_moment_of_near_differences() -> None:
    near = known()
    stretch = stretching.stretch_of(near)
    assert stretch is not None
    gaps = np.repeat(near.queries, 10, axis=0) - near.base[near.true.ravel()]
    moment = gaps.T.astype(np.float64) @ gaps
    fourth = np.linalg.matrix_power(stretch.astype(np.float64), 4)
    np.testing.assert_allclose(fourth * np.trace(moment) / D, moment, rtol=1e-2, atol=1)
    np.testing.assert_allclose(stretch, stretch.T, atol=1e-6)


def test_equal_vectors_are_not_stretched() -> None:
    same = np.ones((300, D), np.float32)
    assert stretching.stretch_of(known(same)) is None
    made = quantizer()
    start = stretching.start_of(made, rows(same), 1)
    assert start.stretch is None
    np.testing.assert_array_equal(start.sites, made.trained())


def test_plain_decoders_decode_to_their_sites() -> None:
    made = quantizer()
    coder = stretching.plain_decoder(made.trained(), None)
    words = made.assign(XB)
    np.testing.assert_array_equal(coder.choose(XB), words)
    np.testing.assert_allclose(coder.decode(words), made.gather(words), rtol=1e-6)


@pytest.mark.parametrize("gain", [-0.1, 0.1])
def test_it_is_stretched_where_that_finds_more(gain: float) -> None:
    def reranked(trial: ProductQuantizer) -> np.ndarray:
        assert isinstance(trial.decoder, Decoder)
        return np.full(100, 0.5 + gain * ("stretch" in trial.decoder.arrays))

    made, given = quantizer(), rows()
    given.among = cast(Any, SimpleNamespace(reranked=reranked))
    start = stretching.start_of(made, given, 1)
    assert (start.stretch is not None) == (gain > 0)
    assert start.by_chosen.mean() == pytest.approx(0.5 + max(gain, 0))
    assert np.array_equal(start.sites, made.trained()) == (gain < 0)


def test_learned_axes_turn_all_that_a_training_has() -> None:
    given, made, entries = rows(), quantizer(), []
    near = given.known()
    stretch = stretching.stretch_of(near)
    assert stretch is not None
    turned = stretching.along_learned_axes(made, stretch, given, 4, 1, entries.append)
    np.testing.assert_allclose(turned.axes @ turned.axes.T, np.eye(D), atol=1e-5)
    np.testing.assert_allclose(turned.rows.z, X @ turned.axes.T, atol=1e-5)
    np.testing.assert_allclose(turned.rows.held, XB[:1000] @ turned.axes.T, atol=1e-5)
    there = turned.rows.known()
    np.testing.assert_allclose(there.queries, near.queries @ turned.axes.T, atol=1e-5)
    np.testing.assert_array_equal(there.true, near.true)
    assert turned.codebooks.shape == made.trained().shape
    assert {entry["stage"] for entry in entries} == {"axes"}
    if turned.start.stretch is not None:
        again = stretching.stretch_of(there)
        np.testing.assert_allclose(turned.start.stretch, again, atol=1e-4)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried is better."""
    for module in (stretching, fitting):
        monkeypatch.setattr(module, "pays", lambda *_: True)


@pytest.mark.usefixtures("forced")
def test_an_index_is_trained_stretched_along_other_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))[0].astype(np.float32)
    monkeypatch.setattr(stretching, "learn_rotation", lambda *_, **__: other)
    index = train(rerank=20, epochs=4)
    assert index.quantizer.decoder.arrays["stretch"].shape == (D, D)
    np.testing.assert_allclose(index.encoder.A, other @ train(epochs=4).encoder.A, atol=1e-5)
    index.add(XB)
    D_, I = index.search(XQ, 10)
    deepq.write_index(index, str(tmp_path / "index"))
    again: Any = deepq.read_index(str(tmp_path / "index"))
    np.testing.assert_array_equal(again.search(XQ, 10)[0], D_)
    np.testing.assert_array_equal(again.search(XQ, 10)[1], I)
    np.testing.assert_array_equal(again.sa_encode(XQ), index.sa_encode(XQ))


@pytest.mark.usefixtures("forced")
def test_two_stretched_trainings_are_equal() -> None:
    assert_same_training(train(rerank=20, epochs=2), train(rerank=20, epochs=2))


def test_judges_choose_words_anew_for_other_candidates() -> None:
    made, near = quantizer(), known()
    stretch = stretching.stretch_of(near)
    assert stretch is not None
    trial, judge = made.fresh(), Judge(XB[:1000], METRIC_L2)
    few = stretching.plain_decoder(made.trained(), np.diag(np.linspace(0.2, 3, D)) + stretch)
    trial.codebooks, finds = made.trained(), []
    for candidates in (1, 8, 1):
        trial.decoder = few.with_settings(candidates=candidates)
        finds.append(judge.reranked(trial))
        np.testing.assert_array_equal(finds[-1], Judge(XB[:1000], METRIC_L2).reranked(trial))
    assert (finds[0] != finds[1]).any()
    sums = decoder_of(np.random.default_rng(0).random((M, 16, D), np.float32), np.zeros(D))
    assert not few.chooses_like(sums)
    assert not sums.chooses_like(few)
    assert sums.chooses_like(sums.with_settings(spare=3))
    assert not sums.chooses_like(sums.with_settings(beam=sums.beam + 1))
