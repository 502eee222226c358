"""Small indexes in shards, with many equal scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import deepq
from deepq.distributed.encode import CODEC
from deepq.distributed.manifest import Manifest

D = 16


def rows(n: int, seed: int = 0) -> Any:
    """Rows (n, 16) of few values, so that codes repeat."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, D))
    return (centres[rng.integers(12, size=n)] + rng.integers(2, size=(n, D)) / 4).astype("float32")


def trained(kind: str = "flat", metric: int = 1, rerank: int = 0) -> Any:
    """Train an index of 2 x 4 bits, flat or with 6 cells."""
    x = rows(600)
    if kind == "flat":
        index = deepq.DeepQuantIndex(D, 2, 4, metric, rerank=rerank)
    else:
        index = deepq.DeepQuantIVFIndex(D, 6, 2, 4, metric, rerank=rerank)
    index.training = deepq.TrainConfig(seed=1)
    index.train(x)
    if kind != "flat":
        index.nprobe = 3
    return index


def in_shards(index: Any, folder: Path, parts: list[Any]) -> Manifest:
    """Write a shard for each part (n, d), ids one after the other, and the manifest."""
    deepq.write_index(index.copy_empty(), folder / CODEC)
    manifest = Manifest(folder, index.fingerprint, CODEC)
    first = 0
    for number, part in enumerate(parts):
        shard = index.copy_empty()
        if shard.kind == "flat":
            shard.add(part)
        else:
            shard.add_with_ids(part, np.arange(first, first + len(part)))
        first += len(part)
        deepq.write_index(shard, folder / f"part-{number}.dpq")
        manifest = manifest.including(f"part-{number}.dpq")
    manifest.write()
    return manifest
