"""Shards on Ray: encode, search, serve over HTTP, kill a worker, and get the same answers.

    make distributed        (or: python examples/distributed.py)

All of it happens on this machine; on a cluster only `ray.init` changes, and `work` is a folder that
all machines see. `make distributed` runs it in a network of its own, where nobody else reaches the
ports that Ray opens. It takes less than a minute.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import ray
from ray import serve

import deepq
from deepq.distributed import ShardedIndex, encode_dataset
from deepq.distributed.serve import application

PORT = 8000


def main() -> None:
    """Go the whole way once, and compare with one index."""
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
    ray.shutdown()


def run(work: Path) -> None:
    """Encode, search, serve, kill and recover in a folder."""
    data = deepq.datasets.wordnet_glosses()
    np.save(work / "vectors.npy", data.base)
    queries = data.query[:64]

    index = deepq.DeepQuantIndex(data.d, 16)
    index.train(data.train)

    # 1. Encode. The codes do not go through this index; here it is filled to compare.
    start = time.perf_counter()
    manifest = encode_dataset(
        work / "vectors.npy", index, work / "shards", rows_per_shard=2500, workers=2, verbose=True
    )
    say(f"{manifest.ntotal} vectors in {len(manifest.shards)} shards", start)
    index.add(data.base)
    D, I = index.search(queries, 10)

    # 2. Search. A shard takes a process; half a CPU each, as there are few here.
    start = time.perf_counter()
    with ShardedIndex(manifest, cpus=0.25) as sharded:
        say(f"{sharded} started", start)
        same(sharded.search(queries, 10), (D, I))

        # 3. Kill a worker, and search at once: Ray starts it again, the call waits for it.
        (process,) = sharded.processes()["shard-00000.dpq"]
        os.kill(process, signal.SIGKILL)
        start = time.perf_counter()
        same(sharded.search(queries, 10), (D, I))
        say("a worker was killed; the answer is whole", start)

        # 4. A shard goes, and comes back, while others may search.
        name = manifest.shards[-1].name
        sharded.update(manifest.without(name))
        print(f"without {name}: {sharded.ntotal} vectors")
        sharded.update(manifest)
        same(sharded.search(queries, 10), (D, I))

    # 5. Serve over HTTP: http://127.0.0.1:8000/docs shows what can be asked.
    start = time.perf_counter()
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(application(manifest, cpus=0.25))
    say("the service is there", start)
    body = json.dumps({"vectors": queries[:3].tolist(), "k": 10}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/search", body)
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as answer:
        found = json.load(answer)
    same((np.float32(found["distances"]), np.array(found["ids"])), index.search(queries[:3], 10))
    serve.shutdown()
    print("all answers were those of one index")


def same(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """End the program if two results differ in a bit."""
    if not all(map(np.array_equal, found, expected)):
        raise SystemExit("the answers differ from those of one index")


def say(what: str, start: float) -> None:
    """Print what is done, and how long it took."""
    print(f"{what} ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    main()
