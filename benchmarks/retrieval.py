"""Retrieval by class: the rows of DQN's table, trained and judged on labelled images.

    python benchmarks/retrieval.py --data cifar-10-python.tar.gz --work trunks \
        --output results/retrieval.jsonl

The protocol is DQN's: 5,000 training images, 1,000 queries, a database of 59,000 images with the
training images in it, or of 54,000 without them; mAP over the whole database. `--full` takes all
images instead: the training part is database and training set, the test part the queries.

For every seed a classifier is trained once, the trunk, and kept in the folder `--work`. All methods
start from it, and each is trained on, end to end. `--tune` holds out a tenth of the training images
and measures these instead of the queries, for a grid of settings. Results that the output file has
already are not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from harness import known, parser, record, table
from images import load
from numpy.typing import NDArray

import deepq
from deepq._device import seeded
from deepq.datasets import Dataset, ImageSet, retrieval_protocol
from deepq.metrics import average_precision, precision_at, precision_recall_curve
from deepq.quantizers import METRIC_INNER_PRODUCT

Recipe = Callable[..., Any]

COLUMNS = ["method", "bits", "seed", "mAP", "mAP_without_training", "float_mAP", "train_cpu_s"]
KEY = ("data", "protocol", "backbone", "method", "bits", "seed")
TOPS = (1, 10, 100, 500, 1000, 5000)
LEVELS = tuple(np.linspace(0, 1, 21).round(2).tolist())
GRID = {
    "quantization_weight": (0.0, 0.02, 0.1, 0.5),
    "width": (24, 48, 96),
    "learning_rate": (0.5e-3, 1e-3, 2e-3),
}
_QUERIES_AT_ONCE = 100
_TRUNK_BITS = 48  # of the index that a trunk is kept in
_BATCH = 250


METHODS: dict[str, Recipe] = {
    "DQN": deepq.recipes.dqn,
    "DQN_2+": deepq.recipes.dqn_two_step,
    "DQN_ip": deepq.recipes.dqn_ip,
    "class codes": deepq.recipes.class_codes,
}


# ---- trunk ---------------------------------------------------------------------------------------


def trunk(options: argparse.Namespace, data: Dataset, shape: Any, classes: int, seed: int) -> Any:
    """Train a classifier, or read it where that has been done; return its index."""
    protocol = "full" if options.full else "5000"
    name = f"{data.name}-{protocol}-{options.backbone}-{options.trunk_epochs}-{seed}.dpq"
    path = options.work / name
    if path.exists():
        return deepq.read_index(path)
    config = settings(options, seed, epochs=options.trunk_epochs, rate=options.trunk_rate)
    body = backbone(options.backbone, shape, seed)
    index = deepq.recipes.class_codes(shape, _TRUNK_BITS, classes, backbone=body, training=config)
    index.verbose = True
    start = time.process_time()
    index.train(data.train, data.train_labels)
    row = {"benchmark": "trunk", "data": data.name, "protocol": protocol, "seed": seed}
    row |= {"backbone": options.backbone, "epochs": options.trunk_epochs}
    row["train_cpu_s"] = time.process_time() - start
    record(options.output, row)
    deepq.write_index(index, path)
    return index


def backbone(name: str, shape: Any, seed: int) -> torch.nn.Module:
    """Make a backbone: "convnet", or "resnet-DEPTH"; its weights follow the seed."""
    with seeded(seed):
        if name == "convnet":
            return deepq.networks.ConvNet(shape)
        return deepq.networks.ResNet(shape, int(name.removeprefix("resnet-")))


def settings(
    options: argparse.Namespace, seed: int, *, epochs: int, rate: float
) -> deepq.TrainConfig:
    """Return the settings of one training."""
    return deepq.TrainConfig(
        seed=seed,
        epochs=epochs,
        learning_rate=rate,
        batch_size=_BATCH,
        validation=0.0,
        precision=options.precision,
    )


# ---- rows ----------------------------------------------------------------------------------------


def measured(options: argparse.Namespace, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Train and judge what was asked for, and leave out what is there already."""
    data = (
        retrieval_protocol(images, None, None)
        if options.full
        else retrieval_protocol(images, options.queries, options.training)
    )
    shape, classes = images.train.shape[1:], len(np.unique(images.train_labels))
    there = known(options.output, "retrieval", KEY)
    training = learnt(images, data, options)
    for seed, name, bits in itertools.product(options.seeds, options.methods, options.bits):
        protocol = "full" if options.full else "5000"
        row = {"data": data.name, "protocol": protocol, "backbone": options.backbone}
        row |= {"method": name, "bits": bits, "seed": seed}
        if tuple(row[field] for field in KEY) in there:
            continue
        start = trunk(options, data, shape, classes, seed)
        begin = time.process_time()
        chosen = arguments(options, name, classes)
        index = METHODS[name](
            shape,
            bits,
            backbone=start.encoder.network.backbone,
            mirrored=True,
            training=settings(options, seed, epochs=options.epochs, rate=options.rate),
            **chosen,
        )
        index.train(data.train, data.train_labels)
        row["train_cpu_s"] = time.process_time() - begin
        row |= {"epochs": options.epochs, "rate": options.rate, **chosen}
        yield {**row, **judged(index, data, training)}


