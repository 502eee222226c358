"""Vectors in clusters, and indexes trained on them without labels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import deepq

D, M, NBITS = 16, 4, 4


def clustered(n: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((40, D))
    mix = np.random.default_rng(7).standard_normal((D, D)) / 4
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(40, size=n)] + rng.standard_normal((n, D)) @ mix
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


N, HELD = 1200, 240
X, XB, XQ = clustered(N, 1), clustered(4000, 2), clustered(100, 3)


_SETTINGS = {"epochs": 2, "batch_size": 128, "validation": 0.2, "additive": False}


def untrained(*, rerank: int = 0, nbits: int = NBITS, metric: Any = 1, **settings: Any) -> Any:
    config = deepq.TrainConfig(**_SETTINGS | settings)
    return deepq.DeepQuantIndex(D, M, nbits, metric, training=config, rerank=rerank)


def train(x: Any = X, **settings: Any) -> Any:
    index = untrained(**settings)
    index.train(x)
    return index


@cache
def plain() -> Any:
    """Trained on X in the first stages alone, but without the rows that are held out."""
    return train(ranking=False)


def stages_of(index: Any) -> list[str]:
    """The stages of a history in order, each once, without what was measured in the end.

    Nor "axes", which are tried where errors are weighed.
    """
    stages = dict.fromkeys(entry["stage"] for entry in index.history)
    return [stage for stage in stages if stage not in ("held out", "axes")]


def assert_same_training(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.encoder.A, b.encoder.A)
    np.testing.assert_array_equal(a.codebooks, b.codebooks)
    ours, theirs = a.quantizer.decoder, b.quantizer.decoder
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours.settings == theirs.settings
        for name, array in ours.arrays.items():
            np.testing.assert_array_equal(array, theirs.arrays[name])
