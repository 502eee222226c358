"""What Ray costs and brings on one machine: encoding, searching, serving, and faults.

    python -m benchmarks.distributed.bench_cluster --output benchmarks/results/cluster.jsonl

It starts Ray in a network namespace of its own (tests/distributed/alone.sh). Vectors are of normal
numbers, d = 128: what they are changes no time here.

overhead  a fan-out over shards of 250 codes, and the merge: so all but the search itself; beside
          it a call of all workers that does nothing
search    shards with a million codes of 16 bytes in all, beside one index in one thread
encode    beside a plain pool of processes that does the same, files and all
start     a shard of 10 million codes from its file: with and without reading it once
serve     single queries over HTTP, one client and many
kills     workers, and encoding itself, killed at random moments
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import deepq
from benchmarks.common.harness import in_one_thread, parser, run
from deepq.distributed import Manifest, ShardedIndex, encode_dataset

CASES = ("overhead", "search", "encode", "start", "serve", "kills")
COLUMNS = ["case", "what", "actors", "nq", "rows", "ms", "seconds", "x", "kills", "wrong"]
D, M = 128, 16
PORT = 8799
ALONE = Path(__file__).parents[2] / "tests/distributed/alone.sh"
Rows = Iterator[dict[str, Any]]


def codec(rerank: int = 0) -> Any:
    """Train an index of 16 bytes a vector."""
    index = deepq.DeepQuantIndex(D, M, training=deepq.TrainConfig(seed=1), rerank=rerank)
    index.train(vectors(10_000, 1))
    return index


def vectors(n: int, seed: int) -> Any:
    """Vectors (n, 128) float32."""
    return np.random.default_rng(seed).standard_normal((n, D), np.float32)


def in_shards(index: Any, folder: Path, sizes: list[int]) -> Manifest:
    """Write shards of random codes."""
    folder.mkdir()
    deepq.write_index(index.copy_empty(), folder / "codec.dpq")
    manifest = Manifest(folder, index.fingerprint, "codec.dpq")
    rng = np.random.default_rng(2)
    for number, size in enumerate(sizes):
        shard = index.copy_empty()
        shard.add_sa_codes(rng.integers(256, size=(size, M), dtype=np.uint8))
        deepq.write_index(shard, folder / f"part-{number}.dpq")
        manifest = manifest.including(f"part-{number}.dpq")
    manifest.write()
    return manifest


def times(call: Any, repeats: int) -> list[float]:
    """Seconds of each call, after two that do not count."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def overhead(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Measure calls of shards that have next to nothing to search."""
    import ray

    for actors in options.actors:
        manifest = in_shards(index, work / f"overhead-{actors}", [250] * actors)
        with ShardedIndex(manifest, cpus=0.1) as served:
            workers = [w for (w,) in served._pool.serving.workers.values()]
            empty = times(lambda: ray.get([w.ready.remote() for w in workers]), options.repeats)  # noqa: B023
            row = {"case": "overhead", "actors": actors}
            yield {**row, "what": "empty fan-out", "nq": 0, "ms": 1000 * median(empty)}
            for nq in (1, 64, 256):
                x = vectors(nq, 3)
                seconds = times(lambda: served.search(x, 10), options.repeats)  # noqa: B023
                own = times(lambda: served._codec.sa_encode(x), options.repeats)  # noqa: B023
                ms, p99 = 1000 * median(seconds), 1000 * float(np.quantile(seconds, 0.99))
                del own
                yield {**row, "what": "fan-out and merge", "nq": nq, "ms": ms, "p99_ms": p99}


