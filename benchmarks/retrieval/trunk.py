"""What all methods of `bench_retrieval` start from: a classifier's layers, trained once a seed."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

import deepq
from benchmarks.common.results import record
from benchmarks.retrieval.judge import Protocol
from deepq import recipes

_BITS = 48  # of the index that a trunk is kept in
_BATCH = 250


def trunk(options: argparse.Namespace, split: Protocol, shape: Any, seed: int) -> torch.nn.Module:
    """Train a classifier, or read it where that has been done; return its backbone."""
    data = split.data
    epochs = options.trunk_epochs
    name = f"{data.name}-{split.name}-{options.backbone}-{epochs}-{seed}.dpq"
    path = options.work / name
    if not path.exists():
        config = settings(options, seed, epochs=epochs, rate=options.trunk_rate)
        body = backbone(options.backbone, shape, seed)
        index = recipes.class_codes(shape, _BITS, split.classes, backbone=body, training=config)
        index.verbose = True
        start = time.process_time()
        index.train(data.train, data.train_labels)
        row = {"benchmark": "trunk", "data": data.name, "protocol": split.name, "seed": seed}
        row |= {"backbone": options.backbone, "epochs": epochs, "rate": options.trunk_rate}
        row |= {"precision": options.precision, "train_cpu_s": time.process_time() - start}
        record(options.output, row)
        deepq.write_index(index, path)
    body: torch.nn.Module = deepq.read_index(path).encoder.network.backbone
    return body


def backbone(name: str, shape: Any, seed: int) -> torch.nn.Module:
    """Make a backbone: "convnet", or "resnet-DEPTH"; its weights follow the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "convnet":
            return deepq.networks.ConvNet(shape)
        return deepq.networks.ResNet(shape, int(name.removeprefix("resnet-")))


def settings(
    options: argparse.Namespace, seed: int, *, epochs: int, rate: float
) -> deepq.TrainConfig:
    """Return the settings of one training."""
    return deepq.TrainConfig(
        seed=seed,
        epochs=epochs,
        learning_rate=rate,
        batch_size=_BATCH,
        validation=0.0,
        precision=options.precision,
    )
