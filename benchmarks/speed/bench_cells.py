"""Speed of DeepQuantIVFIndex beside faiss.IndexIVFPQ of the same cells, codes and nprobe.

    python -m benchmarks.speed.bench_cells --data sift.npz --indexes build/cells \
        --output benchmarks/results/cells.jsonl

1,000,000 vectors lie in 1,024 cells, 10,000,000 in 4,096, of which every query looks into 16.
Without --case all of these are run:

    batch      1,000 queries at once
    one        one query at once
    fast_scan  both beside faiss.IndexIVFPQFastScan of as many bytes and in the same cells
    flat       both beside a DeepQuantIndex of as many bytes, with the least nprobe that finds .98
               of what that finds
    add        adding vectors
    growth     adding all vectors in batches, saving and loading: memory and time of a process
    shared     two processes that search one mapped file at once: memory and time of each

The vectors and the timing are those of bench_scan.py, and `ids_equal` says how far the answers
agree; equally near codes come in another order in faiss. `recall` is 10-recall@10 of 200 queries.
What has been built is kept in the folder --indexes, if there is one, for later runs.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common import vectors
from benchmarks.common.harness import (
    calls,
    in_one_thread,
    paired_times,
    parser,
    ratio,
    run,
    versus,
)
from benchmarks.common.pairs import agreement
from benchmarks.common.vectors import Floats, Vectors

COLUMNS = [
    *("case", "data", "N", "nlist", "nprobe", "M", "nq", "us", "x_default", "x_best", "x_flat"),
    *("ids_equal", "recall", "other_recall", "beyond"),
]
NLIST = {1_000_000: 1024, 10_000_000: 4096}
_NPROBE, _K, _RECALL = 16, 10, 0.98
_JUDGED, _ADDED, _ASKED = 200, 100_000, 1000
_QUERIES = {1000: 1000, 1: 200}
# Speed depends on the codebooks only through pruning, so a short training does.
_TRAINING = deepq.TrainConfig(epochs=4, max_points=20_000)


@dataclass(frozen=True, eq=False)
class Setting:
    """So many vectors in so many cells, with codes of M bytes; and where indexes are kept."""

    source: Vectors
    N: int
    nlist: int
    M: int
    folder: Path
    repeats: int

    def kept(self, kind: str, build: Callable[[], Any], read: Any, write: Any) -> Any:
        """Return an index that an earlier run has left, or build one and leave it."""
        path = self.path(kind)
        if not path.exists():
            write(build(), str(path))
        return read(str(path))

    def path(self, kind: str) -> Path:
        """Where an index of this kind is kept."""
        source = self.source
        name = f"{kind}-{source.name}-{source.seed}-{self.N}-{self.nlist}-{self.M}"
        return self.folder / name

    @cached_property
    def empty(self) -> deepq.DeepQuantIVFIndex:
        """Our index, trained."""

        def build() -> deepq.DeepQuantIVFIndex:
            d = self.source.d
            index = deepq.DeepQuantIVFIndex(d, self.nlist, self.M, training=_TRAINING)
            index.train(self.source.train)
            return index

        return self.kept("empty", build, deepq.read_index, deepq.write_index)

    @cached_property
    def ours(self) -> deepq.DeepQuantIVFIndex:
        """Our index, filled."""
        build = partial(self.filled, self.empty)
        index = self.kept("cells", build, deepq.read_index, deepq.write_index)
        index.nprobe = min(_NPROBE, self.nlist)
        return index

    @cached_property
    def theirs(self) -> faiss.IndexIVFPQ:
        """Copy of the IndexIVFPQ in ours: it takes encoded vectors."""
        twin = faiss.clone_index(faiss.extract_index_ivf(self.ours))
        twin.precompute_table()
        twin.nprobe = self.ours.nprobe
        return twin

    @cached_property
    def fast_scan(self) -> faiss.IndexIVFPQFastScan:
        """Faiss's index of 4-bit codes, as many bytes, in the same cells."""

        def build() -> faiss.IndexIVFPQFastScan:
            coarse = faiss.clone_index(self.theirs.quantizer)
            index = faiss.IndexIVFPQFastScan(coarse, self.source.d, self.nlist, 2 * self.M, 4)
            coarse.this.disown()
            index.own_fields = True
            index.train(self.ours.encoder.encode(self.source.train))
            return self.filled(index, self.ours.encoder.encode)

        index = self.kept("fast", build, faiss.read_index, faiss.write_index)
        index.nprobe = self.ours.nprobe
        return index

    @cached_property
    def flat(self) -> deepq.DeepQuantIndex:
        """Our index of as many bytes without cells."""

        def build() -> deepq.DeepQuantIndex:
            index = deepq.DeepQuantIndex(self.source.d, self.M, training=_TRAINING)
            index.train(self.source.train)
            return self.filled(index)

        return self.kept("flat", build, deepq.read_index, deepq.write_index)

    def filled(self, index: Any, encode: Callable[[Floats], Floats] | None = None) -> Any:
        """Add the vectors to an index."""
        for block in self.source.blocks(self.N):
            index.add(block if encode is None else encode(block))
        return index

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """The true neighbours of the queries that are judged."""
        x, first = self.source.queries(_JUDGED), 0
        D, I = np.empty((_JUDGED, 0), np.float32), np.empty((_JUDGED, 0), np.int64)
        for block in self.source.blocks(self.N):
            near, ids = faiss.knn(x, block, _K)
            D, I = np.hstack([D, near]), np.hstack([I, ids + first])
            best = np.argsort(D, axis=1, kind="stable")[:, :_K]
            D, I = (np.take_along_axis(part, best, axis=1) for part in (D, I))
            first += len(block)
        return I

    def recall(self, search: Callable[[Floats, int], Any]) -> float:
        """Return the share of the true neighbours that a search finds."""
        found = search(self.source.queries(_JUDGED), _K)[1]
        pairs = zip(found, self.neighbours, strict=True)
        return float(np.mean([np.isin(ids, right).mean() for ids, right in pairs]))

    def loads(self) -> Iterator[tuple[int, Floats, Floats]]:
        """Yield numbers of queries at once, with queries as they are and encoded."""
        for nq, count in _QUERIES.items():
            x = self.source.queries(count)
            yield nq, x, self.ours.encoder.encode(x)


