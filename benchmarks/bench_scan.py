"""Speed of DeepQuantIndex.search against faiss.IndexPQ on the same codebooks and codes.

    python benchmarks/bench_scan.py --n 1000000 --M 8 --output benchmarks/results/scan.jsonl

The base is the data set's, repeated with noise up to --n rows (or iid Gaussian with --gauss, the
worst case for pruning). Each figure is the median over rounds of a ratio of thread CPU times, one
thread, against faiss at its default SIMD level and at whichever level is fastest here. The answers
are compared in the same run.
"""

from __future__ import annotations

import itertools
from statistics import median
from typing import Any

import faiss
import numpy as np
from harness import faiss_level, faiss_levels, load, paired_times, parser, ratio, record, table
from numpy.typing import NDArray

import deepq

COLUMNS = ["data", "N", "M", "nbits", "nq", "k", "us_per_query", "x_default", "x_best", "ids_equal"]


def grow(x: NDArray[np.float32], n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Repeat rows up to n, each with noise of a tenth of the spread of its column."""
    noise = rng.standard_normal((n, x.shape[1]), dtype=np.float32)
    return x[np.arange(n) % len(x)] + noise * (x.std(axis=0) / 10)


def build(
    base: NDArray[np.float32], M: int, nbits: int
) -> tuple[deepq.DeepQuantIndex, faiss.IndexPQ]:
    """Our index of the base, and faiss's with the same codebooks and codes, for encoded queries."""
    ours = deepq.DeepQuantIndex(
        base.shape[1], M, nbits, training=deepq.TrainConfig(epochs=4, max_points=20_000)
    )
    ours.train(base)
    ours.add(base)
    theirs = faiss.IndexPQ(base.shape[1], M, nbits)
    faiss.copy_array_to_vector(ours.codebooks.ravel(), theirs.pq.centroids)
    theirs.is_trained = True
    theirs.add_sa_codes(faiss.vector_to_array(ours.codes).reshape(len(base), -1))
    return ours, theirs


def at_level(index: faiss.IndexPQ, level: str, xq: NDArray[np.float32], k: int) -> Any:
    """Search with faiss at one SIMD level."""
    with faiss_level(level):
        return index.search(xq, k)


def measure(
    ours: deepq.DeepQuantIndex, theirs: faiss.IndexPQ, xq: NDArray[np.float32], k: int, repeats: int
) -> dict[str, Any]:
    """Time one batch of queries on both."""
    encoded = ours.encoder.encode(xq)
    levels = faiss_levels()
    engines: dict[str, Any] = {"deepq": lambda: ours.search(xq, k)}
    for level in levels:
        engines[level] = lambda level=level: at_level(theirs, level, encoded, k)
    ours.search(xq, k)
    times = paired_times(engines, repeats)
    best = min(levels, key=lambda level: median(times[level]))
    _, ids = ours.search(xq, k)
    _, faiss_ids = theirs.search(encoded, k)
    return {
        "us_per_query": median(times["deepq"]) / len(xq) * 1e6,
        "x_default": ratio(times, levels[0], "deepq"),
        "x_best": ratio(times, best, "deepq"),
        "faiss_default": levels[0],
        "faiss_best": best,
        "ids_equal": float((ids == faiss_ids).mean()),
        "seconds": times,
    }


def main() -> None:
    """Time every combination asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--gauss", type=int, metavar="D", help="iid Gaussian vectors of D dimensions instead"
    )
    arguments.add_argument("--n", type=int, nargs="+", default=[1_000_000])
    arguments.add_argument("--M", type=int, nargs="+", default=[8])
    arguments.add_argument("--nbits", type=int, default=8)
    arguments.add_argument("--nq", type=int, nargs="+", default=[64, 256])
    arguments.add_argument("--k", type=int, nargs="+", default=[10])
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.n, options.nq, options.repeats = [20_000], [1, 64], 2
    rng = np.random.default_rng(options.seed)
    if options.gauss:
        name, source = (
            "gauss",
            rng.standard_normal((max(options.nq), options.gauss), dtype=np.float32),
        )
        base = rng.standard_normal((max(options.n), options.gauss), dtype=np.float32)
    else:
        data = load(options.data)
        name, source, base = data.name, data.query, grow(data.base, max(options.n), rng)
    queries = source[np.arange(max(options.nq)) % len(source)]
    rows = []
    for n, M in itertools.product(options.n, options.M):
        pair = build(base[:n], M, options.nbits)
        for nq, k in itertools.product(options.nq, options.k):
            row = {
                "data": name,
                "d": base.shape[1],
                "N": n,
                "M": M,
                "nbits": options.nbits,
                "nq": nq,
                "k": k,
            }
            row.update(measure(*pair, queries[:nq], k, options.repeats))
            record(options.output, {"benchmark": "scan", "seed": options.seed, **row})
            rows.append(row)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    main()
