"""Retrieval by class: the rows of DQN's table, trained and judged on labelled images.

    python -m benchmarks.retrieval.bench_retrieval --data cifar-10-python.tar.gz --work trunks \
        --output results/retrieval.jsonl

Three protocols. "5000" is DQN's: 5,000 training images, 1,000 queries, a database of 59,000 images
with the training images in it, or of 54,000 without them; mAP over the whole database. "full": the
training part is training set and database, the test part asks. "unseen": three of ten classes are
looked for, and the training images are of the others; OPQ, which knows no classes, is beside.

For every seed a classifier is trained once, the trunk, and kept in the folder `--work`. All methods
start from it, and each is trained on, end to end. `--tune` holds out a tenth of the training images
and measures these instead of the queries, for a choice of settings: see `tuning`.
Results that the output file has already are not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.common.harness import in_one_thread, parser
from benchmarks.common.results import known, record, table
from benchmarks.retrieval.baselines import BASELINES
from benchmarks.retrieval.images import load
from benchmarks.retrieval.judge import Protocol, judged, protocol
from benchmarks.retrieval.trunk import settings, trunk
from benchmarks.retrieval.tuning import SETTINGS, tuned
from deepq import recipes
from deepq.datasets import ImageSet

COLUMNS = ["method", "bits", "seed", "mAP", "mAP_without_training", "float_mAP", "train_cpu_s"]
KEY = ("data", "protocol", "backbone", "method", "bits", "seed")
RECIPES: dict[str, Callable[..., Any]] = {
    "DQN": recipes.dqn,
    "DQN_2+": recipes.dqn_two_step,
    "DQN_ip": recipes.dqn_ip,
    "class codes": recipes.class_codes,
}
HASHING: dict[str, Callable[..., Any]] = {
    "KSH-D": recipes.ksh,
    "CNNH": recipes.cnnh,
    "CNNH+": recipes.cnnh,
    "DNNH": recipes.dnnh,
    "DNNH, one layer": partial(recipes.dnnh, divided=False),
    "DSH": recipes.dsh,
    "DSH, pull 0.1": partial(recipes.dsh, pull=0.1),
    "DSH, sigmoid": partial(recipes.dsh, sigmoid=True),
    "FTBE": recipes.ftbe,
    "OrthoHash": recipes.orthohash,
    "CSQ": recipes.csq,
}
WITH_CLASSES = ("class codes", "CNNH+")
DEFAULTS = {
    "5000": list(RECIPES),
    "full": ["DQN", "class codes"],
    "unseen": ["DQN", "class codes", "OPQ of pixels", "OPQ of features"],
}


def measured(options: argparse.Namespace, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Train and judge what was asked for, and leave out what is there already."""
    shape = images.train.shape[1:]
    there = known(options.output, "retrieval", KEY)
    for seed in options.seeds:
        split = protocol(options.protocol, images, options.queries, options.training, seed)
        for bits, method in itertools.product(options.bits, options.methods):
            row = {"data": images.name, "protocol": split.name, "backbone": options.backbone}
            row |= {"method": method, "bits": bits, "seed": seed}
            if tuple(row[field] for field in KEY) in there:
                continue
            body = trunk(options, split, shape, seed)
            if method in BASELINES:
                yield {**row, **BASELINES[method](split, bits, body, seed)}
            else:
                yield {**row, **trained(options, split, method, bits, body, seed)}


def trained(
    options: argparse.Namespace,
    split: Protocol,
    method: str,
    bits: int,
    body: torch.nn.Module,
    seed: int,
) -> dict[str, Any]:
    """Train one method from the trunk on, end to end, and judge it."""
    begin = time.process_time()
    chosen: dict[str, Any] = {"classes": split.classes} if method in WITH_CLASSES else {}
    if method.startswith("DQN"):
        chosen = {"metric": faiss.METRIC_INNER_PRODUCT, "width": options.width}
        if method != "DQN_2+":
            chosen["quantization_weight"] = options.weight
    index = {**RECIPES, **HASHING}[method](
        body.input_shape,
        bits,
        backbone=body,
        mirrored=options.mirrored,
        precision=options.precision,
        training=settings(options, seed, epochs=options.epochs, rate=options.rate),
        **chosen,
    )
    index.train(split.data.train, split.data.train_labels)
    row = {"train_cpu_s": time.process_time() - begin, "mirrored": options.mirrored}
    row |= {"epochs": options.epochs, "rate": options.rate, **chosen}
    return {**row, **judged(index, split.data, split.is_training_row)}


def main() -> None:
    """Measure every method, length and seed asked for, or tune."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--work", type=Path, default=Path("trunks"), help="folder of trunks")
    arguments.add_argument("--protocol", choices=list(DEFAULTS), default="5000")
    arguments.add_argument("--tune", action="store_true", help="measure settings, not methods")
    arguments.add_argument("--methods", nargs="+", choices=[*RECIPES, *HASHING, *BASELINES])
    arguments.add_argument("--bits", type=int, nargs="+", default=[12, 24, 32, 48])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--queries", type=int, default=100, help="of each class")
    arguments.add_argument("--training", type=int, default=500, help="images of each class")
    arguments.add_argument("--backbone", default="convnet", help='or "resnet-DEPTH"')
    arguments.add_argument("--trunk-epochs", type=int, default=100)
    arguments.add_argument("--trunk-rate", type=float, default=6e-3)
    arguments.add_argument("--epochs", type=int, default=8, help="of a method, from the trunk on")
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--weight", type=float, default=0.02, help="lambda")
    arguments.add_argument("--width", type=int, default=48)
    arguments.add_argument("--mirrored", action="store_true", help="embed mirror images as well")
    arguments.add_argument("--precision", default="bfloat16")
    options = arguments.parse_args()
    options.methods = options.methods or DEFAULTS[options.protocol]
    images = tiny() if options.smoke else load(Path(options.data))
    if options.smoke:
        options.queries, options.training, options.seeds, options.bits = 2, 150, [1], [12]
        options.trunk_epochs = options.epochs = 1
        options.work = Path(tempfile.mkdtemp())
    options.work.mkdir(parents=True, exist_ok=True)
    rows, benchmark, columns = measured(options, images), "retrieval", COLUMNS
    if options.tune:
        rows, benchmark, columns = tuned(options, images), "retrieval settings", SETTINGS
    found = []
    for row in rows:
        record(options.output, {"benchmark": benchmark, **row})
        found.append(row)
        print(table([row], columns).splitlines()[-1], flush=True)
    print(table(found, columns))


def tiny() -> ImageSet:
    """Return a few coloured squares of three classes."""
    rng = np.random.default_rng(0)

    def part(n: int) -> tuple[Any, Any]:
        y = np.arange(n) % 3
        x = rng.integers(0, 128, (n, 3, 16, 16))
        x[np.arange(n), y] += 100
        return x.astype(np.uint8), y

    return ImageSet("tiny", *part(600), *part(30))


if __name__ == "__main__":
    in_one_thread(main)
