"""Compare faiss's PQ and OPQ with DeepQuantIndex on real data, at equal bytes.

    make demo        (or: python examples/demo.py)

The data ships with the package: sentence embeddings of WordNet glosses, 384 numbers each. Prints a
table, writes demo.png, and saves and reloads an index. Takes a bit more than a minute.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# One thread for each matrix product: faiss brings its own threads, and two sets get in the way
# of each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import faiss
import matplotlib as mpl
import numpy as np
import torch
from tqdm import tqdm

import deepq
from deepq.metrics import recall

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURE = Path("demo.png")
BYTES = (8, 16)
SPEED_ROWS = 50_000  # the base, repeated with noise, so that searching takes measurable time
RERANKED = "DeepQuantIndex, re-ranked"
COLOURS = {
    "faiss PQ": "#8da0cb",
    "faiss OPQ + PQ": "#66c2a5",
    "DeepQuantIndex": "#fc8d62",
    RERANKED: "#e7298a",
}
METHODS = tuple(COLOURS)


def make_index(method: str, d: int, M: int) -> Any:
    """Make an untrained index of M bytes per vector."""
    if method == "faiss PQ":
        return faiss.IndexPQ(d, M, 8)
    if method == "faiss OPQ + PQ":
        return faiss.IndexPreTransform(faiss.OPQMatrix(d, M), faiss.IndexPQ(d, M, 8))
    if method == RERANKED:
        return deepq.DeepQuantIndex(d, M, 8, rerank=100)
    return deepq.DeepQuantIndex(d, M, 8)  # the one line that changes


def queries_per_second(index: Any, queries: np.ndarray) -> float:
    """Best of three, all processors."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        index.search(queries, 10)
        seconds.append(time.perf_counter() - start)
    return len(queries) / min(seconds)


def grown(base: np.ndarray) -> np.ndarray:
    """Return the base repeated with a little noise."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((SPEED_ROWS, base.shape[1]), dtype=np.float32) * base.std() / 10
    return base[np.arange(SPEED_ROWS) % len(base)] + noise


def trained(job: tuple[str, int]) -> tuple[Any, float]:
    """Train an index on the train part, in one thread; return it and the seconds that it took."""
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    method, M = job
    data = deepq.datasets.wordnet_glosses()
    index = make_index(method, data.d, M)
    start = time.perf_counter()
    index.train(data.train)
    return index, time.perf_counter() - start


def measure(index: Any, data: deepq.datasets.Dataset, many: np.ndarray) -> dict[str, float]:
    """Judge recall on the base, and speed on the grown base."""
    index.add(data.base)
    _, I = index.search(data.query, 10)
    fast = copy.deepcopy(index)
    fast.reset()
    fast.add(many)
    return {
        "R@1": recall(I, data.gt, 1, 1),
        "10-recall@10": recall(I, data.gt, 10, 10),
        "queries/s": queries_per_second(fast, data.query),
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Recall against bytes, and speed, in one picture."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        left.plot(
            [row["bytes"] for row in mine],
            [row["10-recall@10"] for row in mine],
            "o-",
            color=COLOURS[method],
            label=method,
        )
    left.set(
        xlabel="bytes per vector", ylabel="10-recall@10", xticks=BYTES, title="Neighbours found"
    )
    left.legend()
    left.grid(alpha=0.3)
    for i, method in enumerate(METHODS):
        heights = [row["queries/s"] for row in rows if row["method"] == method]
        right.bar(np.arange(len(BYTES)) + (i - 1.5) * 0.2, heights, 0.2, color=COLOURS[method])
    right.set_xticks(range(len(BYTES)), [f"{M} bytes" for M in BYTES])
    right.set(yscale="log", ylabel="queries per second", title=f"Speed, {SPEED_ROWS:,} vectors")
    right.grid(alpha=0.3, axis="y")
    figure.savefig(PICTURE, dpi=150)


def show_neighbours(index: deepq.DeepQuantIndex, data: deepq.datasets.Dataset) -> None:
    """Print what three queries find."""
    _, I = index.search(data.query[:3], 3)
    for q, ids in enumerate(I):
        print(f"\n  {data.query_texts[q]}")
        for i in ids:
            print(f"    -> {data.base_texts[i]}")


def main() -> None:
    """Compare, draw, save, reload, and show what is found."""
    data = deepq.datasets.wordnet_glosses()
    print(
        f"{data.name}: {len(data.train):,} training vectors, {len(data.base):,} stored, "
        f"{len(data.query)} queries"
    )
    many = grown(data.base)
    jobs = [(method, M) for M in BYTES for method in METHODS]
    # One training for every processor, the longest first.
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"))
    waiting = {pool.submit(trained, job): job for job in reversed(jobs)}
    done = dict[tuple[str, int], tuple[Any, float]]()
    for future in tqdm(as_completed(waiting), desc="train", total=len(jobs), unit="index"):
        done[waiting[future]] = future.result()
    pool.shutdown()
    rows = []
    for job in tqdm(jobs, desc="search", unit="index"):
        index, seconds = done[job]
        method, M = job
        found = measure(index, data, many)
        rows.append({"method": method, "bytes": M, "train s": seconds, "index": index, **found})

    print(
        f"\n{'method':<26}{'bytes':>6}{'R@1':>8}{'10-recall@10':>14}{'train s':>9}{'queries/s':>11}"
    )
    for row in rows:
        print(
            f"{row['method']:<26}{row['bytes']:>6}{row['R@1']:>8.3f}{row['10-recall@10']:>14.3f}"
            f"{row['train s']:>9.1f}{row['queries/s']:>11,.0f}"
        )
    draw(rows)

    index = rows[-1]["index"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "glosses.dpq"
        deepq.write_index(index, path)
        loaded = deepq.read_index(path)
        same = np.array_equal(loaded.search(data.query, 10)[1], index.search(data.query, 10)[1])
        print(f"\nSaved ({path.stat().st_size:,} bytes) and reloaded: same answers: {same}")
        faiss.write_index(index, str(path))
        plain, tables = faiss.read_index(str(path)), deepq.SearchParameters(rerank=0)
        found = index.search(data.query, 10, params=tables)[1]
        same = np.array_equal(plain.search(data.query, 10)[1], found)
        print(
            f"Saved by faiss.write_index, opened by plain faiss as {type(plain).__name__}: "
            f"same answers as without re-ranking: {same}"
        )

    print(f"\nWhat {index.code_size} bytes per gloss find:")
    show_neighbours(loaded, data)
    print("\nThe one line that changes in a faiss program:")
    print("  - index = faiss.IndexPQ(d, M, 8)")
    print("  + index = deepq.DeepQuantIndex(d, M, 8)")
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