def arguments(options: argparse.Namespace, name: str, classes: int) -> dict[str, Any]:
    """Return what a recipe takes besides shape, bits and backbone."""
    if name == "class codes":
        return {"classes": classes}
    if name == "DQN_2+":
        return {"width": options.width}
    return {"width": options.width, "quantization_weight": options.weight}


def learnt(images: ImageSet, data: Dataset, options: argparse.Namespace) -> NDArray[np.bool_]:
    """Return which rows of the base are training rows; none where they are the whole base."""
    rows = np.zeros(len(data.base), np.bool_)
    for label in [] if options.full else np.unique(images.train_labels):
        rows[np.flatnonzero(images.train_labels == label)[: options.training]] = True
    return rows


def judged(index: Any, data: Dataset, training: NDArray[np.bool_]) -> dict[str, Any]:
    """Rank the whole base for every query, by codes and by embeddings."""
    encoder, quantizer = index.encoder, index.quantizer
    z = np.concatenate([encoder.encode(rows) for rows in np.array_split(data.base, 20)])
    index.add_sa_codes(quantizer.encode(z))  # as `add` does, without encoding the images again
    codes = _judged(lambda q: index.search(q, len(z))[1], data.query, data, training)
    flat = faiss.IndexFlat(encoder.d_out, index.metric_type)
    flat.add(z)
    exact = _judged(lambda q: flat.search(encoder.encode(q), len(z))[1], data.query, data, training)
    return {**codes, "float_mAP": exact["mAP"], "metric": _metric(index)}


def _metric(index: Any) -> str:
    return "inner product" if index.metric_type == METRIC_INNER_PRODUCT else "L2"


def _judged(
    search: Callable[[Any], Any], queries: Any, data: Dataset, training: NDArray[np.bool_]
) -> dict[str, Any]:
    found: dict[str, list[Any]] = {"mAP": [], "mAP_without_training": [], "top": [], "curve": []}
    place, rest = np.cumsum(~training) - 1, data.base_labels[~training]
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        block = slice(first, first + _QUERIES_AT_ONCE)
        I, labels = search(queries[block]), (data.query_labels[block], data.base_labels)
        found["mAP"].append(average_precision(I, *labels))
        if training.any():
            apart = place[I[~training[I]].reshape(len(I), -1)]
            found["mAP_without_training"].append(average_precision(apart, labels[0], rest))
        tops = [top for top in TOPS if top <= I.shape[1]]
        found["top"].append(precision_at(I, *labels, tops) * len(I))
        found["curve"].append(precision_recall_curve(I, *labels, levels=LEVELS)[0] * len(I))
    row: dict[str, Any] = {
        name: float(np.concatenate(found[name]).mean())
        for name in ("mAP", "mAP_without_training")
        if found[name]
    }
    n = len(queries)
    row["precision_at"] = dict(zip(map(str, tops), (sum(found["top"]) / n).tolist(), strict=True))
    row["precision_at_recall"] = (sum(found["curve"]) / n).tolist()
    return row


