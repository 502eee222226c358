"""Time, recall and memory of trainings.

    python -m benchmarks.speed.bench_train --case default k-means --data sift.npz \
        --train-rows 100000 --output benchmarks/results/training.jsonl
    python -m benchmarks.speed.bench_train --case default k-means --data text.npz \
        --train-rows 10000 --output benchmarks/results/training.jsonl
    python -m benchmarks.speed.bench_train --case gaussian --output benchmarks/results/train.jsonl

The cases, with M = --bytes:

    default   a DeepQuantIndex as it comes against faiss.IndexPQ and faiss's OPQ with IndexPQ, trained
              on the same rows; 10-recall@10 of all three; and what our training needs of memory above
              its rows, in a process of its own
    k-means   codebooks alone, on the same rows and as many iterations, with their errors
    gaussian  the default encoder against faiss's OPQ on correlated Gaussian vectors, M = d / 16: the
              mean squared error of vectors not trained on, relative to their variance

CPU time of one thread, faiss at its default and at its best SIMD level.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.harness import faiss_level, faiss_levels, in_one_thread, load, parser, run
from benchmarks.common.methods import opq, pq
from benchmarks.common.results import record, table
from deepq import datasets
from deepq.metrics import recall
from deepq.quantizers import ProductQuantizer

COLUMNS = ["d", "M", "rows", "method", "train_cpu_s", "relative_error"]
CASES = ["case", "data", "rows", "M", "seed", "seconds", "x_pq", "of_opq", "recall", "memory"]
HELD_OUT = 2000
_MOST_ROWS = 65_536  # that faiss's k-means takes for 256 codewords
_MIB = 1 << 20

Floats = NDArray[np.float32]


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of a function in this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def at_levels(make: Callable[[], Any], x: Floats) -> tuple[dict[str, float], Any]:
    """Train one of faiss's indexes at each of its SIMD levels; return the times, and the last."""
    times, index = {}, None
    for level in (faiss_levels()[0], *_best_level()):
        index = make()
        with faiss_level(level):
            times[level] = seconds(lambda index=index: index.train(x))
    return times, index


def _best_level() -> list[str]:
    """Return the last of the levels, where that is not the default: the names say which is more."""
    order = ("NONE", "AVX2", "AVX512", "AVX512_SPR")
    known = [level for level in order if level in faiss_levels()]
    return [level for level in known[-1:] if level != faiss_levels()[0]]


def found(index: Any, data: datasets.Dataset) -> float:
    """10-recall@10 of a trained index."""
    index.add(data.base)
    return recall(index.search(data.query, 10)[1], data.neighbours(10), 10, 10)


