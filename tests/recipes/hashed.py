"""Rows and pictures of classes, and every recipe of hashing, small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import deepq
from deepq import networks, recipes
from deepq.metrics import mean_average_precision

D, CLASSES, SHAPE = 12, 4, (3, 8, 8)


def vectors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that lie apart in a few dimensions of noise."""
    centres = 1.5 * np.random.default_rng(0).standard_normal((CLASSES, D))
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    return (centres[y] + rng.standard_normal((n, D))).astype(np.float32), y


X, Y = vectors(400, 1)
XQ, YQ = vectors(40, 2)
SETTINGS: dict[str, Any] = {"epochs": 5, "batch_size": 50, "validation": 0.2}


def body(shape: Any = D) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return networks.MLP(shape, (16,), 0.1) if shape == D else networks.ConvNet(shape, (8,))


def with_backbone(recipe: Any, **more: Any) -> Any:
    def make(shape: Any, bits: int, **options: Any) -> Any:
        return recipe(shape, bits, **{"backbone": body(shape), **more, **options})

    return make


RECIPES = {
    "ksh": lambda shape, bits, **options: recipes.ksh(
        shape, bits, **{"anchors": 50, "labelled": 200, **options}
    ),
    "cnnh": with_backbone(recipes.cnnh),
    "cnnh of classes": with_backbone(recipes.cnnh, classes=CLASSES),
    "dnnh": with_backbone(recipes.dnnh),
    "dnnh undivided": with_backbone(recipes.dnnh, divided=False),
    "dsh": with_backbone(recipes.dsh),
    "dsh sigmoid": with_backbone(recipes.dsh, sigmoid=True),
    "ftbe": with_backbone(recipes.ftbe),
    "orthohash": with_backbone(recipes.orthohash),
    "csq": with_backbone(recipes.csq),
}
NETWORKS = [name for name in RECIPES if name != "ksh"]
every = pytest.mark.parametrize("name", RECIPES)
of_networks = pytest.mark.parametrize("name", NETWORKS)


def make(name: str, bits: int = 16, shape: Any = D, **options: Any) -> deepq.DeepQuantIndex:
    settings = {n: options.pop(n) for n in list(options) if hasattr(deepq.TrainConfig, n)}
    training = deepq.TrainConfig(**{**SETTINGS, **settings})
    return RECIPES[name](shape, bits, **{"training": training, **options})


def train(name: str, x: Any = X, y: Any = Y, **options: Any) -> deepq.DeepQuantIndex:
    index = make(name, **options)
    index.train(x, y)
    index.add(x)
    return index


def quality(index: Any, q: Any = XQ, yq: Any = YQ, y: Any = Y) -> float:
    distances, ids = index.search(q, len(y))
    return mean_average_precision(ids, yq, y, D=distances)
