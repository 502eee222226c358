"""Embeddings, their labels, and objectives that are ready for them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((6, 4))
Y = np.array([0, 1, 0, 2, 1, 0])
SIMILAR = Y[:, None] == Y
ALL = np.ones((6, 6), np.bool_)


def call(function, z, similar, known, *more) -> float:
    tensors = torch.from_numpy(z), torch.from_numpy(similar), torch.from_numpy(known)
    return float(function(*tensors, *more))


def pairs(known):
    return [(i, j) for i in range(6) for j in range(6) if i != j and known[i, j]]


TAGS = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]], np.bool_)
ROWS = np.array([4, 0, 5, 2])  # of a batch


def prepared(objective: Any, d: int, supervision: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.prepare(d, supervision)
    return objective


def rows_of(supervision: Any) -> Any:
    """A batch of some rows."""
    targets = supervision.targets(ROWS)
    targets = None if targets is None else torch.from_numpy(targets)
    return SimpleNamespace(rows=torch.from_numpy(ROWS), targets=targets)


def bit_loss(z: Any, codes: Any) -> float:
    """Mean of -log sigmoid(z code) over all numbers."""
    pairs = zip(np.ravel(z), np.ravel(codes), strict=True)
    return float(np.mean([math.log(1 + math.exp(-a * b)) for a, b in pairs]))
