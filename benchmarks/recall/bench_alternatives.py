"""Recall and speed beside what one would take instead, at the same or fewer bytes a vector.

    python -m benchmarks.recall.bench_alternatives --data text.npz \
        --output benchmarks/results/alternatives.jsonl

DeepQuantIndex, faiss's 4-bit FastScan, the same behind OPQ, and where they are installed ScaNN
(asymmetric hashing, 4 bits, without partitions or re-ranking) and turbovec; none with a second pass
over exact vectors. Everything is trained on the training part, except ScaNN, which takes what it
stores. `10@10` is the part of the ten true neighbours among the first ten, on the base of the data
set. Speed is that of searches among the base repeated with noise to --n rows: CPU time of the whole
process, one thread each, all methods in turn; the median over rounds, in nanoseconds for a code and
query, with 256 queries at once and with one.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common import vectors
from benchmarks.common.harness import calls, in_one_thread, load, paired_times, parser, run
from benchmarks.common.vectors import Floats, Vectors
from deepq.datasets import Dataset
from deepq.metrics import recall

COLUMNS = ["data", "method", "bytes", "10@10", "ns", "ns_single", "train_cpu_s"]
_BATCH, _SINGLE = 256, 32  # queries of a round, at once and one by one
_K = 10
_OPQ_ITERATIONS, _OPQ_ROWS = 20, 20_000
_OPTIONAL = ("scann", "turbovec")


@dataclass(frozen=True, eq=False)
class Method:
    """A trained method: the bytes of a vector, how to store vectors, how to search those."""

    bytes: int
    store: Callable[[Floats], None]
    search: Callable[[Floats], NDArray[np.integer[Any]]]


def from_index(index: Any, train: Floats, size: int) -> Method:
    """Train an index that has faiss's interface."""

    def store(base: Floats) -> None:
        index.reset()
        index.add(base)

    index.train(train)
    return Method(size, store, lambda xq: index.search(xq, _K)[1])


def deepquant(train: Floats, size: int) -> Method:
    """Train ours, as a user would."""
    return from_index(deepq.DeepQuantIndex(train.shape[1], size), train, size)


def fastscan(train: Floats, size: int, *, opq: bool = False) -> Method:
    """Train faiss's index of 4-bit codes, two a byte, behind OPQ if asked."""
    d, M = train.shape[1], 2 * size
    index = faiss.IndexPQFastScan(d, M, 4)
    if opq:
        rotation = faiss.OPQMatrix(d, M)
        # Its own default, 8 bits and 50 iterations, takes far longer for codes that are not used.
        rotation.pq, rotation.niter = faiss.ProductQuantizer(d, M, 4), _OPQ_ITERATIONS
        rotation.max_train_points = _OPQ_ROWS
        index = faiss.IndexPreTransform(rotation, index)
    return from_index(index, train, size)


def scann(train: Floats, size: int) -> Method:
    """Describe ScaNN's index of 4-bit codes, which trains on what it stores."""
    from scann import scann_ops_pybind

    searcher = None

    def store(base: Floats) -> None:
        nonlocal searcher
        builder = scann_ops_pybind.builder(base, _K, "squared_l2").score_ah(
            train.shape[1] // (2 * size),
            training_sample_size=len(train),
            anisotropic_quantization_threshold=0.2,
        )
        searcher = builder.build()

    return Method(size, store, lambda xq: searcher.search_batched(xq)[0])


def turbovec(train: Floats, size: int) -> Method:
    """Calibrate turbovec's index; its vectors have a length of 4 bytes besides."""
    from turbovec import TurboQuantIndex

    index = None

    def store(base: Floats) -> None:
        nonlocal index
        index = TurboQuantIndex(base.shape[1], 8 * size // base.shape[1])
        index.calibrate(train)
        index.add(base)
        index.prepare()

    return Method(size + 4, store, lambda xq: index.search(xq, _K)[1])


def fits(name: str, d: int, size: int) -> bool:
    """Whether a method is installed and can make codes of this size."""
    if name in _OPTIONAL and find_spec(name) is None:
        return False
    if name == "turbovec":
        return 8 * size in (2 * d, 3 * d, 4 * d)
    return d % (size if name == "deepq" else 2 * size) == 0


METHODS: dict[str, Callable[[Floats, int], Method]] = {
    "deepq": deepquant,
    "FastScan": fastscan,
    "OPQ + FastScan": partial(fastscan, opq=True),
    "scann": scann,
    "turbovec": turbovec,
}


def prepared(
    source: Vectors, data: Dataset, sizes: list[int]
) -> Iterator[tuple[Method, dict[str, Any]]]:
    """Train every method at every size, and find its recall on the base of the data set."""
    gt = data.neighbours(_K)
    for size, (name, train) in itertools.product(sizes, METHODS.items()):
        if not fits(name, source.d, size):
            continue
        start = time.process_time()
        method = train(source.train, size)
        seconds = time.process_time() - start
        method.store(data.base)
        row = {
            "data": data.name,
            "d": data.d,
            "method": name,
            "bytes": method.bytes,
            "version": version(name) if name in _OPTIONAL else None,
            "train_cpu_s": seconds,
            "10@10": recall(method.search(data.query), gt, _K, _K),
        }
        yield method, row


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Prepare all methods, then time them in turn."""
    data, source = load(options.data), vectors.of(options)
    methods, rows = zip(*prepared(source, data, options.bytes), strict=True)
    base = np.concatenate(list(source.blocks(options.n)))
    for method in methods:
        method.store(base)
    for column, nq, count in (("ns", _BATCH, _BATCH), ("ns_single", 1, _SINGLE)):
        queries = source.queries(count)
        engines = {i: calls(method.search, queries, nq) for i, method in enumerate(methods)}
        paired_times(engines, 1)
        times = paired_times(engines, options.repeats, time.process_time)
        for row, seconds in zip(rows, times.values(), strict=True):
            row |= {"N": len(base), column: median(seconds) / count / len(base) * 1e9}
            row[f"seconds_{column}"] = seconds
    yield from rows


def main() -> None:
    """Compare all methods at the sizes asked for."""
    arguments = parser(__doc__ or "")
    vectors.add_arguments(arguments, train_rows=50_000)
    arguments.add_argument("--bytes", type=int, nargs="+", default=[32, 48, 64, 96])
    arguments.add_argument("--n", type=int, default=200_000, help="stored vectors to time")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.bytes, options.n, options.repeats = [32], 10_000, 1
    run(options, "alternatives", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