def _us(figures: dict[str, Any], count: int, name: str = "deepq") -> float:
    return median(figures["seconds"][name]) / count * 1e6


def against_faiss(setting: Setting, wanted: int) -> Iterator[dict[str, Any]]:
    """Time searches of both, `wanted` queries at once."""
    for nq, x, z in setting.loads():
        if nq == wanted:
            ours = calls(lambda x: setting.ours.search(x, _K), x, nq)
            theirs = calls(lambda z: setting.theirs.search(z, _K), z, nq)
            figures, mine, others = versus(ours, theirs, setting.repeats)
            yield {"nq": nq, "us": _us(figures, len(x)), **figures, **agreement(mine, others)}


def against_fast_scan(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time searches of ours and of 4-bit codes."""
    recall = setting.recall(setting.ours.search)
    other = setting.recall(lambda x, k: setting.fast_scan.search(setting.ours.encoder.encode(x), k))
    for nq, x, z in setting.loads():
        ours = calls(lambda x: setting.ours.search(x, _K), x, nq)
        theirs = calls(lambda z: setting.fast_scan.search(z, _K), z, nq)
        figures, *_ = versus(ours, theirs, setting.repeats)
        about = {"nq": nq, "us": _us(figures, len(x)), "recall": recall, "other_recall": other}
        yield about | figures


def against_flat(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time searches of ours with and without cells."""
    other, recall, nprobe = setting.recall(setting.flat.search), 0.0, 0
    while recall < _RECALL * other and nprobe < setting.nlist:
        nprobe += 1
        params = deepq.SearchParameters(nprobe=nprobe)
        recall = setting.recall(partial(setting.ours.search, params=params))
    for nq, x, _ in setting.loads():
        engines = {
            "deepq": calls(lambda x: setting.ours.search(x, _K, params=params), x, nq),
            "flat": calls(lambda x: setting.flat.search(x, _K), x[: 100 * nq], nq),
        }
        share = min(1.0, 100 * nq / len(x))
        paired_times(engines, 1)
        times = paired_times(engines, setting.repeats)
        about = {"nq": nq, "nprobe": nprobe, "recall": recall, "other_recall": other}
        figure = ratio(times, "flat", "deepq") / share
        yield about | {"us": _us({"seconds": times}, len(x)), "x_flat": figure, "seconds": times}


def adding(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time adding the same vectors to both."""
    x = np.concatenate(list(setting.source.blocks(min(_ADDED, setting.N))))
    ours, z = copy.deepcopy(setting.empty), setting.empty.encoder.encode(x)
    theirs = faiss.clone_index(faiss.extract_index_ivf(setting.empty))

    def add(index: Any, rows: Floats) -> None:
        index.reset()
        index.add(rows)

    figures, *_ = versus(partial(add, ours, x), partial(add, theirs, z), setting.repeats)
    codes = [_codes(faiss.extract_index_ivf(index)) for index in (ours, theirs)]
    same = np.mean([np.array_equal(a, b) for a, b in zip(*codes, strict=True)])
    yield {"us": _us(figures, len(x)), **figures, "lists_equal": float(same)}


def _codes(index: faiss.IndexIVFPQ) -> list[NDArray[np.uint8]]:
    lists = index.invlists
    return [
        faiss.rev_swig_ptr(lists.get_codes(i), lists.list_size(i) * lists.code_size).copy()
        for i in range(lists.nlist)
        if lists.list_size(i)
    ]


def growing(setting: Setting) -> Iterator[dict[str, Any]]:
    """Measure an index that grows, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool.apply(_grow, (replace(setting),))


def _grow(setting: Setting) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    index, x = setting.empty, setting.source.queries(1000)
    index.add(next(setting.source.blocks(setting.N)))  # what the process has for its work, once
    index.search(x, 1)
    index.reset()
    before, seconds, most = _resident(), 0.0, 0
    for block in setting.source.blocks(setting.N):
        start = time.thread_time()
        index.add(block)
        seconds += time.thread_time() - start
        most = max(most, _resident())
    added = _resident() - before
    index.nprobe = index.nlist
    index.search(x[:1], 1)
    searched = _resident() - before
    path = setting.path("cells")
    start = time.perf_counter()
    deepq.write_index(index, path)
    saved = time.perf_counter()
    deepq.read_index(path)
    loaded = time.perf_counter()
    size = path.stat().st_size
    stored = setting.N * (index.code_size + 8) + 4 * setting.nlist * setting.source.d
    return {
        "us": seconds / setting.N * 1e6,
        "stored_bytes": stored,
        "added_bytes": added,
        "searched_bytes": searched,
        "most_bytes": most - before,
        "file_bytes": size,
        "beyond": searched / stored - 1,
        "save_seconds": saved - start,
        "load_seconds": loaded - saved,
    }


def sharing(setting: Setting) -> Iterator[dict[str, Any]]:
    """Measure two processes that search one mapped file."""
    right = setting.ours.search(setting.source.queries(_ASKED), _K)[1]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = pool.map(_search_mapped, [replace(setting)] * 2, chunksize=1)
    equal = [float((row.pop("I") == right).mean()) for row in rows]
    yield {name: max(row[name] for row in rows) for name in rows[0]} | {"ids_equal": min(equal)}


def _search_mapped(setting: Setting) -> dict[str, Any]:
    faiss.omp_set_num_threads(1)
    x = setting.source.queries(_ASKED)
    deepq.read_index(setting.path("cells"), mmap=True)  # what a process does once
    before, start = _memory("smaps_rollup", "Private_Dirty"), time.perf_counter()
    index = deepq.read_index(setting.path("cells"), mmap=True)
    opened = time.perf_counter() - start
    index.nprobe = min(_NPROBE, setting.nlist)
    index.search(x, _K)
    start = time.thread_time()
    I = index.search(x, _K)[1]
    spent = time.thread_time() - start
    own = _memory("smaps_rollup", "Private_Dirty") - before
    return {"open_seconds": opened, "us": spent / len(x) * 1e6, "own_bytes": own, "I": I}


def _resident() -> int:
    """Bytes of memory that this process has."""
    return _memory("status", "VmRSS")


def _memory(file: str, field: str) -> int:
    """Bytes that Linux says this process has, of some kind."""
    lines = (Path("/proc/self") / file).read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


CASES: dict[str, Callable[[Setting], Iterator[dict[str, Any]]]] = {
    "batch": partial(against_faiss, wanted=1000),
    "one": partial(against_faiss, wanted=1),
    "fast_scan": against_fast_scan,
    "flat": against_flat,
    "add": adding,
    "growth": growing,
    "shared": sharing,
}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases asked for."""
    source = vectors.of(options)
    with tempfile.TemporaryDirectory() as away:
        folder = options.indexes or Path(away)
        folder.mkdir(parents=True, exist_ok=True)
        for N in options.n:
            for M in options.M:
                nlist = 16 if options.smoke else NLIST[N]
                setting = Setting(source, N, nlist, M, folder, options.repeats)
                about = {"data": source.name, "d": source.d, "N": N, "nlist": nlist, "M": M}
                for case in options.case:
                    rows = CASES[case](setting)
                    yield from (
                        {"case": case, **about, "k": _K, "nprobe": min(_NPROBE, nlist)} | row
                        for row in rows
                    )


def main() -> None:
    """Measure the cases asked for."""
    arguments = parser(__doc__ or "", CASES)
    vectors.add_arguments(arguments, train_rows=100_000)
    arguments.add_argument("--indexes", type=Path, help="folder for built indexes (default: none)")
    arguments.add_argument("--M", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--n", type=int, nargs="+", choices=list(NLIST), default=list(NLIST))
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.n, options.M, options.repeats = [2000], [8], 1
    run(options, "cells", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
