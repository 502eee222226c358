"""Hash tables with learned buckets beside other buckets of the same embeddings.

    python -m benchmarks.retrieval.bench_hierarchical --data CIFAR-100 --work metric \
        --output benchmarks/results/hierarchical.jsonl

`class_splits` says what data there is; rows are split as in the paper, and nothing is chosen by the
queries. The metric network is trained once for each seed, and all methods rank by its embeddings.

precision  precision@1, 4, 16 at the same number of candidates: queries among the training rows, and
           among each other; NMI of buckets and classes
flow       the time to find codes of 64 classes on two levels of 64 words
time       wall time of a query among a million rows, beside a scan of codes of 16 bytes of the same
           embeddings
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.harness import in_one_thread, paired_times, parser
from benchmarks.common.results import known, record, table
from benchmarks.retrieval.bucketings import BUCKETINGS
from benchmarks.retrieval.class_splits import Split, load
from deepq import DeepQuantIndex, HashTableIndex, TrainConfig, metrics, recipes
from deepq.encoders import Identity
from deepq.labels.compound_codes import compound_codes
from deepq.networks import ConvNet
from deepq.quantizers import ProductQuantizer

CASES = ("precision", "flow", "time")
KEY = ("case", "data", "method", "seed", "among", "wanted")
COLUMNS = ["case", "method", "seed", "among", "wanted", "speed_up", "P@1", "P@4", "P@16", "NMI"]
_RANKS = (1, 4, 16)
_EXHAUSTIVE = "exhaustive"
_SOUNDED = 8  # one query in so many finds out how many candidates to ask for
# Trained hash tables: levels, words, loss, and when classes get their codes.
TABLES: dict[str, dict[str, Any]] = {
    "1 x 1,024 words": {"levels": 1, "width": 1024},
    "2 x 32 words": {"levels": 2, "width": 32},
    "2 x 32 words, N-pair": {"levels": 2, "width": 32, "loss": "npair"},
    "2 x 32 words, N-pair by batch": {"levels": 2, "width": 32, "loss": "npair", "codes": "batch"},
    "1 x 64 words": {"levels": 1, "width": 64},  # for few classes
    "2 x 8 words": {"levels": 2, "width": 8},
}


def precision(options: argparse.Namespace, split: Split) -> Iterator[dict[str, Any]]:
    """Measure every method at every speed-up factor."""
    there = known(options.output, "hierarchical", KEY)
    for seed in options.seeds:
        first = trained(options, split, seed, options.first)
        # Of methods that put embeddings into buckets, these are the rows.
        embedded = split.encoded(first[0].embedder)
        for method in (_EXHAUSTIVE, *TABLES, *BUCKETINGS):
            if method not in (options.methods or [method]):
                continue
            row = {"case": "precision", "data": split.name, "method": method, "seed": seed}
            cases = list(itertools.product(("train", "query"), options.speed_ups))
            if method == _EXHAUSTIVE:
                cases = [("train", 1.0), ("query", 1.0)]
            if all((*row.values(), *case) in there for case in cases):
                continue
            own = split if method in TABLES else embedded
            index, more = first if method == options.first else made(options, own, seed, method)
            for among in ("train", "query"):
                index.reset()
                index.add(own.parts[among][0])
                for wanted in [w for a, w in cases if a == among]:
                    found = judged(index, own, among, wanted)
                    yield {**row, "among": among, "wanted": wanted, **found, **more}


def made(
    options: argparse.Namespace, split: Split, seed: int, method: str
) -> tuple[HashTableIndex, dict[str, float]]:
    """Make an empty table of one method, and what its training took."""
    if method in TABLES:
        return trained(options, split, seed, method)
    make, size = BUCKETINGS.get(method, BUCKETINGS["largest number"])
    z = split.parts["train"][0]
    start = time.process_time()
    index = make(Identity(z.shape[1]), z, seed, size)
    return index, {"train_cpu_s": time.process_time() - start}


def trained(
    options: argparse.Namespace, split: Split, seed: int, method: str
) -> tuple[HashTableIndex, dict[str, float]]:
    """Train a hash table; the metric network is that of the other ones with this seed."""
    path = options.work / f"{split.name}-{seed}"
    first = not path.exists()
    hasher = path.with_name(f"{path.name}.hasher")
    kept = path.with_name(f"{path.name}.{method.replace(' ', '_')}")
    hasher.unlink(missing_ok=True)
    if kept.exists():
        shutil.copy(kept, hasher)
    shape = split.shape if len(split.shape) == 3 else split.shape[0]
    training = TrainConfig(
        seed=seed, epochs=options.epochs, checkpoint=path, precision=options.precision
    )
    torch.manual_seed(seed)  # the checkpoint of the metric begins with the same weights
    backbone = ConvNet(shape, options.widths) if options.widths else None
    index = recipes.hierarchical(shape, backbone=backbone, training=training, **TABLES[method])
    start = time.process_time()
    index.train(*split.parts["train"])
    seconds = time.process_time() - start
    if kept.exists():  # from an earlier run, which took the time
        return index, {}
    shutil.copy(hasher, kept)
    return index, {"train_cpu_s": seconds, "with_metric": float(first)}


def judged(index: HashTableIndex, split: Split, among: str, wanted: float) -> dict[str, float]:
    """Measure precision at the number of candidates nearest to 1 / wanted of the rows."""
    (x, y), (_, labels) = split.parts["query"], split.parts[among]
    own = among == "query"
    I = at_share(index, x, max(_RANKS) + own, 1 / wanted)
    I = metrics.without_self(I) if own else I
    values = {f"P@{r}": float(metrics.precision_at(I, y, labels, r)) for r in _RANKS}
    nmi = metrics.normalized_mutual_information(index.bucket_ids(x), y)
    return {"speed_up": metrics.speed_up(index.candidates or 0), **values, "NMI": nmi}


def at_share(index: HashTableIndex, x: Any, k: int, share: float) -> NDArray[np.int64]:
    """Search so that a query looks at about a share of the rows, or at its own bucket's if more."""
    low, high = 0, index.ntotal
    if share >= 1:
        return np.asarray(index.search(x, k, min_candidates=high)[1])
    while high - low > max(1, index.ntotal // 2000):
        least = (low + high) // 2
        index.search(x[::_SOUNDED], k, min_candidates=least)
        low, high = (least, high) if (index.candidates or 0) < share else (low, least)
    return np.asarray(index.search(x, k, min_candidates=low)[1])


def flow(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Time the codes of 64 classes."""
    rng = np.random.default_rng(options.seeds[0])
    scores = rng.standard_normal((options.repeats, 64, 2, 64))
    for sparsity in (1, 3):
        seconds = []
        for each in scores:
            start = time.thread_time()
            compound_codes(each, sparsity)
            seconds.append(time.thread_time() - start)
        ms = 1000 * float(np.median(seconds))
        yield {"case": "flow", "method": f"sparsity {sparsity}", "ms": ms}


def timed(options: argparse.Namespace, split: Split) -> Iterator[dict[str, Any]]:
    """Time queries among many rows, the training rows again and again."""
    seed, (x, y) = options.seeds[0], split.parts["train"]
    copies = -(-options.rows // len(x))
    labels, queries, truth = np.tile(y, copies), *split.parts["query"]
    base = trained(options, split, seed, options.first)[0]
    metric = base.embedder
    scan = DeepQuantIndex(metric.d_in, 16, encoder=metric)
    scan.train(x)
    engines: dict[str, Any] = {"scan of 16 bytes": scan}
    quantizer = ProductQuantizer(16)
    quantizer.train(metric.encode(x), seed=seed)
    for kept, how in (("embeddings", "float32"), ("codes", quantizer)):
        engines[f"table of {kept}"] = HashTableIndex(
            metric, base.hasher, base.levels, base.width, kept=how
        )
    codes = scan.sa_encode(x)
    for _ in range(copies):
        scan.add_sa_codes(codes)
    for index in engines.values():
        if isinstance(index, HashTableIndex):
            _add_copies(index, x, copies)
    for nq in (1, 256):
        blocks = [queries[i : i + nq] for i in range(0, min(len(queries), 4 * nq + 60), nq)]
        calls = {name: _call(index, blocks) for name, index in engines.items()}
        for call in calls.values():
            call()
        seconds = paired_times(calls, options.repeats, time.perf_counter)
        count = sum(map(len, blocks))
        for name, index in engines.items():
            _, I = index.search(queries, 10)
            us = 1e6 * float(np.median(seconds[name])) / count
            base = np.array(seconds["scan of 16 bytes"]) / np.array(seconds[name])
            yield {
                "case": "time",
                "data": split.name,
                "method": name,
                "rows": len(labels),
                "nq": nq,
                "us_per_query": us,
                "x_scan": float(np.median(base)),
                "P@1": float(metrics.precision_at(I, truth, labels, 1)),
                "candidates": getattr(index, "candidates", 1.0),
            }


def _add_copies(index: HashTableIndex, x: Any, copies: int) -> None:
    """Store rows so many times, and encode them once."""
    index.add(x)
    rows = index._store.settled()
    for copy in range(1, copies):
        index._store.append([(rows.content, rows.ids + copy * len(x), rows.buckets)])


def _call(index: Any, blocks: list[Any]) -> Callable[[], Any]:
    return lambda: [index.search(block, 10) for block in blocks]


def main() -> None:
    """Measure every case asked for."""
    arguments = parser(__doc__ or "", CASES)
    arguments.add_argument("--work", type=Path, default=Path("metric"), help="folder of networks")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments.add_argument("--methods", nargs="+", help="default: all")
    arguments.add_argument("--widths", type=int, nargs="+", help="channels of a ConvNet's stages")
    arguments.add_argument("--epochs", type=int, help="of both networks (default: the recipe's)")
    arguments.add_argument("--precision", default="float32")
    arguments.add_argument(
        "--speed-ups", type=float, nargs="+", default=[25.0, 50.0, 100.0, 200.0, 400.0]
    )
    arguments.add_argument("--rows", type=int, default=1_000_000, help="of the case time")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.work, options.epochs, options.speed_ups = Path(tempfile.mkdtemp()), 1, [4.0]
        options.rows, options.repeats = 3000, 1
        for how in TABLES.values():
            how["width"] = min(how["width"], 64)
    options.work.mkdir(parents=True, exist_ok=True)
    options.first = next(name for name in TABLES if name in (options.methods or TABLES))
    split = load(options.data)
    if options.smoke:
        split = split.cut(700)
    found = []
    for case, rows in (
        ("precision", precision(options, split)),
        ("flow", flow(options)),
        ("time", timed(options, split)),
    ):
        for row in rows if case in options.case else ():
            record(options.output, {"benchmark": "hierarchical", **row})
            found.append(row)
            print(table([row]).splitlines()[-1], flush=True)
    print(table([row for row in found if row["case"] == "precision"], COLUMNS) if found else "")


if __name__ == "__main__":
    in_one_thread(main)
