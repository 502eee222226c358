"""The kinds of index that the contract runs on, and the small data that they share."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders

DIM, M, NLIST = 16, 4, 8
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT


class Kind(NamedTuple):
    """A way to build an index: ``build(d, M, nbits, metric)``."""

    name: str
    build: Callable[..., faiss.IndexPQ]
    ours: bool = True

    def __str__(self):
        return self.name


def _clustered(n: int, seed: int) -> np.ndarray:
    """Gaussian clusters, (n, DIM) float32, read-only: whoever writes to its input is found out."""
    centres = np.random.default_rng(0).standard_normal((30, DIM))
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(30, size=n)] + 0.4 * rng.standard_normal((n, DIM))
    x = x.astype(np.float32)
    x.flags.writeable = False
    return x


XT, XB, XQ = _clustered(2000, 1), _clustered(400, 2), _clustered(12, 3)


def _identity(d=DIM, *args):
    return deepq.DeepQuantIndex(d, *args, encoder=encoders.Identity(d))


def _affine(d=DIM, *args):
    """Neither orthonormal nor centred, so that a decoder that merely transposes is caught."""
    rng = np.random.default_rng(4)
    A = (np.eye(d) + 0.2 * rng.standard_normal((d, d))).astype(np.float32)
    b = rng.standard_normal(d).astype(np.float32)
    return deepq.DeepQuantIndex(d, *args, encoder=encoders.Affine(A, b))


def _two_layers(d=DIM, *args):
    """An affine layer, then rows scaled to unit length."""
    A = np.random.default_rng(5).standard_normal((d, d)).astype(np.float32)
    chain = encoders.Chain([encoders.Affine(A, None), encoders.Normalize(d)])
    return deepq.DeepQuantIndex(d, *args, encoder=chain)


class Bent(encoders.Encoder):
    """Not linear, so nothing that faiss knows: inverse hyperbolic sines of turned rows."""

    def __init__(self, d):
        super().__init__(d, d)
        self.A = np.linalg.qr(np.random.default_rng(6).standard_normal((d, d)))[0].astype("f4")

    def encode(self, x):
        return np.arcsinh(np.asarray(x, np.float32) @ self.A.T)

    def decode(self, z):
        return np.sinh(z) @ self.A

    def state(self):
        return {"d": self.d_in}


encoders.TYPES["Bent"] = f"{__name__}:Bent"


def _bent(d=DIM, *args):
    return deepq.DeepQuantIndex(d, *args, encoder=Bent(d))


def _in_cells(d=DIM, *args):
    return _searching_all(deepq.DeepQuantIVFIndex(d, NLIST, *args))


def _in_given_cells(d=DIM, *args):
    """With a coarse quantizer of the caller's, and an encoder that is not orthonormal."""
    encoder = _affine(d, M).encoder
    coarse = faiss.IndexFlatL2(d)
    return _searching_all(deepq.DeepQuantIVFIndex(coarse, d, NLIST, *args, encoder=encoder))


def _in_cells_of_faiss(d=DIM, *args):
    return _searching_all(faiss.IndexIVFPQ(faiss.IndexFlatL2(d), d, NLIST, *args))


def _searching_all(index):
    index.nprobe = NLIST
    return index


FAISS = Kind("faiss", faiss.IndexPQ, ours=False)
OURS = [
    Kind("deepq", deepq.DeepQuantIndex),
    Kind("deepq-identity", _identity),
    Kind("deepq-affine", _affine),
    Kind("deepq-normalized", _two_layers),
    Kind("deepq-bent", _bent),
]
FLAT = [FAISS, *OURS]
OURS_IN_CELLS = [
    Kind("deepq-cells", _in_cells),
    Kind("deepq-cells-affine", _in_given_cells),
]
CELLS = [Kind("faiss-cells", _in_cells_of_faiss, ours=False), *OURS_IN_CELLS]
KINDS = [*FLAT, *CELLS]
METRICS = {"l2": L2, "ip": IP}

flat_only = pytest.mark.parametrize("kind", FLAT, ids=str)
# What faiss's own cells refuse, or answer in another way than its flat index.
not_in_cells_of_faiss = pytest.mark.parametrize("kind", [*FLAT, *OURS_IN_CELLS], ids=str)
ours_only = pytest.mark.parametrize("kind", [*OURS, *OURS_IN_CELLS], ids=str)
ours_flat_only = pytest.mark.parametrize("kind", OURS, ids=str)
# faiss reverses a linear transform by its transpose, so only where that is right; and from cells it
# reconstructs nothing without a direct map.
REVERSIBLE = [
    k
    for k in KINDS
    if k.name not in ("deepq-affine", "deepq-normalized", "deepq-cells-affine", "faiss-cells")
]
reversible_only = pytest.mark.parametrize("kind", REVERSIBLE, ids=str)
# Where faiss needs Python, what it reads from a file or clones refuses to search.
EXPRESSIBLE = [k for k in KINDS if k.name != "deepq-bent"]
expressible_only = pytest.mark.parametrize("kind", EXPRESSIBLE, ids=str)


def untrained(kind: Kind, metric: int = L2, nbits: int = 4) -> faiss.IndexPQ:
    """Build an index over the shared data's DIM columns."""
    return kind.build(DIM, M, nbits, metric)


@cache
def _trained_once(kind: Kind, metric: int, nbits: int) -> faiss.IndexPQ:
    index = untrained(kind, metric, nbits)
    index.train(XT)
    return index


def trained(kind: Kind, metric: int = L2, nbits: int = 4) -> faiss.IndexPQ:
    """Copy an index that was trained once on XT."""
    return copy.deepcopy(_trained_once(kind, metric, nbits))


def filled(kind: Kind, metric: int = L2, nbits: int = 4) -> faiss.IndexPQ:
    """Copy a trained index and add XB."""
    index = trained(kind, metric, nbits)
    index.add(XB)
    return index


def require(index: faiss.IndexPQ, *names: str) -> None:
    """Skip the test if an older faiss lacks a method; deepq's index has them all."""
    for name in names:
        if isinstance(index, deepq.DeepQuantIndex):
            assert hasattr(index, name), name
        elif not hasattr(index, name):
            pytest.skip(f"this faiss has no {name}")


def run_script(script: str, *args: str) -> None:
    """Run a script in a fresh interpreter of one thread; what it patches stays there."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, *args], check=True, env=env)