# ---- choice of settings --------------------------------------------------------------------------


def tuned(options: argparse.Namespace, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Measure DQN at 24 bits over a grid, one setting changed at a time.

    The trunk and the rows learn from nine tenths of the training images; the history's last entry
    has the joint loss, and the mAP of the others.
    """
    data = retrieval_protocol(images, options.queries, options.training)
    shape, classes = images.train.shape[1:], len(np.unique(images.train_labels))
    order = np.random.default_rng(options.seeds[0]).permutation(len(data.train))
    held, kept = np.split(order, [len(order) // 10])
    x, y = data.train[kept], data.train_labels[kept]
    part = Dataset(f"{data.name}-tuning", x, data.train[held], data.train[held], train_labels=y)
    start = trunk(options, part, shape, classes, options.seeds[0])
    chosen = {
        "quantization_weight": options.weight,
        "width": options.width,
        "learning_rate": options.rate,
    }
    trials = [chosen]
    trials += [
        {**chosen, name: value}
        for name, values in GRID.items()
        for value in values
        if value != chosen[name]
    ]
    for trial in trials:
        config = settings(
            options, options.seeds[0], epochs=options.epochs, rate=trial["learning_rate"]
        )
        index = deepq.recipes.dqn(
            shape,
            24,
            backbone=start.encoder.network.backbone,
            width=trial["width"],
            quantization_weight=trial["quantization_weight"],
            training=config,
        )
        index.train(x, y)
        row = {"data": data.name, "method": "DQN", **trial, "epochs": options.epochs}
        yield {**row, "loss": _last(index.history, "loss"), "mAP": among(index, data, held)}


def among(index: Any, data: Dataset, held: NDArray[Any]) -> float:
    """Return the mAP of held-out rows, each a query among all of them."""
    index.add(data.train[held])
    I = index.search(data.train[held], len(held))[1]
    labels = data.train_labels[held]
    return float(average_precision(I, labels, labels).mean())


def _last(history: list[dict[str, Any]], measure: str) -> float:
    return next(entry[measure] for entry in reversed(history) if measure in entry)


def main() -> None:
    """Measure every method, length and seed asked for, or tune."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--work", type=Path, default=Path("trunks"), help="folder of trunks")
    arguments.add_argument("--full", action="store_true", help="train on the whole training part")
    arguments.add_argument("--tune", action="store_true", help="measure settings, not methods")
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument("--bits", type=int, nargs="+", default=[12, 24, 32, 48])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    arguments.add_argument("--queries", type=int, default=100, help="of each class")
    arguments.add_argument("--training", type=int, default=500, help="images of each class")
    arguments.add_argument("--backbone", default="convnet", help='or "resnet-DEPTH"')
    arguments.add_argument("--trunk-epochs", type=int, default=100)
    arguments.add_argument("--trunk-rate", type=float, default=6e-3)
    arguments.add_argument("--epochs", type=int, default=12, help="of a method, from the trunk on")
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--weight", type=float, default=0.02, help="lambda")
    arguments.add_argument("--width", type=int, default=48)
    arguments.add_argument("--precision", default="bfloat16")
    options = arguments.parse_args()
    images = tiny() if options.smoke else load(Path(options.data))
    if options.smoke:
        options.queries, options.training, options.seeds, options.bits = 2, 100, [1], [12]
        options.trunk_epochs = options.epochs = 1
        options.work = Path(tempfile.mkdtemp())
    options.work.mkdir(parents=True, exist_ok=True)
    if options.tune:
        rows, benchmark, columns = (
            tuned(options, images),
            "retrieval settings",
            [*GRID, "mAP"],
        )
    else:
        rows, benchmark, columns = measured(options, images), "retrieval", COLUMNS
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

    return ImageSet("tiny", *part(300), *part(30))


if __name__ == "__main__":
    main()
