"""Write index files and pickles, and what they answer: `python tests/files/golden/make.py VERSION`.

Every released version of the format has a folder here, and stays readable. Files are only added.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from torch import nn

import deepq
from deepq import recipes

HERE = Path(__file__).parent
D = 8


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
    found = {"codes": plain, "cosine": cosine, "decoder": decoded}
    backbone = deepq.networks.MLP(D, hidden=(8,))
    for name in ("dqn", "dsh", "cnnh"):
        found[name] = getattr(recipes, name)(D, 8, nbits=4, backbone=backbone, training=settings)
    found["ksh"] = recipes.ksh(D, 8, anchors=10, training=settings)
    for name, index in found.items():
        if not index.is_trained:
            index.train(x, kinds)
        index.add(x[:100])
        yield name, index


def main() -> None:
    """Write the files of a version."""
    folder = HERE / sys.argv[1]
    folder.mkdir()
    x, _ = rows()
    answers = {}
    for name, index in indexes():
        deepq.write_index(index, folder / f"{name}.dpq")
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(index, protocol=4))
        answers[f"{name}_D"], answers[f"{name}_I"] = index.search(x[100:110], 5)
    own = deepq.DeepQuantIndex(D, 4, 4, encoder=nn.Sequential(nn.Linear(D, D)))
    own.train(x)
    own.add(x[:100])
    (folder / "own.pickle").write_bytes(pickle.dumps(own, protocol=4))
    answers["own_D"], answers["own_I"] = own.search(x[100:110], 5)
    for name in ("IxPq", "IxPT"):
        index = faiss.index_factory(D, "PQ4x4" if name == "IxPq" else "OPQ4,PQ4x4")
        index.train(x)
        index.add(x[:100])
        faiss.write_index(index, str(folder / f"{name}.faiss"))
        answers[f"{name}_D"], answers[f"{name}_I"] = index.search(x[100:110], 5)
    np.savez_compressed(folder / "answers.npz", **answers)


if __name__ == "__main__":
    main()
