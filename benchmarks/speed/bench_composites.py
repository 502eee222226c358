"""Searching through faiss's composites, in times of the bare index.

    python -m benchmarks.speed.bench_composites --data sift.npz --output results/composites.jsonl

A composite and a bare index store the same vectors in the same codes. Ratios are medians of paired
CPU times of one thread; `same` says that the ids are the bare index's. "with a selector" is a range
of the ids of an IndexIDMap2 against the same range of positions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

import deepq
from benchmarks.common import pairs
from benchmarks.common.harness import calls, in_one_thread, paired_times, parser, ratio, run
from benchmarks.common.vectors import Vectors, add_arguments, of

COLUMNS = ["data", "M", "N", "nq", "composite", "of_bare", "same"]


def shards(index: deepq.DeepQuantIndex) -> Any:
    """Put an index into shards, alone."""
    outer = faiss.IndexShards(index.d, False)
    outer.add_shard(index)
    return outer


def replicas(index: deepq.DeepQuantIndex) -> Any:
    """Put an index into replicas, alone."""
    outer = faiss.IndexReplicas(index.d, False)  # in threads, whose time nobody would see
    outer.addIndex(index)
    return outer


COMPOSITES: dict[str, Callable[[Any], Any]] = {
    "IndexShards": shards,
    "IndexReplicas": replicas,
    "IndexPreTransform": lambda index: faiss.IndexPreTransform(index),
}


def mapped(inner: deepq.DeepQuantIndex, vectors: Vectors, N: int) -> Any:
    """Let an IndexIDMap2 around an empty index add N vectors itself, their positions as ids."""
    outer = faiss.IndexIDMap2(inner)
    for block in vectors.blocks(N):
        outer.add_with_ids(block, outer.ntotal + np.arange(len(block)))
    return outer


def by(index: Any, params: Any = None) -> Callable[[Any], Any]:
    """Return what searches with parameters."""
    return lambda x: index.search(x, 10, params=params)


def raw(index: deepq.DeepQuantIndex) -> Callable[[Any], Any]:
    """Return what searches by pointers."""

    def search(x: Any) -> Any:
        D, I = np.empty((len(x), 10), np.float32), np.empty((len(x), 10), np.int64)
        index.search_c(len(x), faiss.swig_ptr(x), 10, faiss.swig_ptr(D), faiss.swig_ptr(I))
        return D, I

    return search


def measured(options: Any, vectors: Vectors) -> Iterator[dict[str, Any]]:
    """Time searches through every composite, and with a selector."""
    empty = pairs.trained(vectors, options.M, 8, "identity")
    for N in options.N:
        bare, outer = copy.copy(empty), mapped(copy.copy(empty), vectors, N)
        for block in vectors.blocks(N):
            bare.add(block)
        part = deepq.SearchParameters(sel=faiss.IDSelectorRange(N // 4, N // 2))
        searches = [
            ("search_c", raw(bare), by(bare)),
            ("IndexIDMap2", by(outer), by(bare)),
            ("IndexIDMap2 with a selector", by(outer, part), by(bare, part)),
            *((name, by(make(bare)), by(bare)) for name, make in COMPOSITES.items()),
        ]
        for nq in options.nq:
            queries = vectors.queries(max(nq, min(options.queries, 4 * nq)))
            for name, through, alone in searches:
                engines = {
                    "bare": calls(alone, queries, nq),
                    "composite": calls(through, queries, nq),
                }
                answers = [[I for _, I in engine()] for engine in engines.values()]
                times = paired_times(engines, options.repeats)
                yield {
                    "data": vectors.name,
                    "M": options.M,
                    "N": N,
                    "nq": nq,
                    "composite": name,
                    "of_bare": ratio(times, "composite", "bare"),
                    "same": bool(np.array_equal(*answers)),
                    "seconds": times,
                }


def main() -> None:
    """Time every number of vectors and of queries asked for."""
    arguments = parser(__doc__ or "")
    add_arguments(arguments)
    arguments.add_argument("--M", type=int, default=8)
    arguments.add_argument("--N", type=int, nargs="+", default=[200_000])
    arguments.add_argument("--nq", type=int, nargs="+", default=[1, 256])
    arguments.add_argument("--queries", type=int, default=256, help="most queries of a round")
    arguments.add_argument("--repeats", type=int, default=9)
    options = arguments.parse_args()
    if options.smoke:
        options.N, options.nq, options.repeats = [1_000], [16], 1
    run(options, "composites", measured(options, of(options)), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
