"""Encoders that faiss does not know, and indexes with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import deepq
from deepq import encoders
from deepq._common.types import Floats
from deepq.encoders import Affine, Chain, Encoder, Normalize

D_IN, D_OUT, M, NBITS = 12, 8, 4, 4
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)


def normal(n: int, d: int = D_IN, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


XT, XB, XQ = normal(400, seed=1), normal(300, seed=2), normal(9, seed=3)


class Waved(Encoder):
    """z = tanh(W x), reversed as well as can be."""

    def __init__(self, W: Any) -> None:
        self.W = np.asarray(W, np.float32)
        super().__init__(self.W.shape[1], self.W.shape[0])

    def encode(self, x: Floats) -> Floats:
        return np.tanh(x @ self.W.T)

    def decode(self, z: Floats) -> Floats:
        return np.arctanh(np.clip(z, -0.999, 0.999)) @ np.linalg.pinv(self.W).T

    def state(self) -> dict[str, Any]:
        return {"W": self.W}


class Scaled(Encoder):
    """tanh(x / s), s the learned root mean square."""

    def __init__(self, d: int, s: float | None = None) -> None:
        super().__init__(d, d)
        self.s = s

    @property
    def is_fitted(self) -> bool:
        return self.s is not None

    def fit(self, x: Floats, quantizer: Any, **_: Any) -> None:  # noqa: ARG002
        self.s = float(np.sqrt(np.square(x).mean()))

    def encode(self, x: Floats) -> Floats:
        if self.s is None:
            raise RuntimeError("not fitted")
        return np.tanh(x / np.float32(self.s))

    def state(self) -> dict[str, Any]:
        return {"d": self.d_in, "s": self.s}


class Unnamed(Waved):
    """One that no file can hold."""


class Failing(Encoder):
    """An identity that raises whatever it is told to."""

    fault: BaseException | None = None
    answer: Any = None

    def encode(self, x: Floats) -> Any:
        if Failing.fault is not None:
            raise Failing.fault
        return x if Failing.answer is None else Failing.answer

    decode = encode


for each in (Waved, Scaled):
    encoders.TYPES[each.__name__] = f"{each.__module__}:{each.__name__}"


def waved(seed: int = 0, cls: type[Waved] = Waved) -> Waved:
    return cls(normal(D_OUT, D_IN, seed=10 + seed) / 3)


def chained() -> Chain:
    return Chain([Normalize(D_IN), waved(), Affine(normal(D_OUT, D_OUT, seed=5), np.ones(D_OUT))])


def trained(encoder: Encoder, **options: Any) -> deepq.DeepQuantIndex:
    index = deepq.DeepQuantIndex(encoder.d_in, M, NBITS, encoder=encoder, training=PLAIN, **options)
    index.train(XT[:, : encoder.d_in])
    return index


def filled(encoder: Encoder | None = None) -> deepq.DeepQuantIndex:
    index = trained(encoder or waved())
    index.add(XB[:, : index.d])
    return index


def native(index: deepq.DeepQuantIndex) -> faiss.IndexPreTransform:
    return faiss.downcast_index(index)


def assert_same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Compare results; faiss adds scores up in another order."""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    assert (found[1] == expected[1]).mean() > 0.95  # near-ties may change places


def run(script: str, *args: Any, path: Path | None = None) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(path), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def copy_of(index: deepq.DeepQuantIndex) -> deepq.DeepQuantIndex:
    """Build the index again: an encoder without a state cannot be copied."""
    return deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder)
