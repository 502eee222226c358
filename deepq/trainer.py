"""Training settings and the training loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from deepq._checks import InputError, as_integer, as_size, require_usable
from deepq.encoders import Encoder
from deepq.quantizers import Floats, ProductQuantizer

DEFAULT_EPOCHS = 25
DEFAULT_MAX_POINTS = 65_536
POINTS_PER_CODEWORD = 39  # as faiss demands before it stops warning

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes
    ----------
    seed : int
        Seed of everything random; two trainings with one seed are equal.
    epochs : int, optional
        Iterations over the training rows of each stage; None for the default of the stage
        (25 for codebooks, 60 for a rotation learned with them).
    max_points : int, optional
        Most training rows used, drawn without replacement; None for the default of the
        method (65,536, or 64 per codeword where that is more).

    Raises
    ------
    InputError
        If a number is out of range.
    """

    seed: int = 1234
    epochs: int | None = None
    max_points: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "max_points"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_size(getattr(self, name), name))
        object.__setattr__(self, "seed", as_integer(self.seed, "seed"))
        if self.seed < 0:
            raise InputError(f"expected seed of at least 0, got {self.seed}")


def fit(
    encoder: Encoder,
    quantizer: ProductQuantizer,
    x: Floats,
    config: TrainConfig,
    *,
    verbose: bool = False,
) -> list[dict[str, Any]]:
    """Train `encoder` and `quantizer` on the rows of `x` (n, d_in), from the beginning.

    Parameters
    ----------
    encoder : Encoder
        Fitted in place.
    quantizer : ProductQuantizer
        Trained in place; codebooks it has are forgotten.
    x : ndarray of float32, (n, d_in)
        Training vectors, at least ksub.
    config : TrainConfig
        Settings.
    verbose : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    list of dict
        One per iteration: "stage", "iteration" in the stage, and "error", the mean squared
        distance of an embedding to its reconstruction.

    Raises
    ------
    InputError
        If there are fewer than ksub rows, or NaN or infinity among them.
    """
    codebook_epochs = DEFAULT_EPOCHS if config.epochs is None else config.epochs
    x = _sample(x, quantizer.ksub, config)
    if len(x) < quantizer.ksub:
        raise InputError(f"expected at least {quantizer.ksub} training vectors, got {len(x)}")
    require_usable(x, "training vectors")
    if len(x) < POINTS_PER_CODEWORD * quantizer.ksub:
        _log.warning(
            "%d training vectors for %d codewords: at least %d are better",
            len(x),
            quantizer.ksub,
            POINTS_PER_CODEWORD * quantizer.ksub,
        )
    history: list[dict[str, Any]] = []
    with tqdm(desc="train", unit="it", disable=not verbose) as bar:

        def record(entry: dict[str, Any]) -> None:
            history.append(entry)
            bar.set_postfix(stage=entry["stage"], error=f"{entry['error']:.4g}", refresh=False)
            bar.update()

        quantizer.codebooks = None
        encoder.fit(x, quantizer, iterations=config.epochs, seed=config.seed, progress=record)
        z = encoder.encode(x)
        quantizer.train(z, iterations=codebook_epochs, seed=config.seed, progress=record)
    return history


def _sample(x: Floats, ksub: int, config: TrainConfig) -> Floats:
    """At most `max_points` rows of `x`, drawn without replacement and kept in order."""
    most = config.max_points
    if most is None:
        most = max(DEFAULT_MAX_POINTS, 64 * ksub)
    if len(x) <= most:
        return x
    rows = np.random.default_rng(config.seed).choice(len(x), most, replace=False)
    return x[np.sort(rows)]