def memory(x: Floats, M: int, seed: int) -> dict[str, float]:
    """Peak of what a training holds above its rows, in times those: of arrays, and of the process.

    That of the process is found by the system; it has everything, but only what was not there.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_memory, (x, M, seed))


def _memory(x: Floats, M: int, seed: int) -> dict[str, float]:
    index = deepq.DeepQuantIndex(x.shape[1], M, training=deepq.TrainConfig(seed=seed))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    index.train(x)
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    again = deepq.DeepQuantIndex(x.shape[1], M, training=deepq.TrainConfig(seed=seed))
    tracemalloc.start()
    again.train(x)
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"rows": x.nbytes / _MIB, "arrays": arrays / x.nbytes, "process": process / x.nbytes}


def defaults(options: argparse.Namespace, data: datasets.Dataset, x: Floats) -> Iterator[Any]:
    """Compare whole trainings."""
    for M in options.bytes:
        for seed in options.seeds:
            config = deepq.TrainConfig(seed=seed)
            ours = deepq.DeepQuantIndex(data.d, M, training=config)
            time_of_pq, plain = at_levels(lambda M=M, seed=seed: pq(data.d, M, seed), x)
            mine = seconds(lambda index=ours: index.train(x))
            row = {"case": "default", "data": data.name, "rows": len(x), "M": M, "seed": seed}
            row |= {"seconds": mine, "pq_seconds": time_of_pq}
            row |= {"x_pq": {level: mine / taken for level, taken in time_of_pq.items()}}
            row |= {"recall": found(ours, data), "pq_recall": found(plain, data)}
            if seed == options.seeds[0]:
                time_of_opq, rotated = at_levels(lambda M=M, seed=seed: opq(data.d, M, seed), x)
                row |= {"opq_seconds": time_of_opq, "opq_recall": found(rotated, data)}
                row |= {"of_opq": {level: mine / t for level, t in time_of_opq.items()}}
                row |= {"memory": memory(x, M, seed)}
            yield row


def k_means(options: argparse.Namespace, data: datasets.Dataset, x: Floats) -> Iterator[Any]:
    """Compare codebooks alone."""
    x = np.ascontiguousarray(x[:_MOST_ROWS])
    for M in options.k_means_bytes:
        for seed in options.seeds:
            ours = ProductQuantizer(M, 8)
            mine = seconds(lambda q=ours, seed=seed: q.train(x, iterations=25, seed=seed))
            error = float(np.square(x - ours.gather(ours.assign(x))).sum() / len(x))
            times, plain = at_levels(lambda M=M, seed=seed: pq(data.d, M, seed), x)
            theirs = float(np.square(x - plain.sa_decode(plain.sa_encode(x))).sum() / len(x))
            row = {"case": "k-means", "data": data.name, "rows": len(x), "M": M, "seed": seed}
            row |= {"seconds": mine, "pq_seconds": times, "error": error / theirs}
            yield row | {"x_pq": {level: mine / taken for level, taken in times.items()}}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases of a data set that are asked for."""
    data = load(options.data)
    rows = 1000 if options.smoke else options.train_rows
    x = np.ascontiguousarray(data.train[:rows], dtype=np.float32)
    for case, compare in (("default", defaults), ("k-means", k_means)):
        if case in options.case:
            yield from compare(options, data, x)


def correlated(n: int, d: int, rng: np.random.Generator) -> Floats:
    """Draw Gaussian vectors whose variances fall like 1 / rank along random axes."""
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0] / np.sqrt(np.arange(1, d + 1))[:, None]
    return rng.standard_normal((n, d), dtype=np.float32) @ axes.astype(np.float32)


def measure(index: Any, x: Floats) -> dict[str, float]:
    """Train on all but the last rows, and reconstruct those."""
    taken = seconds(lambda: index.train(x[:-HELD_OUT]))
    held = x[-HELD_OUT:]
    error = np.square(held - index.sa_decode(index.sa_encode(held))).sum(axis=1).mean()
    return {"train_cpu_s": taken, "relative_error": float(error / held.var(axis=0).sum())}


def gaussian(options: argparse.Namespace) -> None:
    """Train both at every dimension asked for."""
    rows = []
    for d in options.d:
        M = d // 16
        x = correlated(options.rows + HELD_OUT, d, np.random.default_rng(options.seed))
        other = faiss.IndexPreTransform(faiss.OPQMatrix(d, M), faiss.IndexPQ(d, M, 8))
        least_error = deepq.TrainConfig(seed=options.seed, ranking=False)
        ours = deepq.DeepQuantIndex(d, M, training=least_error)
        for method, index in (("faiss OPQ", other), ("deepq", ours)):
            row = {"d": d, "M": M, "rows": options.rows, "method": method, **measure(index, x)}
            record(options.output, {"benchmark": "train", "seed": options.seed, **row})
            rows.append(row)
    print(table(rows, COLUMNS))


def main() -> None:
    """Measure the cases asked for."""
    arguments = parser(__doc__ or "", ["default", "k-means", "gaussian"])
    arguments.add_argument("--d", type=int, nargs="+", default=[128, 384, 768])
    arguments.add_argument("--rows", type=int, default=20_000, help="of the case gaussian")
    arguments.add_argument("--train-rows", type=int, default=100_000, help="of the other cases")
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--k-means-bytes", type=int, nargs="+", default=[8, 48])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = arguments.parse_args()
    if options.smoke:
        options.d, options.rows, options.seeds = [32], 1000, [1]
        options.bytes, options.k_means_bytes = [8], [8]
    if {"default", "k-means"} & set(options.case):
        run(options, "training", measured(options), CASES)
    if "gaussian" in options.case:
        gaussian(options)


if __name__ == "__main__":
    in_one_thread(main)
