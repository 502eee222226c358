"""Recall and speed of every method in `methods.py`, against the bytes of a vector.

    python -m benchmarks.recall.bench_recall --data sift.npz --bytes 8 16 --output results.jsonl

Training uses the train part only, the figures the queries and the base. Seconds are CPU seconds of
the whole process, one thread. A search asks for 10 neighbours of all queries at once. Results that
the output file has already are not measured again; `curves.py` draws them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import deepq
from benchmarks.common.harness import in_one_thread, load, parser
from benchmarks.common.methods import METHODS
from benchmarks.common.results import known, record, table
from deepq.datasets import Dataset
from deepq.metrics import recall

COLUMNS = [
    *("data", "method", "bytes", "R@1", "R@10", "R@100", "10@10"),
    *("train_cpu_s", "add_us", "search_us"),
]
KEY = ("data", "method", "bytes", "seed", "train_rows")
_REPEATS, _SECONDS = 3, 5.0  # of a timing: at most so many, none after so long


def measure(index: Any, data: Dataset) -> dict[str, float]:
    """Train, add and search."""
    trained = seconds(lambda: index.train(data.train))
    added = seconds(lambda: index.add(data.base))
    gt = data.neighbours(10)
    _, I = index.search(data.query, 100)
    row = {f"R@{r}": recall(I, gt, 1, r) for r in (1, 10, 100)}
    row["10@10"] = recall(I, gt, 10, 10)
    if getattr(index, "rerank", 0):  # what its look-up tables find alone
        _, I = index.search(data.query, 10, params=deepq.SearchParameters(rerank=0))
        row["tables R@1"], row["tables 10@10"] = recall(I, gt, 1, 1), recall(I, gt, 10, 10)
    row["train_cpu_s"] = trained
    row["add_us"] = added / len(data.base) * 1e6
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        times.append(seconds(lambda: index.search(data.query, 10)))
    row["search_us"] = median(times) / len(data.query) * 1e6
    return row


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of a piece of work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(options: argparse.Namespace, data: Dataset) -> Iterator[dict[str, Any]]:
    """Measure what was asked for, method by method, and leave out what is there already."""
    there = set() if options.again else known(options.output, "recall", KEY)
    for name in options.methods:
        method = METHODS[name]
        part = replace(data, train=data.train[: method.rows], train_labels=None)
        for size in method.sizes_of(data.d, options.bytes):
            index = method.make(data.d, size, options.seed)
            if index is None:
                continue
            row = {
                "seed": options.seed,
                "train_rows": len(part.train),
                "base_rows": len(part.base),
                "data": part.name,
                "method": name,
                "bytes": index.sa_code_size(),
            }
            if tuple(row[field] for field in KEY) not in there:
                yield {**row, **measure(index, part)}


def tiny(data: Dataset) -> Dataset:
    """Return a few rows and columns: additive quantizers are slow."""
    parts = (data.train, data.base, data.query)
    return Dataset(data.name, *(part[:500, :64].copy() for part in parts))


def main() -> None:
    """Compare the methods at every size asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument(
        "--train-rows", type=int, help="most training rows of every method (default: all there are)"
    )
    arguments.add_argument(
        "--again", action="store_true", help="measure what the output file has already, too"
    )
    options = arguments.parse_args()
    data = load(options.data)
    if options.smoke:
        options.bytes, options.train_rows = [4], 500
        data = tiny(data)
    data = replace(data, train=data.train[: options.train_rows], train_labels=None)
    rows = []
    for row in measured(options, data):
        record(options.output, {"benchmark": "recall", **row})
        rows.append(row)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    in_one_thread(main)
