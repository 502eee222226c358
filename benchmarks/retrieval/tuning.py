"""The choice of settings for `bench_retrieval`, on training images alone: nine tenths train.

One setting is changed at a time: lambda at every number of bits, width and rate of DQN at 24, and
what the network minimises. The mAP is that of the tenth that was held out, each image a query
among the others; the loss is the joint one of the last epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.retrieval.judge import Protocol, among, protocol
from benchmarks.retrieval.trunk import settings, trunk
from deepq import objectives, recipes
from deepq.datasets import Dataset, ImageSet

SETTINGS = ["objective", "bits", "quantization_weight", "width", "learning_rate", "loss", "mAP"]
WEIGHTS = {12: (0.0, 0.02, 0.1, 0.5), 24: (0.0, 0.02, 0.1, 0.5), 48: (0.0, 0.1)}
GRID = {"width": (24, 96), "learning_rate": (0.5e-3, 2e-3)}
OBJECTIVES: dict[str, objectives.Objective] = {
    "Contrastive": objectives.Contrastive(warm_up=0.0),
    "TripletRanking": objectives.TripletRanking(warm_up=0.0),
    "Classification": objectives.Classification(),
    "CosineSoftmax": objectives.CosineSoftmax(),
    "InnerProduct": objectives.InnerProduct(warm_up=0.0),
}
_BITS = 24


def tuned(options: argparse.Namespace, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Measure every setting, from one trunk."""
    seed = options.seeds[0]
    split, x, y = held_out(protocol("5000", images, options.queries, options.training, seed), seed)
    body = trunk(options, split, images.train.shape[1:], seed)
    chosen = {"quantization_weight": options.weight, "width": options.width}
    chosen["learning_rate"] = options.rate
    trials: list[dict[str, Any]] = []
    for bits in options.bits:
        weights = WEIGHTS.get(bits, ())
        trials += [{**chosen, "bits": bits, "quantization_weight": weight} for weight in weights]
    trials += [
        {**chosen, "bits": _BITS, name: value} for name, values in GRID.items() for value in values
    ]
    trials += [
        {**chosen, "bits": _BITS, "quantization_weight": 0.0, "objective": name}
        for name in OBJECTIVES
    ]
    for trial in trials:
        trial = {"objective": "PairwiseCosine", **trial}
        index = made(options, body, trial)
        index.train(split.data.train, split.data.train_labels)
        loss = next(entry["loss"] for entry in reversed(index.history) if "loss" in entry)
        row = {"data": images.name, "seed": seed, **trial, "epochs": options.epochs}
        yield {**row, "loss": loss, "mAP": among(index, x, y)}


def held_out(split: Protocol, seed: int) -> tuple[Protocol, Any, Any]:
    """Take a tenth of the training rows away; return the rest, and what was taken."""
    data = split.data
    order = np.random.default_rng(seed).permutation(len(data.train))
    held, kept = np.split(order, [len(order) // 10])
    x, y = data.train, data.train_labels
    rest = Dataset(f"{data.name}-tuning", x[kept], x[held], x[held], train_labels=y[kept])
    return split._replace(data=rest), x[held], y[held]


def made(options: argparse.Namespace, body: torch.nn.Module, trial: dict[str, Any]) -> Any:
    """Make the index of a trial: DQN's, or one with another objective behind the same layers."""
    config = settings(options, options.seeds[0], epochs=options.epochs, rate=trial["learning_rate"])
    index = recipes.dqn(
        body.input_shape,
        trial["bits"],
        backbone=body,
        width=trial["width"],
        quantization_weight=trial["quantization_weight"],
        training=config,
    )
    index.objective = OBJECTIVES.get(trial["objective"], index.objective)
    return index
