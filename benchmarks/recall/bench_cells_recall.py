"""Recall of codes in cells, against the cells that a search looks into.

    python -m benchmarks.recall.bench_cells_recall --data sift.npz --bytes 8 16 --output r.jsonl

Training uses the train part only, the figures the queries and the base. Seconds are CPU seconds of
the whole process, one thread. Results that the output file has already are not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import faiss
import numpy as np

import deepq
from benchmarks.common.harness import in_one_thread, load, parser
from benchmarks.common.results import known, record, table
from benchmarks.recall.bench_recall import seconds
from deepq.datasets import Dataset
from deepq.metrics import recall

KEY = ("data", "method", "bytes", "nlist", "seed", "train_rows")
COLUMNS = [
    *("data", "method", "bytes", "nlist", "nprobe", "10@10", "R@1"),
    *("train_cpu_s", "add_us", "search_us"),
]
RERANKED = 100


def ivfpq(d: int, nlist: int, size: int, seed: int) -> Any:
    """Make faiss's product quantizer of residuals."""
    coarse = faiss.IndexFlatL2(d)
    index = faiss.IndexIVFPQ(coarse, d, nlist, size, 8)
    index.cp.seed = index.pq.cp.seed = seed
    return index


def opq(d: int, nlist: int, size: int, seed: int, *, identity: bool = False) -> Any:
    """Put faiss's OPQ before it, from its random start or from the identity."""
    rotation = faiss.OPQMatrix(d, size)
    if identity:
        faiss.copy_array_to_vector(np.eye(d, dtype=np.float32).ravel(), rotation.A)
    return faiss.IndexPreTransform(rotation, ivfpq(d, nlist, size, seed))


def ours(d: int, nlist: int, size: int, seed: int, *, rerank: int = 0) -> Any:
    """Make an index of deepq."""
    training = deepq.TrainConfig(seed=seed)
    return deepq.DeepQuantIVFIndex(d, nlist, size, rerank=rerank, training=training)


METHODS: dict[str, Callable[[int, int, int, int], Any]] = {
    "IVFPQ": ivfpq,
    "OPQ, IVFPQ": opq,
    "OPQ from the identity, IVFPQ": partial(opq, identity=True),
    "deepq": ours,
    "deepq, re-ranked": partial(ours, rerank=RERANKED),
}


def measure(index: Any, data: Dataset, probes: list[int]) -> Iterator[dict[str, Any]]:
    """Train and add once, and search for every number of cells."""
    row = {"train_cpu_s": seconds(lambda: index.train(data.train))}
    row["add_us"] = seconds(lambda: index.add(data.base)) / len(data.base) * 1e6
    true = data.neighbours(10)
    for nprobe in probes:
        faiss.extract_index_ivf(index).nprobe = nprobe
        spent = seconds(partial(index.search, data.query, 10)) / len(data.query) * 1e6
        I = index.search(data.query, 10)[1]
        recalls = {"10@10": recall(I, true, 10, 10), "R@1": recall(I, true, 1, 1)}
        yield {**row, "nprobe": nprobe, **recalls, "search_us": spent}


def measured(options: argparse.Namespace, data: Dataset) -> Iterator[dict[str, Any]]:
    """Measure what was asked for, method by method, and leave out what is there already."""
    there = known(options.output, "cells_recall", KEY)
    for size in options.bytes:
        for name in options.methods:
            row = {
                "seed": options.seed,
                "train_rows": len(data.train),
                "base_rows": len(data.base),
                "data": data.name,
                "method": name,
                "bytes": size,
                "nlist": options.nlist,
            }
            if tuple(row[field] for field in KEY) in there:
                continue
            index = METHODS[name](data.d, options.nlist, size, options.seed)
            for found in measure(index, data, options.nprobe):
                yield {**row, **found}


def tiny(data: Dataset) -> Dataset:
    """Return a few rows and columns."""
    parts = (data.train, data.base, data.query)
    return Dataset(data.name, *(part[:600, :32].copy() for part in parts))


def main() -> None:
    """Compare the methods at every size and number of cells asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--nlist", type=int, default=512)
    arguments.add_argument("--nprobe", type=int, nargs="+", default=[1, 4, 16, 64])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = arguments.parse_args()
    data = load(options.data)
    if options.smoke:
        options.bytes, options.nlist, options.nprobe = [4], 8, [1, 8]
        data = tiny(data)
    data = replace(data, train_labels=None)
    rows = []
    for row in measured(options, data):
        record(options.output, {"benchmark": "cells_recall", **row})
        rows.append(row)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    in_one_thread(main)
