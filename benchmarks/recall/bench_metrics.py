"""Recall under each metric: squared distance, inner product, and cosine.

    python -m benchmarks.recall.bench_metrics --data sift.npz --bytes 8 \
        --output benchmarks/results/metrics.jsonl

What is true is ranked by the metric itself. For the cosine, faiss's indexes get vectors of unit
length and the inner product; deepq's do that themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import faiss

import deepq
from benchmarks.common.harness import in_one_thread, load, parser, run
from benchmarks.common.methods import opq, pq
from deepq.datasets import Dataset, exact_neighbours
from deepq.encoders import Normalize
from deepq.metrics import recall

METRICS = ("l2", "inner product", "cosine")
COLUMNS = ["data", "metric", "method", "bytes", "R@1", "10@10", "train_cpu_s"]


def methods(metric: str, size: int, seed: int) -> dict[str, Callable[[int], Any]]:
    """Return what makes the indexes to compare, of a number of dimensions."""
    theirs = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    ours: Any = "cosine" if metric == "cosine" else theirs

    def with_metric(index: Any) -> Any:
        index.metric_type = theirs
        if isinstance(index, faiss.IndexPreTransform):
            faiss.downcast_index(index.index).metric_type = theirs
        return index

    def deepquant(d: int, rerank: int) -> Any:
        training = deepq.TrainConfig(seed=seed)
        return deepq.DeepQuantIndex(d, size, 8, ours, rerank=rerank, training=training)

    return {
        "faiss PQ": lambda d: with_metric(pq(d, size, seed)),
        "faiss OPQ": lambda d: with_metric(opq(d, size, seed)),
        "faiss OPQ, identity": lambda d: with_metric(opq(d, size, seed, identity=True)),
        "deepq": lambda d: deepquant(d, 0),
        "deepq, re-ranked": lambda d: deepquant(d, 100),
    }


def measured(options: Any, data: Dataset) -> Iterator[dict[str, Any]]:
    """Train, add and search with every method under every metric."""
    unit = Normalize(data.d).encode
    for metric in options.metric:
        parts = data.train, data.base, data.query
        if metric == "cosine":
            parts = unit(data.train), unit(data.base), unit(data.query)
        kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
        true = exact_neighbours(parts[1], parts[2], 10, kind)[1]
        for size in options.bytes:
            for name, make in methods(metric, size, options.seed).items():
                index = make(data.d)
                train, base, query = parts if name.startswith("faiss") else data_parts(data)
                start = time.process_time()
                index.train(train)
                seconds = time.process_time() - start
                index.add(base)
                found = index.search(query, 10)[1]
                yield {
                    "data": data.name,
                    "metric": metric,
                    "method": name,
                    "bytes": size,
                    "R@1": recall(found, true, 1, 1),
                    "10@10": recall(found, true, 10, 10),
                    "train_cpu_s": seconds,
                }


def data_parts(data: Dataset) -> tuple[Any, Any, Any]:
    """Return the vectors as they are."""
    return data.train, data.base, data.query


def main() -> None:
    """Compare at every size and under every metric asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8])
    arguments.add_argument("--metric", nargs="+", choices=METRICS, default=METRICS)
    options = arguments.parse_args()
    data = load(options.data)
    if options.smoke:
        data = Dataset("tiny", data.train[:600, :32], data.base[:300, :32], data.query[:20, :32])
    run(options, "metrics", measured(options, data), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
