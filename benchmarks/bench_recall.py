"""Recall of DeepQuantIndex against faiss's PQ and OPQ at equal bytes.

    python benchmarks/bench_recall.py --data sift.npz --bytes 8 16 --output results.jsonl

faiss's OPQ is run from both starts, its random one and the identity, because neither is always the
better. Training uses the train part only, the figures the queries and the base.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
from harness import load, parser, record, table
from numpy.typing import NDArray

import deepq
from deepq.metrics import recall

COLUMNS = ["data", "method", "bytes", "R@1", "R@10", "R@100", "10@10", "train_cpu_s", "add_us"]

Floats = NDArray[np.float32]


def faiss_pq(d: int, M: int, seed: int) -> Any:
    """Make faiss's product quantizer."""
    index = faiss.IndexPQ(d, M, 8)
    index.pq.cp.seed = seed
    return index


def faiss_opq(d: int, M: int, seed: int, *, identity: bool) -> Any:
    """Make faiss's OPQ, from its random start or from the identity."""
    rotation = faiss.OPQMatrix(d, M)
    if identity:
        faiss.copy_array_to_vector(np.eye(d, dtype=np.float32).ravel(), rotation.A)
    return faiss.IndexPreTransform(rotation, faiss_pq(d, M, seed))


def deepquant(d: int, M: int, seed: int) -> Any:
    """Make ours, as a user would."""
    return deepq.DeepQuantIndex(d, M, training=deepq.TrainConfig(seed=seed))


METHODS: dict[str, Callable[[int, int, int], Any]] = {
    "faiss PQ": faiss_pq,
    "faiss OPQ": lambda d, M, seed: faiss_opq(d, M, seed, identity=False),
    "faiss OPQ, identity": lambda d, M, seed: faiss_opq(d, M, seed, identity=True),
    "deepq": deepquant,
}


def measure(index: Any, data: Any) -> dict[str, float]:
    """Train, add and search; CPU seconds are those of the whole process."""
    start = time.process_time()
    index.train(data.train)
    trained = time.process_time()
    index.add(data.base)
    added = time.process_time()
    _, I = index.search(data.query, 100)
    row = {f"R@{r}": recall(I, data.gt, 1, r) for r in (1, 10, 100)}
    row["10@10"] = recall(I, data.gt, 10, 10)
    row["train_cpu_s"] = trained - start
    row["add_us"] = (added - trained) / len(data.base) * 1e6
    return row


def main() -> None:
    """Compare the methods at every size asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument(
        "--train-rows", type=int, default=65_536, help="training rows for every method"
    )
    options = arguments.parse_args()
    if options.smoke:
        options.bytes, options.train_rows = [8], 1000
    data = load(options.data)
    data = replace(data, train=data.train[: options.train_rows], train_labels=None)
    rows = []
    for M in options.bytes:
        for name in options.methods:
            index = METHODS[name](data.train.shape[1], M, options.seed)
            row = {"data": data.name, "method": name, "bytes": M, **measure(index, data)}
            settings = {
                "seed": options.seed,
                "train_rows": len(data.train),
                "base_rows": len(data.base),
            }
            record(options.output, {"benchmark": "recall", **settings, **row})
            rows.append(row)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    main()
