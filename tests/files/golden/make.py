"""Write index files and pickles, and what they answer: `python tests/files/golden/make.py VERSION`.

Every released version of the format has a folder here, and stays readable. Files are only added:
of a version that has a folder, those of new kinds.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import deepq

HERE = Path(__file__).parent
D = 8
OF_FAISS = {
    "IxPq": "PQ4x4",
    "IxPT": "OPQ4,PQ4x4",
    "IwPQ": "IVF6,PQ4x4",
    "IxM2": "IDMap2,IVF6,PQ4x4",
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Return 300 vectors in four heaps, and which."""
    rng = np.random.default_rng(0)
    kinds = np.arange(300) % 4
    x = rng.standard_normal((300, D)) + 3 * np.eye(D)[kinds]
    return x.astype(np.float32), kinds


def indexes() -> Iterator[tuple[str, Any]]:
    """Yield an index of each kind, with 100 vectors."""
    x, kinds = rows()
    settings = deepq.TrainConfig(epochs=2, batch_size=64)
    plain = deepq.DeepQuantIndex(D, 4, 4, training=settings)
    plain.train(x)
    cosine = deepq.DeepQuantIndex(D, 2, 5, "cosine", training=settings)
    cosine.train(x)
    decoded = deepq.DeepQuantIndex(D, 2, 3, rerank=10, training=settings)
    decoded.train(x)
    cells = deepq.DeepQuantIVFIndex(D, 6, 4, 4, training=settings)
    cells.train(x)
    cells.nprobe, cells.max_codes, cells.polysemous_ht = 3, 1000, 5
    imi = deepq.DeepQuantIVFIndex(
        D, 16, 4, 4, faiss.METRIC_INNER_PRODUCT, coarse="imi", by_residual=False, training=settings
    )
    imi.train(x)
    imi.nprobe = 8
    found = {"codes": plain, "cosine": cosine, "decoder": decoded, "cells": cells, "imi": imi}
    backbone = deepq.networks.MLP(D, hidden=(8,))
    learned = {"nbits": 4, "backbone": backbone, "training": settings}
    for name in ("dqn", "dsh", "cnnh"):
        found[name] = getattr(deepq.recipes, name)(D, 8, **learned)
    found["ksh"] = deepq.recipes.ksh(D, 8, anchors=10, training=settings)
    for name, index in found.items():
        if not index.is_trained:
            index.train(x, kinds)
        index.add(x[:100])
        yield name, index


def main() -> None:
    """Write the files of a version."""
    folder = HERE / sys.argv[1]
    folder.mkdir(exist_ok=True)
    x, _ = rows()
    there, answers = {path.stem for path in folder.iterdir()}, {}
    if "answers" in there:
        answers.update(np.load(folder / "answers.npz"))

    def keep(name: str, index: Any) -> None:
        answers[f"{name}_D"], answers[f"{name}_I"] = index.search(x[100:110], 5)

    for name, index in indexes():
        if name not in there:
            deepq.write_index(index, folder / f"{name}.dpq")
            (folder / f"{name}.pickle").write_bytes(pickle.dumps(index, protocol=4))
            keep(name, index)
    if "own" not in there:
        from torch import nn

        own = deepq.DeepQuantIndex(D, 4, 4, encoder=nn.Sequential(nn.Linear(D, D)))
        own.train(x)
        own.add(x[:100])
        (folder / "own.pickle").write_bytes(pickle.dumps(own, protocol=4))
        keep("own", own)
    for name, factory in OF_FAISS.items():
        if name not in there:
            index = faiss.index_factory(D, factory)
            index.train(x)
            if name == "IxM2":
                index.add_with_ids(x[:100], np.arange(100) * 3 + 7)
            else:
                index.add(x[:100])
            faiss.write_index(index, str(folder / f"{name}.faiss"))
            keep(name, index)
    np.savez_compressed(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main()
