"""What deep hashing takes and how its settings matter, on training images that are held out.

    python -m benchmarks.retrieval.bench_hashing --data cifar-10-python.tar.gz --work trunks \
        --output results/hashing.jsonl

Nine tenths of DQN's 5,000 training images train, from a trunk that has seen no others; mAP is that
of the rest, each a query among the others. `bench_retrieval` has the figures of the queries.

time      mAP by CPU seconds: pairs (DSH), triplets (DNNH, also of one layer), inferred codes (FTBE)
grid      mAP of DSH by margin and weight of the pull to +-1
outputs   distribution of the outputs of DSH's network, by weight of the pull, and with a sigmoid
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common.harness import in_one_thread, parser
from benchmarks.common.results import known, record, table
from benchmarks.retrieval.axes import EDGES, EPOCHS, MARGINS, PULLS, SHOWN_PULLS, TIMED
from benchmarks.retrieval.bench_retrieval import HASHING, tiny
from benchmarks.retrieval.images import load
from benchmarks.retrieval.judge import Protocol, among, protocol
from benchmarks.retrieval.trunk import settings, trunk
from benchmarks.retrieval.tuning import held_out
from deepq.datasets import ImageSet

CASES = ("time", "grid", "outputs")
KEY = ("case", "data", "method", "bits", "epochs", "rate", "margin", "pull", "seed")
COLUMNS = ["case", "method", "epochs", "rate", "margin", "pull", "mAP", "train_cpu_s"]
_GRID_EPOCHS = 4


def measured(options: argparse.Namespace, images: ImageSet) -> Iterator[dict[str, Any]]:
    """Measure what was asked for, and leave out what is there already."""
    there = known(options.output, "hashing", KEY)
    seed, bits = options.seed, options.bits
    split, x, y = held_out(protocol("5000", images, options.queries, options.training, seed), seed)
    body = trunk(options, split, images.train.shape[1:], seed)
    for trial in trials(options):
        row = {"benchmark": "hashing", "data": images.name, "bits": bits, "seed": seed}
        row |= {"rate": options.rate, **trial}
        if tuple(row.get(field) for field in KEY) in there:
            continue
        start = time.process_time()
        index = trained(options, split, body, trial)
        row["train_cpu_s"] = time.process_time() - start
        if trial["case"] == "outputs":
            z = np.clip(index.encoder.members[0].encode(x), EDGES[0], EDGES[-1])
            row["histogram"] = np.histogram(z, EDGES)[0].tolist()
        yield {**row, "mAP": among(index, x, y)}


def trials(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what is to be measured."""
    if "time" in options.case:
        for epochs, method in itertools.product(options.timed_epochs, TIMED):
            yield {"case": "time", "method": method, "epochs": epochs}
    if "grid" in options.case:
        for margin, pull in itertools.product(MARGINS, PULLS):
            dsh = {"method": "DSH", "epochs": _GRID_EPOCHS}
            yield {"case": "grid", **dsh, "margin": margin, "pull": pull}
    if "outputs" in options.case:
        outputs = {"case": "outputs", "epochs": _GRID_EPOCHS}
        for pull in SHOWN_PULLS:
            yield {**outputs, "method": "DSH", "pull": pull}
        yield {**outputs, "method": "DSH, sigmoid"}


def trained(
    options: argparse.Namespace, split: Protocol, body: torch.nn.Module, trial: dict[str, Any]
) -> Any:
    """Train one method from the trunk on."""
    chosen = {name: trial[name] for name in ("margin", "pull") if name in trial}
    if "margin" in chosen:
        chosen["margin"] *= options.bits
    index = HASHING[trial["method"]](
        body.input_shape,
        options.bits,
        backbone=body,
        precision=options.precision,
        training=settings(options, options.seed, epochs=trial["epochs"], rate=options.rate),
        **chosen,
    )
    index.train(split.data.train, split.data.train_labels)
    return index


def main() -> None:
    """Measure every case asked for."""
    arguments = parser(__doc__ or "", CASES)
    arguments.set_defaults(seed=1)
    arguments.add_argument("--work", type=Path, default=Path("trunks"), help="folder of trunks")
    arguments.add_argument("--bits", type=int, default=48)
    arguments.add_argument("--queries", type=int, default=100, help="of each class, left alone")
    arguments.add_argument("--training", type=int, default=500, help="images of each class")
    arguments.add_argument("--backbone", default="convnet")
    arguments.add_argument("--trunk-epochs", type=int, default=100)
    arguments.add_argument("--trunk-rate", type=float, default=6e-3)
    arguments.add_argument("--timed-epochs", type=int, nargs="+", default=EPOCHS)
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--precision", default="bfloat16")
    options = arguments.parse_args()
    images = tiny() if options.smoke else load(Path(options.data))
    if options.smoke:
        options.queries, options.training, options.bits = 2, 150, 16
        options.trunk_epochs, options.timed_epochs = 1, [1]
        options.work = Path(tempfile.mkdtemp())
    options.work.mkdir(parents=True, exist_ok=True)
    found = []
    for row in measured(options, images):
        record(options.output, row)
        found.append(row)
        print(table([row], COLUMNS).splitlines()[-1], flush=True)
    print(table(found, COLUMNS))


if __name__ == "__main__":
    in_one_thread(main)
