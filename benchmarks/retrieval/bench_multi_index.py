"""The inverted multi-index for deep quantization: what to learn together, and what apart.

    python -m benchmarks.retrieval.bench_multi_index --data cifar-10-python.tar.gz --work trunks \
        --output benchmarks/results/multi_index.jsonl
    python -m benchmarks.retrieval.bench_multi_index --data text.npz \
        --output benchmarks/results/multi_index.jsonl

A vector's cell and the words of its residual are learned in three ways:

    apart     the network alone, as for a scan of all codes; then centres, then codebooks
    by turns  the same network; then centres and codebooks move by turns
    together  the network learns with both, towards centre and codeword of every row

of an inverted multi-index (Babenko & Lempitsky, CVPR 2012) and of cells of k-means, as many of
them, beside a scan of all codes of as many bytes. Images and labelled vectors have a deep
quantization network, judged by mAP; others, and with --no-labels, none, judged by 10-recall@10.
For every number of cells looked into: the share of the codes that are looked at, the measure,
with what was not looked at counted as not found, and CPU time of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.harness import in_one_thread, load, parser, run
from benchmarks.retrieval.bench_retrieval import tiny
from benchmarks.retrieval.images import load as load_images
from benchmarks.retrieval.judge import protocol
from benchmarks.retrieval.trunk import settings, trunk
from benchmarks.retrieval.two_levels import cells_of, index_of
from deepq import recipes
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2, Floats
from deepq.datasets import Dataset
from deepq.labels.supervision import as_supervision
from deepq.metrics import average_precision, recall
from deepq.quantizers import ProductQuantizer
from deepq.training.cells import TwoLevels
from deepq.training.checkpoint import Checkpoint
from deepq.training.network import NetworkTraining
from deepq.training.progress import Report
from deepq.training.rows import Inputs
from deepq.training.run import Run

COLUMNS = ["data", "cells", "learned", "seed", "nprobe", "share", "measure", "of_all", "us"]
_TURNS, _TIMED, _TOP = 10, 5, 5000


class Sets(NamedTuple):
    """Embeddings (n, width) of training rows, base and queries."""

    train: Floats
    base: Floats
    query: Floats


class Setting(NamedTuple):
    """What is compared: a data set, the network it starts from, and the lengths of codes."""

    options: argparse.Namespace
    data: Dataset
    body: Any
    seed: int

    @property
    def metric(self) -> int:
        """Inner products for a network, whose embeddings are longer the surer it is."""
        return METRIC_L2 if self.body is None else METRIC_INNER_PRODUCT

    def embedded(self, towards: ProductQuantizer) -> Sets:
        """Train the network towards a quantizer, which learns with it; embed all sets."""
        data, options = self.data, self.options
        if self.body is None:
            return Sets(data.train, data.base, data.query)
        config = settings(options, self.seed, epochs=options.epochs, rate=options.rate)
        encoder = recipes.dqn(
            getattr(self.body, "input_shape", data.d),
            options.bits,
            backbone=self.body,
            width=options.width,
            training=config,
        ).encoder
        objective = deepq.objectives.PairwiseCosine(
            options.weight, 0.6 * isinstance(self.body, str)
        )
        with Report(False, None) as report:
            NetworkTraining(
                encoder,
                towards,
                Inputs(data.train),
                as_supervision(data.train_labels, len(data.train)),
                objective,
                Run(config, self.metric, report),
                Checkpoint(None, {}),
            ).run()
        parts = (np.array_split(x, 1 + len(x) // 4096) for x in (data.train, data.base, data.query))
        return Sets(*(np.concatenate([encoder.encode(rows) for rows in part]) for part in parts))

    def measure(self, I: NDArray[np.int64]) -> float:
        """Return the mAP of the first 5,000 results with labels, else 10-recall@10."""
        data = self.data
        if self.body is None:
            return recall(I, data.neighbours(10), 10, 10)
        labels = data.query_labels, data.base_labels
        return float(average_precision(I, *labels, top=self.depth).mean())

    @property
    def depth(self) -> int:
        """How many results are judged."""
        return 10 if self.body is None else min(_TOP, len(self.data.base))


def compared(setting: Setting) -> Iterator[dict[str, Any]]:
    """Train and judge all ways, beside a scan of all codes."""
    options, M = setting.options, setting.options.bits // 8
    row = {"data": setting.data.name, "bits": options.bits, "seed": setting.seed}
    flat = ProductQuantizer(M, 8)
    sets = setting.embedded(flat)
    flat = ProductQuantizer(M, 8)
    flat.train(sets.train, seed=setting.seed)
    scan = deepq.DeepQuantIndex.from_codebooks(flat.codebooks, metric=setting.metric)
    scan.add(sets.base)
    whole = judged(setting, scan, sets.query)
    yield {**row, "cells": "none", "learned": "", "share": 1.0, **whole}
    for kind in ("imi", "kmeans"):
        for learned in ("apart", "by turns", "together"):
            if learned == "together" and setting.body is None:
                continue
            two = TwoLevels(cells_of(kind, options.cell_bits), ProductQuantizer(M, 8))
            own = setting.embedded(two) if learned == "together" else sets
            turns = 0 if learned == "apart" else _TURNS
            two.train(own.train, iterations=turns, seed=setting.seed)
            index = index_of(two, setting.metric)
            index.add(own.base)
            sizes = np.array([index.get_list_size(cell) for cell in range(index.nlist)])
            about = {**row, "cells": kind, "learned": learned, "error": two.error(own.base)}
            for nprobe in options.nprobe:
                index.nprobe = min(nprobe, index.nlist)
                looked = index.quantizer.search(own.query, index.nprobe)[1]
                share = float(sizes[looked].sum(axis=1).mean() / index.ntotal)
                figures = judged(setting, index, own.query)
                of_all = figures["measure"] / whole["measure"]
                yield {**about, "nprobe": nprobe, "share": share, "of_all": of_all, **figures}


def judged(setting: Setting, index: Any, queries: Floats) -> dict[str, Any]:
    """Return the measure of an index, and microseconds a query for ten results."""
    found = [index.search(block, setting.depth) for block in np.array_split(queries, 10)]
    I = np.concatenate([ids for _, ids in found])
    seconds = []
    for _ in range(_TIMED):
        start = time.thread_time()
        index.search(queries, 10)
        seconds.append(time.thread_time() - start)
    return {"measure": setting.measure(I), "us": median(seconds) / len(queries) * 1e6}


def settings_of(options: argparse.Namespace) -> Iterator[Setting]:
    """Yield what to compare on the data that was asked for, for every seed."""
    images = options.smoke or (options.data and "cifar" in Path(options.data).name)
    for seed in options.seeds:
        if images:
            source = tiny() if options.smoke else load_images(Path(options.data))
            split = protocol("5000", source, options.queries, options.training, seed)
            shape = source.train.shape[1:]
            yield Setting(options, split.data, trunk(options, split, shape, seed), seed)
        else:
            data = load(options.data)
            labelled = options.labels and data.train_labels is not None
            yield Setting(options, data, "mlp" if labelled else None, seed)


def main() -> None:
    """Compare on one data set."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--work", type=Path, default=Path("trunks"), help="folder of trunks")
    arguments.add_argument("--labels", action=argparse.BooleanOptionalAction, default=True)
    arguments.add_argument("--bits", type=int, default=24)
    arguments.add_argument("--cell-bits", type=int, default=8, help="log2 of the cells")
    arguments.add_argument("--nprobe", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 256])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1])
    arguments.add_argument("--queries", type=int, default=100, help="of each class")
    arguments.add_argument("--training", type=int, default=500, help="images of each class")
    arguments.add_argument("--backbone", default="convnet")
    arguments.add_argument("--trunk-epochs", type=int, default=100)
    arguments.add_argument("--trunk-rate", type=float, default=6e-3)
    arguments.add_argument("--epochs", type=int, default=8)
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--weight", type=float, default=0.02, help="lambda")
    arguments.add_argument("--width", type=int, default=48)
    arguments.add_argument("--precision", default="bfloat16")
    options = arguments.parse_args()
    if options.smoke:
        options.queries, options.training, options.trunk_epochs, options.epochs = 2, 150, 1, 1
        options.nprobe, options.cell_bits, options.work = [1, 4], 4, Path(tempfile.mkdtemp())
    options.work.mkdir(parents=True, exist_ok=True)
    rows = (row for setting in settings_of(options) for row in compared(setting))
    run(options, "multi index", rows, COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
