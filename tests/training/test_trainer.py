"""The training loop: what it reports, what it uses, and that it repeats."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deepq._common.errors import InputError
from deepq.encoders import Identity, Rotation
from deepq.quantizers import ProductQuantizer
from deepq.training.settings import TrainConfig
from deepq.training.trainer import fit


def normal(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


class Recorder(Identity):
    """Keeps the rows it was fitted on."""

    def fit(self, x: np.ndarray, *_: object, **__: object) -> None:
        self.rows = x


@pytest.mark.parametrize("field", [{"seed": -1}, {"epochs": 0}, {"max_points": 0}])
def test_settings_out_of_range_are_refused(field: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(field))):
        TrainConfig(**field)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().seed = 3  # type: ignore[misc]


def test_history_has_the_error_of_each_iteration() -> None:
    x = normal(600)
    encoder, quantizer = Identity(8), ProductQuantizer(2, 4)
    history = fit(encoder, quantizer, x, TrainConfig(epochs=7)).history
    assert [entry["iteration"] for entry in history] == list(range(7))
    assert {entry["stage"] for entry in history} == {"codebooks"}
    errors = [entry["error"] for entry in history]
    assert errors == sorted(errors, reverse=True)
    by_hand = ProductQuantizer(2, 4)
    by_hand.train(x, iterations=7)
    np.testing.assert_array_equal(by_hand.codebooks, quantizer.codebooks)


def test_final_codebooks_fit_the_rotation() -> None:
    x = normal(1500) @ normal(8, seed=1)
    encoder, quantizer = Rotation(8), ProductQuantizer(2, 4)
    config = TrainConfig(epochs=6, ranking=False)
    history = fit(encoder, quantizer, x, config).history
    assert encoder.is_fitted
    assert history[0]["stage"] == "rotation"
    x_hat = encoder.decode(quantizer.decode(quantizer.encode(encoder.encode(x))))
    assert np.square(x - x_hat).sum() / len(x) <= history[-1]["error"] * 1.0001
    assert history[-1]["error"] < history[0]["error"]


def test_same_seed_same_result_and_no_memory_of_the_last_training() -> None:
    x = normal(1200) @ normal(8, seed=1)
    encoder, quantizer = Rotation(8), ProductQuantizer(2, 4)
    runs = []
    for seed in (5, 5, 6):
        history = fit(encoder, quantizer, x, TrainConfig(seed=seed, epochs=4)).history
        runs.append((encoder.A, quantizer.codebooks, history))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert runs[0][2] == runs[1][2]
    assert not np.array_equal(runs[0][1], runs[2][1])


def test_max_points_draws_distinct_rows() -> None:
    x = np.arange(8000, dtype=np.float32).reshape(1000, 8)
    encoder = Recorder(8)
    config = TrainConfig(max_points=100, epochs=1)
    fit(encoder, ProductQuantizer(2, 4), x, config)
    rows = encoder.rows[:, 0]
    assert encoder.rows.shape == (100, 8)
    assert len(np.unique(rows)) == 100
    assert rows.max() > 4000
    first = encoder.rows
    fit(encoder, ProductQuantizer(2, 4), x, config)
    np.testing.assert_array_equal(encoder.rows, first)
    fit(encoder, ProductQuantizer(2, 4), x, TrainConfig(max_points=1000, epochs=1))
    np.testing.assert_array_equal(encoder.rows, x)


def test_too_few_rows_and_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 16 training vectors.*, got"):
        fit(Rotation(8), ProductQuantizer(2, 4), normal(15), TrainConfig())
    with pytest.raises(InputError, match=r"at least 16 training vectors.*, got"):
        fit(Rotation(8), ProductQuantizer(2, 4), normal(100), TrainConfig(max_points=10))
    x = normal(50)
    x[3, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        fit(Identity(8), ProductQuantizer(2, 4), x, TrainConfig())


def test_bar_is_shown_on_stderr_only_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    fit(Identity(8), ProductQuantizer(2, 4), normal(50), TrainConfig(epochs=2))
    assert capfd.readouterr() == ("", "")
    fit(Identity(8), ProductQuantizer(2, 4), normal(50), TrainConfig(epochs=2), verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "codebooks" in err


def test_interrupt_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProductQuantizer, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(Rotation(8), ProductQuantizer(2, 4), normal(500), TrainConfig())
