"""Time, recall and memory of trainings.

    python -m benchmarks.speed.bench_train --case default k-means --data sift.npz \
        --train-rows 100000 --output benchmarks/results/training.jsonl
    python -m benchmarks.speed.bench_train --case default k-means --data text.npz \
        --train-rows 10000 --output benchmarks/results/training.jsonl
    python -m benchmarks.speed.bench_train --case gaussian --output benchmarks/results/train.jsonl

With `--before PYTHON`, the Python of another build of deepq, the first seed's default training is
compared with that of the build, too (see `bench_builds`). The cases, with M = --bytes:

    default   a DeepQuantIndex as it comes against faiss.IndexPQ, alone and behind OPQ, on the same
              rows; 10-recall@10 of all three; and what our training holds above its rows, in times
              those: the arrays alone, and what the process grows by
    k-means   codebooks alone, on the same rows and as many iterations, with their errors
    gaussian  the default encoder against faiss's OPQ on correlated Gaussian vectors, M = d / 16:
              the mean squared error of vectors not trained on, relative to their variance

CPU time of one thread, faiss at its default and at its best SIMD level.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
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
CASES = [
    *("case", "data", "rows", "M", "seed", "seconds", "of_pq", "of_pq_best", "of_opq"),
    *(
        "of_opq_best",
        "recall",
        "pq_recall",
        "opq_recall",
        "array_memory",
        "process_memory",
        "error",
    ),
]
HELD_OUT = 2000
_MOST_ROWS = 65_536  # that faiss's k-means takes for 256 codewords

_SCRIPT = """
import sys, time, deepq, numpy as np
x, base, query = (np.load(f"{name}.npy") for name in ("train", "base", "query"))
M, seed = map(int, sys.argv[1:])
index = deepq.DeepQuantIndex(x.shape[1], M, training=deepq.TrainConfig(seed=seed))
start = time.thread_time()
index.train(x)
np.save("seconds.npy", time.thread_time() - start)
index.add(base)
np.save("ids.npy", index.search(query, 10)[1])
"""

Floats = NDArray[np.float32]


def seconds(work: Callable[[], Any]) -> float:
    """CPU time of a function in this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def at_levels(make: Callable[[], Any], x: Floats) -> tuple[dict[str, float], Any]:
    """Train one of faiss's indexes at each of its SIMD levels; return the times, and the last."""
    times, index = {}, None
    for level in dict.fromkeys((faiss_levels()[0], best_level())):
        index = make()
        with faiss_level(level):
            times[level] = seconds(partial(index.train, x))
    return times, index


@cache
def best_level() -> str:
    """Name of the SIMD level at which faiss's k-means is fastest in a trial."""
    x = np.random.default_rng(0).standard_normal((10_000, 128), dtype=np.float32)
    times = {}
    for level in faiss_levels():
        index = pq(128, 8, 0)
        with faiss_level(level):
            times[level] = seconds(partial(index.train, x))
    return min(times, key=lambda level: times[level])


def found(index: Any, data: datasets.Dataset) -> float:
    """10-recall@10 of a trained index."""
    index.add(data.base)
    return recall(index.search(data.query, 10)[1], data.neighbours(10), 10, 10)


def memory(x: Floats, M: int, seed: int) -> dict[str, float]:
    """Measure what a training holds above its rows at most, in times those, in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawn) as one:
        path = Path(folder) / "rows.npy"
        np.save(path, x)
        return one.submit(_memory, path, M, seed).result()


def _memory(path: Path, M: int, seed: int) -> dict[str, float]:
    x = np.load(path)
    config = deepq.TrainConfig(seed=seed)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _resident("VmRSS")
    deepq.DeepQuantIndex(x.shape[1], M, training=config).train(x)
    grown = _resident("VmHWM") - before
    tracemalloc.start()
    deepq.DeepQuantIndex(x.shape[1], M, training=config).train(x)
    arrays = tracemalloc.get_traced_memory()[1]
    return {"array_memory": arrays / x.nbytes, "process_memory": grown / x.nbytes}


def _resident(field: str) -> int:
    """Bytes of this process that are in memory: now (VmRSS), or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) * 1024


def before(python: str, data: datasets.Dataset, x: Floats, M: int, seed: int) -> dict[str, float]:
    """Train and search with another build, in a process of its own, away from here."""
    with tempfile.TemporaryDirectory() as away:
        for name, rows in (("train", x), ("base", data.base), ("query", data.query)):
            np.save(Path(away) / f"{name}.npy", rows)
        subprocess.run([python, "-c", _SCRIPT, str(M), str(seed)], cwd=away, check=True)
        ids = np.load(Path(away) / "ids.npy")
        taken = float(np.load(Path(away) / "seconds.npy"))
    return {"before": taken, "before_recall": recall(ids, data.neighbours(10), 10, 10)}


def defaults(options: argparse.Namespace, data: datasets.Dataset, x: Floats) -> Iterator[Any]:
    """Compare whole trainings; with OPQ, which takes long, and of memory only the first seed's."""
    for M in options.bytes:
        for seed in options.seeds:
            config = deepq.TrainConfig(seed=seed)
            ours = deepq.DeepQuantIndex(data.d, M, training=config)
            times, plain = at_levels(partial(pq, data.d, M, seed), x)
            mine = seconds(partial(ours.train, x))
            row = {"case": "default", "data": data.name, "rows": len(x), "M": M, "seed": seed}
            row |= {"seconds": mine, "pq_seconds": times, **compared(mine, times, "pq")}
            row |= {"recall": found(ours, data), "pq_recall": found(plain, data)}
            if seed == options.seeds[0]:
                times, rotated = at_levels(partial(opq, data.d, M, seed), x)
                row |= {"opq_seconds": times, **compared(mine, times, "opq")}
                row |= {"opq_recall": found(rotated, data), **memory(x, M, seed)}
                if options.before:
                    row |= before(options.before, data, x, M, seed)
            yield row


def k_means(options: argparse.Namespace, data: datasets.Dataset, x: Floats) -> Iterator[Any]:
    """Compare codebooks alone; `error` is ours, in times that of faiss's."""
    x = np.ascontiguousarray(x[:_MOST_ROWS])
    for M in options.k_means_bytes:
        for seed in options.seeds:
            ours = ProductQuantizer(M, 8)
            mine = seconds(partial(ours.train, x, iterations=25, seed=seed))
            times, plain = at_levels(partial(pq, data.d, M, seed), x)
            error = np.square(x - ours.gather(ours.assign(x))).sum(dtype=np.float64)
            theirs = np.square(x - plain.sa_decode(plain.sa_encode(x))).sum(dtype=np.float64)
            row = {"case": "k-means", "data": data.name, "rows": len(x), "M": M, "seed": seed}
            row |= {"seconds": mine, "pq_seconds": times, **compared(mine, times, "pq")}
            yield row | {"error": float(error / theirs)}


def compared(mine: float, times: dict[str, float], name: str) -> dict[str, float]:
    """Our time in times that of faiss at its default level, and at its best."""
    taken = list(times.values())
    return {f"of_{name}": mine / taken[0], f"of_{name}_best": mine / min(taken)}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases of a data set that are asked for."""
    data = load(options.data)
    rows = 1000 if options.smoke else options.train_rows
    x = np.ascontiguousarray(data.train[:rows], dtype=np.float32)
    if "default" in options.case:
        yield from defaults(options, data, x)
    if "k-means" in options.case:
        yield from k_means(options, data, x)


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
    arguments.add_argument("--before", help="Python of another build, for the case default")
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
