"""Presets, and settings out of range."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq.quantizers import ProductQuantizer
from deepq.training.settings import PRESETS, plan

from .clusters import HELD, NBITS, XB, D, M, N, train


def test_presets_spend_more_and_more() -> None:
    fast, default, best = (
        plan(preset, 128, 8, 50_000, None) for preset in ("fast", "default", "best")
    )
    assert fast.hidden < default.hidden < best.hidden
    assert fast.inside < default.inside < best.inside
    assert (fast.tried, fast.candidates, fast.sweeps) == (1, 1, 1)
    assert 1 < default.tried == best.tried
    assert 1 < default.candidates < best.candidates
    assert fast.visits == default.visits < best.visits


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("M", [1, 8, 48, 200])
@pytest.mark.parametrize("rows", [300, 100_000, 10_000_000])
def test_plans_are_within_reason(preset, M, rows) -> None:
    made = plan(preset, 384, M, rows, None)
    assert min(made) >= 1
    assert rows <= made.visits <= max(3 * rows, 3 * 2_000_000)
    assert plan(preset, 384, M, rows, 4).visits == 4 * rows


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.usefixtures("small")
def test_presets_train_and_store(preset) -> None:
    index = train(preset=preset, rerank=20, epochs=1)
    made, settings = plan(preset, D, M, N - HELD, 1), index.quantizer.decoder.settings
    assert (settings["candidates"], settings["sweeps"]) == (made.candidates, made.sweeps)
    index.add(XB[:200])
    if preset == "fast":
        z = index.encoder.encode(XB[:200])
        near = ProductQuantizer(M, NBITS)
        near.codebooks = index.quantizer.decoder.arrays["sites"]
        np.testing.assert_array_equal(index.sa_encode(XB[:200]), near.encode(z))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("preset", "slow"),
        ("batch_size", 0),
        ("batch_size", None),
        ("validation", -0.1),
        ("validation", 0.6),
        ("validation", float("nan")),
        ("max_seconds", -1),
        ("max_seconds", float("nan")),
        ("device", 0),
    ],
)
def test_settings_out_of_range_are_refused(field, value) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"expected .*{field}.*got"):
        deepq.TrainConfig(**{field: value})
