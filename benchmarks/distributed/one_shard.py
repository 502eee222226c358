"""Times of one shard, and of what else a query takes, measured in this process."""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.results import Row
from deepq.distributed.manifest import Shard, file_checksum
from deepq.distributed.merging import merged
from deepq.distributed.served import ServedShard

_K, _BLOCK, _KEPT = 10, 1_000_000, 300
_TRAINING = deepq.TrainConfig(epochs=2, max_points=20_000)
_LIGHT = deepq.TrainConfig(epochs=1, max_points=5_000)
_RERANK, _QUERIES = 100, 1024


@dataclass(frozen=True)
class Kind:
    """Shards that are measured, of one codec: their sizes, and numbers of queries at once."""

    d: int
    M: int
    sizes: tuple[int, ...]
    asked: tuple[int, ...]
    nlist: int = 0
    nprobes: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """Flat, or cells."""
        return "cells" if self.nlist else "flat"


KINDS = [
    Kind(128, 16, (1_000_000, 10_000_000), (1, 16, 64, 256)),
    Kind(128, 16, (10_000_000,), (1, 16, 64, 256), 4096, (16, 64)),
    Kind(128, 16, (10_000_000,), (1, 64), 65_536, (64, 256)),
    *(
        Kind(d, M, (10_000_000,), (1, 64), nlist, nprobes)
        for d, M in ((128, 8), (384, 32))
        for nlist, nprobes in ((0, (0,)), (4096, (16, 64)), (65_536, (64, 256)))
    ),
]
SMOKE = [
    Kind(128, 16, (2000,), (1, 64)),
    Kind(128, 16, (2000,), (1, 64), 16, (2, 4)),
]


def shards(options: argparse.Namespace) -> Iterator[Row]:
    """Time searches of shards of every kind and size, and opening them."""
    for kind in SMOKE if options.smoke else KINDS:
        with tempfile.TemporaryDirectory() as away:
            yield from of_kind(kind, Path(away), options)


def of_kind(kind: Kind, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Time the shards of one codec, which grow from size to size."""
    rng = np.random.default_rng(options.seed)
    index = _trained(kind, rng)
    fingerprint = index.fingerprint
    z = index.encoder.encode(rng.standard_normal((_QUERIES, kind.d), dtype=np.float32))
    for N in kind.sizes:
        if index is None:
            index = deepq.read_index(folder / "shard")
        _fill(index, kind, N, rng)
        deepq.write_index(index, folder / "shard")
        index = None  # as in a worker, only the mapped file is there
        gc.collect()
        about = {"kind": kind.name, "d": kind.d, "M": kind.M, "N": N, "nlist": kind.nlist}
        checksum = file_checksum(folder / "shard")
        ids = "inside" if kind.nlist else "successive"
        shard = Shard("shard", N, 0, N - 1, ids, checksum)
        for row in _opened(folder, shard, fingerprint, z[:1]):
            yield {"case": "open", **about} | row
        served = ServedShard(folder, shard, fingerprint, verify=False)
        for nprobe in kind.nprobes:
            how = {"nprobe": nprobe} if nprobe else {}
            for nq in kind.asked:
                blocks = itertools.cycle(np.split(z, len(z) // nq))
                search = partial(_find, served, blocks, how)
                figures = timed(search, options.budget, 3 if options.smoke else _KEPT)
                if nq > 1:
                    del figures["cpu"]  # the simulation is of single queries
                yield {"case": "shard", **about, "nprobe": nprobe, "nq": nq, "k": _K} | figures
        del served


def _find(served: ServedShard, blocks: Iterator[NDArray[Any]], how: dict[str, Any]) -> Any:
    """Search for the next queries."""
    return served.find(next(blocks), _K, how, None, False)


def _trained(kind: Kind, rng: np.random.Generator) -> Any:
    """Return an index of this kind, without vectors; centres of cells are drawn, not learned."""
    rows = 10_000 if max(kind.sizes) > 10_000 else 1000
    x = rng.standard_normal((rows, kind.d), dtype=np.float32)
    if not kind.nlist:
        index = deepq.DeepQuantIndex(kind.d, kind.M, training=_TRAINING)
        index.train(x)
        return index
    centres = faiss.IndexFlatL2(kind.d)
    centres.add(rng.standard_normal((kind.nlist, kind.d), dtype=np.float32))
    other = faiss.IndexIVFPQ(centres, kind.d, kind.nlist, kind.M, 8)
    other.pq.cp.min_points_per_centroid = 1  # no warning
    other.pq.train(x)
    other.use_precomputed_table = -1
    other.is_trained = True
    return deepq.from_faiss(other)


def _fill(index: Any, kind: Kind, N: int, rng: np.random.Generator) -> None:
    """Add random codes until there are N."""
    while index.ntotal < N:
        count = min(_BLOCK, N - index.ntotal)
        codes = rng.integers(256, size=(count, index.sa_code_size()), dtype=np.uint8)
        if kind.nlist:
            cells = rng.integers(kind.nlist, size=count, dtype="<i8")
            size = index.sa_code_size() - kind.M
            codes[:, :size] = cells.view(np.uint8).reshape(count, 8)[:, :size]
        index.add_sa_codes(codes)


def _opened(folder: Path, shard: Shard, fingerprint: str, z: NDArray[Any]) -> Iterator[Row]:
    """Time opening a shard, each time in a process of its own, and see what memory that takes."""
    for verify in (False, True):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            yield pool.apply(_open, (folder, shard, fingerprint, z, verify))


def _open(folder: Path, shard: Shard, fingerprint: str, z: NDArray[Any], verify: bool) -> Row:
    faiss.omp_set_num_threads(1)
    before, start = _own_memory(), time.perf_counter()
    served = ServedShard(folder, shard, fingerprint, verify=verify)
    seconds = time.perf_counter() - start
    served.find(z, _K, {}, None, False)
    return {
        "verify": verify,
        "seconds": seconds,
        "own_bytes": _own_memory() - before,
        "process_bytes": before,
        "file_bytes": (folder / shard.name).stat().st_size,
    }


def _own_memory() -> int:
    """Bytes that this process shares with nobody; Linux only."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Private_Dirty")).split()[1]) * 1024


