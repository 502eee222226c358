"""Vectors and pictures of a few classes, and indexes that learn them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

import deepq
from deepq import NetworkEncoder, Pairs, Positives, objectives
from deepq.networks import MLP, Bottleneck, ConvNet, Embedding

D, M, NBITS, CLASSES = 12, 2, 4, 4
SHAPE = (3, 8, 8)


def vectors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that lie apart in a few dimensions of noise."""
    centres = np.random.default_rng(0).standard_normal((CLASSES, D))
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    return (centres[y] + rng.standard_normal((n, D))).astype(np.float32), y


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 128, (n, *SHAPE))
    x[np.arange(n), y] += 60
    return x.astype(np.uint8), y


X, Y = vectors(600, 1)
XQ, YQ = vectors(60, 2)
IMAGES, KINDS = pictures(300, 1)
TAGS = np.eye(CLASSES, dtype=np.bool_)[Y] | np.eye(CLASSES, dtype=np.bool_)[(Y * 7 + 1) % CLASSES]
TAGS[::50] = False


def network(d_out: int = 8) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Embedding(MLP((D,), (16,), dropout=0.1), Bottleneck(16, d_out))


def settings(**changed: Any) -> deepq.TrainConfig:
    return deepq.TrainConfig(**{"epochs": 4, "batch_size": 64, "validation": 0.2, **changed})


def untrained(
    objective: Any = None, encoder: Any = None, metric: Any = 1, **changed: Any
) -> deepq.DeepQuantIndex:
    encoder = NetworkEncoder(network(), D) if encoder is None else encoder
    objective = objectives.PairwiseCosine(0.1, warm_up=0.5) if objective is None else objective
    return deepq.DeepQuantIndex(
        encoder.d_in, M, NBITS, metric, encoder=encoder, objective=objective,
        training=settings(**changed),
    )  # fmt: skip


def train(x: Any = X, y: Any = Y, **options: Any) -> deepq.DeepQuantIndex:
    index = untrained(**options)
    index.train(x, y)
    return index


def convnet(**options: Any) -> deepq.DeepQuantIndex:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = Embedding(ConvNet(SHAPE, (8,)), Bottleneck(8, 8))
    return untrained(encoder=NetworkEncoder(body, SHAPE), **options)


def weights(index: deepq.DeepQuantIndex) -> dict[str, torch.Tensor]:
    encoder: Any = index.encoder
    encoder = encoder if isinstance(encoder, NetworkEncoder) else encoder.members[0]
    return encoder.network.state_dict()


def assert_same(a: Any, b: Any) -> None:
    """Networks and codebooks are equal to the bit."""
    ours, theirs = weights(a), weights(b)
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    np.testing.assert_array_equal(a.codebooks, b.codebooks)


def quality(index: deepq.DeepQuantIndex, x: Any = X, y: Any = Y, q: Any = XQ, yq: Any = YQ) -> Any:
    index = copy.deepcopy(index)
    index.add(x)
    return deepq.metrics.mean_average_precision(index.search(q, len(x))[1], yq, y)


def epochs(index: deepq.DeepQuantIndex) -> list[dict[str, Any]]:
    return [entry for entry in index.history if entry["stage"] == "network"]


FEW = np.random.default_rng(5).integers(len(X), size=(2, 3000))
FEW = FEW[:, FEW[0] != FEW[1]]
LABELS = {
    "classes": Y,
    "tags": TAGS,
    "pairs": Pairs(*FEW, Y[FEW[0]] == Y[FEW[1]]),
    "log": Positives(X[:300] + 0.1, (np.arange(300) * 8 + np.arange(300) % 4) % 600),
}