def search(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Measure a million codes in shards beside one index, at the same time."""
    one = index.copy_empty()
    whole = in_shards(index, work / "search-1", [options.rows])
    one = deepq.read_index(whole.folder / "part-0.dpq", mmap=True)
    one.num_threads = 1
    for actors in options.actors:
        sizes = [options.rows // actors] * actors
        manifest = in_shards(index, work / f"search-of-{actors}", sizes)
        with ShardedIndex(manifest, cpus=0.1) as served:
            for nq in (1, 64):
                x = vectors(nq, 3)
                pair: tuple[list[float], list[float]] = [], []
                for _ in range(options.repeats):
                    for kept, engine in zip(pair, (one, served), strict=True):
                        start = time.perf_counter()
                        engine.search(x, 10)
                        kept.append(time.perf_counter() - start)
                ratio = median(a / b for a, b in zip(*pair, strict=True))
                row = {"case": "search", "what": "one index / shards", "actors": actors, "nq": nq}
                yield {**row, "rows": options.rows, "ms": 1000 * median(pair[1]), "x": ratio}


_POOL: list[Any] = []


def _begin(codec_path: str, rows_path: str) -> None:
    _POOL[:] = deepq.read_index(codec_path), np.load(rows_path, mmap_mode="r")


def _encode(part: tuple[int, int]) -> Any:
    index, x = _POOL
    return index.sa_encode(x[slice(*part)])


def pool_encode(index: Any, npy: Path, out: Path, workers: int, shard: int, block: int) -> None:
    """Do what `encode_dataset` does with a pool of processes."""
    out.mkdir()
    deepq.write_index(index.copy_empty(), out / "codec.dpq")
    n = len(np.load(npy, mmap_mode="r"))
    start = multiprocessing.get_context("spawn")
    with start.Pool(workers, _begin, (str(out / "codec.dpq"), str(npy))) as pool:
        parts = [(a, min(a + block, n)) for a in range(0, n, block)]
        codes, count = index.copy_empty(), 0
        for own in pool.imap(_encode, parts):
            codes.add_sa_codes(own)
            if codes.ntotal >= shard:
                deepq.write_index(codes, out / f"shard-{count}.dpq")
                codes, count = index.copy_empty(), count + 1
        deepq.write_index(codes, out / f"shard-{count}.dpq")


def encode(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Encode a file with both, in turns."""
    np.save(work / "x.npy", vectors(options.rows, 5))
    shard, block = options.rows // 4, max(1000, options.rows // 64)
    pairs = []
    for turn in range(options.turns):
        start = time.perf_counter()
        pool_encode(index, work / "x.npy", work / f"pool-{turn}", 2, shard, block)
        middle = time.perf_counter()
        how = {"rows_per_shard": shard, "rows_per_block": block, "workers": 2, "cpus": 0.5}
        encode_dataset(work / "x.npy", index, work / f"ray-{turn}", **how)
        pairs.append((middle - start, time.perf_counter() - middle))
    for what, seconds in zip(("pool", "Ray"), zip(*pairs, strict=True), strict=True):
        row = {"case": "encode", "what": what, "actors": 2, "rows": options.rows}
        ratio = median(ray_ / pool for pool, ray_ in pairs)
        yield {**row, "seconds": median(seconds), "x": ratio if what == "Ray" else 1.0}


def start(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Start one worker on a large shard."""
    import ray

    manifest = in_shards(index, work / "start", [10 * options.rows])
    for verify in (True, False):
        begin = time.perf_counter()
        with ShardedIndex(manifest, cpus=0.5, verify=verify) as served:
            whole = time.perf_counter() - begin
            ((worker,),) = served._pool.serving.workers.values()
            opened = ray.get(worker.ready.remote())["seconds"]
        what = "opened, checksum compared" if verify else "opened"
        row = {"case": "start", "what": what, "rows": 10 * options.rows}
        yield {**row, "seconds": opened, "with_process": whole}


def serve(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Ask for one query at a time, by one client, then by many."""
    from ray import serve as ray_serve

    from deepq.distributed.serve import application

    manifest = in_shards(index, work / "serve", [options.rows // 8] * 2)
    ray_serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    ray_serve.run(application(manifest, cpus=0.1))
    bodies = [json.dumps({"vectors": [row.tolist()], "k": 10}) for row in vectors(64, 6)]

    def client(first: int, count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        for i in range(count):
            connection.request(
                "POST", "/search", bodies[(first + i) % 64], {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(answer.read())
            answer.read()
        connection.close()

    client(0, 20)
    alone = times(lambda: client(0, options.requests), 1)[0] / options.requests
    for clients in (8, 32, 64):
        count = max(1, 8 * options.requests // clients)
        with ThreadPoolExecutor(clients) as pool:
            begin = time.perf_counter()
            list(pool.map(client, range(clients), [count] * clients))
            each = (time.perf_counter() - begin) / (clients * count)
        what = f"{clients} clients, {'HAProxy' if options.haproxy else 'proxy in Python'}"
        row = {"case": "serve", "what": what, "actors": 2, "ms": 1000 * each}
        yield {**row, "x": alone / each, "alone_ms": 1000 * alone}
    ray_serve.shutdown()


def kills(options: argparse.Namespace, index: Any, work: Path) -> Rows:
    """Kill workers of a search, of an encoding, and encodings, at random moments."""
    import ray

    rng = random.Random(options.seed)
    one, x = index.copy_empty(), vectors(5, 7)
    rows = vectors(options.rows // 10, 8)
    one.add(rows)
    np.save(work / "kill.npy", rows)
    expected, codes = one.search(x, 10), one.sa_encode(rows)
    how = {"rows_per_shard": len(rows) // 5 + 1, "rows_per_block": len(rows) // 50 + 1}
    script = (
        "import sys, deepq, deepq.distributed as d\n"
        "out, codec, x, shard, block = sys.argv[1:]\n"
        "d.encode_dataset(x, deepq.read_index(codec), out, workers=2, cpus=0.4,"
        " rows_per_shard=int(shard), rows_per_block=int(block))"
    )
    manifest = encode_dataset(work / "kill.npy", index, work / "kills", workers=2, cpus=0.4, **how)
    wrong, done, begin = 0, 0, time.perf_counter()
    with ShardedIndex(manifest, cpus=0.1, timeout=120) as served:
        while done < options.kills:
            workers = [w for (w,) in served._pool.serving.workers.values()]
            pid = ray.get(rng.choice(workers).ready.remote())["pid"]
            timer = threading.Timer(rng.random() / 50, os.kill, (pid, signal.SIGKILL))
            timer.start()
            for _ in range(5):
                found = served.search(x, 10)
                wrong += not all(map(np.array_equal, found, expected))
            timer.join()
            done += 1
    row = {"case": "kills", "rows": len(rows)}
    seconds = time.perf_counter() - begin
    yield {**row, "what": "workers that search", "kills": done, "wrong": wrong, "seconds": seconds}

    address = ray.get_runtime_context().gcs_address
    for what in ("workers that encode", "encodings"):
        wrong, done, begin = 0, 0, time.perf_counter()
        run_number = 0
        while done < options.kills:
            out = work / f"{what.split()[0]}-{run_number}"
            arguments = [sys.executable, "-c", script, out, work / "kills/codec.dpq"]
            arguments += [work / "kill.npy", str(how["rows_per_shard"]), str(how["rows_per_block"])]
            for _ in range(100):
                process = subprocess.Popen(
                    [str(each) for each in arguments],
                    env={**os.environ, "RAY_ADDRESS": address},
                    stderr=subprocess.DEVNULL,
                )
                while process.poll() is None and done < options.kills:
                    time.sleep(rng.uniform(0.5, 4))
                    pids = _encoders() if what == "workers that encode" else [process.pid]
                    if pids and process.poll() is None:
                        os.kill(rng.choice(pids), signal.SIGKILL)
                        done += 1
                if process.wait() == 0:
                    break
            shards = Manifest.read(out).shards
            parts = [deepq.read_index(out / shard.name) for shard in shards]
            there = np.concatenate([c for part in parts for c in part.code_blocks()])
            wrong += not np.array_equal(there, codes)
            run_number += 1
        seconds = time.perf_counter() - begin
        yield {**row, "what": what, "kills": done, "wrong": wrong, "seconds": seconds}


def _encoders() -> list[int]:
    """Return the processes that encode."""
    found = subprocess.run(
        ["pgrep", "-f", "ray::Encoder"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def measured(options: argparse.Namespace) -> Rows:
    """Start Ray, and measure every case asked for."""
    import ray

    how = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=4, object_store_memory=500_000_000, **how)
    index = codec()
    cases = {case.__name__: case for case in (overhead, search, encode, start, serve, kills)}
    with tempfile.TemporaryDirectory() as work:
        for case in options.case:
            yield from cases[case](options, index, Path(work))
    ray.shutdown()


def main() -> None:
    """Measure every case asked for."""
    arguments = parser(__doc__ or "", CASES)
    arguments.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--repeats", type=int, default=200)
    arguments.add_argument("--turns", type=int, default=3, help="of encoding")
    arguments.add_argument("--requests", type=int, default=200)
    arguments.add_argument("--kills", type=int, default=25, help="of each kind")
    arguments.add_argument("--haproxy", action="store_true", help="for the case serve")
    options = arguments.parse_args()
    if "DEEPQ_ALONE" not in os.environ:
        os.environ |= {"DEEPQ_ALONE": "1", "RAY_AUTH_MODE": "disabled"}
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = str(int(options.haproxy))
        module = [sys.executable, "-m", "benchmarks.distributed.bench_cluster"]
        os.execv(ALONE, [str(ALONE), *module, *sys.argv[1:]])
    if options.smoke:
        options.actors, options.rows, options.repeats, options.turns = [2], 4000, 2, 1
        options.requests, options.kills = 5, 1
        options.case = [case for case in options.case if case in ("overhead", "encode", "kills")]
    run(options, "cluster", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