def timed(work: Callable[[], Any], budget: float, most: int) -> Row:
    """Time as many repetitions as there is time for: by the clock and by the processor."""
    work()
    clock: list[float] = []
    cpu: list[float] = []
    begin = time.perf_counter()
    while len(clock) < most and (len(clock) < 3 or time.perf_counter() - begin < budget):
        start, spent = time.perf_counter(), time.thread_time()
        work()
        cpu.append(time.thread_time() - spent)
        clock.append(time.perf_counter() - start)
    return {
        "repetitions": len(clock),
        **_quantiles(clock),
        **{f"cpu_{name}": value for name, value in _quantiles(cpu).items()},
        "cpu": [round(value, 6) for value in cpu],
    }


def _quantiles(seconds: Any) -> dict[str, float]:
    p50, p95, p99 = np.quantile(seconds, [0.5, 0.95, 0.99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def ranking(options: argparse.Namespace) -> Iterator[Row]:
    """Time re-ranking, after the shortest training of a decoder: its time is that of any other."""
    rng = np.random.default_rng(options.seed)
    d, M, rows = 128, 16, 2000
    index = deepq.DeepQuantIndex(d, M, rerank=_RERANK, training=_LIGHT)
    index.train(rng.standard_normal((5000, d), dtype=np.float32))
    index.add_sa_codes(rng.integers(256, size=(rows, M), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as away:
        folder = Path(away)
        deepq.write_index(index, folder / "shard")
        checksum = file_checksum(folder / "shard")
        shard = Shard("shard", rows, 0, rows - 1, "successive", checksum)
        served = ServedShard(folder, shard, index.fingerprint)
        x = rng.standard_normal((64, d), dtype=np.float32)
        for nq in (1, 64):
            z = index.encoder.encode(x[:nq])
            _, ids, codes = served.find(z, _RERANK, {}, None, True)
            work = partial(served.rank, z, ids, codes, _K, rows)
            figures = timed(work, options.budget, 3 if options.smoke else _KEPT)
            del figures["cpu"]
            yield {"case": "rank", "d": d, "M": M, "rerank": _RERANK, "nq": nq} | figures


def merging(options: argparse.Namespace) -> Iterator[Row]:
    """Time merging the k best of every shard into the k best of all."""
    rng = np.random.default_rng(options.seed)
    for nq in (1, 64):
        for count in (10, 100) if options.smoke else options.shards:
            parts = [
                (
                    np.sort(rng.random((nq, _K), dtype=np.float32), axis=1),
                    rng.integers(1 << 40, size=(nq, _K)),
                    None,
                )
                for _ in range(count)
            ]
            figures = timed(partial(merged, parts, _K, faiss.METRIC_L2), options.budget / 10, _KEPT)
            del figures["cpu"]
            yield {"case": "merge", "shards": count, "nq": nq, "k": _K} | figures
