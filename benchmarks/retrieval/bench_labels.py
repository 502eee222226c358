"""Training with labels on embeddings: retrieval by class, by tags, and of classes never seen.

    python -m benchmarks.retrieval.bench_labels --data text.npz --output results/labels.jsonl

The data set is an .npz with train, base, query and the labels of each; for tags also synset_row and
parent_row: the number of every row (query, base, train, in this order) and that of its hypernym. A
row's tags are its ancestors among the rows that at least `--least` training rows have.

ridge + PQ is what needs no network: a ridge regression of the labels, whose scores are quantized
and ranked by inner product. For unseen classes, a third of the classes is left out of training, and
queries and base are of these classes only.

The cases of objectives compare what the network of DQN may minimise, on training rows alone: some
are held out, or, for unseen classes, a third of the classes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.harness import in_one_thread, load, parser, run
from benchmarks.common.methods import opq
from deepq import objectives
from deepq.datasets import Dataset
from deepq.encoders import Affine
from deepq.metrics import mean_average_precision, precision_at

CASES = ("classes", "tags", "unseen", "objectives", "objectives, unseen")
COLUMNS = ["case", "split", "method", "bits", "mAP", "mAP@5000", "precision@10", "train_cpu_s"]
RIDGE = 10.0
_SPLITS = 3

Method = Callable[[Dataset, int, int], Any]


def no_labels(data: Dataset, bits: int, seed: int) -> Any:
    """Train faiss's OPQ from the identity."""
    index = opq(data.d, bits // 8, seed, identity=True)
    index.train(data.train)
    return index


def ridge(data: Dataset, bits: int, seed: int) -> Any:
    """Train a product quantizer on the scores of a ridge regression of the labels."""
    y = one_hot(data.train_labels)
    x, M = data.train.astype(np.float64), bits // 8
    middle = x.mean(axis=0)
    gram = (x - middle).T @ (x - middle) + RIDGE * np.eye(data.d)
    A = np.linalg.solve(gram, (x - middle).T @ y).T
    rows = -(-len(A) // M) * M - len(A)
    A = np.concatenate([A, np.zeros((rows, data.d))])
    b = np.concatenate([y.mean(axis=0), np.zeros(rows)]) - A @ middle
    config = deepq.TrainConfig(seed=seed, ranking=False)
    index = deepq.DeepQuantIndex(
        data.d, M, 8, faiss.METRIC_INNER_PRODUCT, encoder=Affine(A, b), training=config
    )
    index.train(data.train)
    return index


def dqn(data: Dataset, bits: int, seed: int) -> Any:
    """Train a deep quantization network."""
    index = deepq.recipes.dqn(data.d, bits, training=settings(seed))
    index.train(data.train, data.train_labels)
    return index


def class_codes(data: Dataset, bits: int, seed: int) -> Any:
    """Train a classifier, whose probabilities are quantized."""
    y = data.train_labels
    classes = y.shape[1] if y.ndim == 2 else len(np.unique(y))
    index = deepq.recipes.class_codes(data.d, bits, classes, training=settings(seed))
    index.train(data.train, y)
    return index


METHODS: dict[str, Method] = {
    "OPQ": no_labels,
    "ridge + PQ": ridge,
    "DQN": dqn,
    "class codes": class_codes,
}


def minimising(objective: objectives.Objective) -> Method:
    """Return a method: DQN's network, trained to minimise something."""

    def trained(data: Dataset, bits: int, seed: int) -> Any:
        index = deepq.recipes.dqn(data.d, bits, training=settings(seed))
        index.objective = objective
        index.train(data.train, data.train_labels)
        return index

    return trained


OBJECTIVES: dict[str, Method] = {
    type(objective).__name__: minimising(objective)
    for objective in (
        objectives.PairwiseCosine(),
        objectives.InnerProduct(),
        objectives.Contrastive(),
        objectives.TripletRanking(),
        objectives.Classification(),
        objectives.CosineSoftmax(),
    )
}


def settings(seed: int) -> deepq.TrainConfig:
    """Return the settings of every network here."""
    return deepq.TrainConfig(seed=seed, epochs=10, batch_size=256, learning_rate=3e-3)


def one_hot(y: NDArray[Any]) -> NDArray[np.float64]:
    """Classes as rows of one 1, tags as they are."""
    return y.astype(np.float64) if y.ndim == 2 else np.eye(y.max() + 1)[y]


# ---- data ----------------------------------------------------------------------------------------


def with_tags(data: Dataset, path: str, least: int) -> Dataset:
    """Label the rows with their ancestors; queries without any are left out."""
    with np.load(path, allow_pickle=False) as arrays:
        synsets, parents = arrays["synset_row"], arrays["parent_row"]
    row_of = {int(synset): row for row, synset in enumerate(synsets)}
    ancestors = []
    for parent in parents:
        found, at = [], int(parent)
        while at >= 0 and at not in found:
            found.append(at)
            at = int(parents[row_of[at]]) if at in row_of else -1
        ancestors.append(found)
    nq, nb = len(data.query), len(data.base)
    counts = Counter(tag for found in ancestors[nq + nb :] for tag in found)
    tags = {tag: i for i, tag in enumerate(t for t, n in counts.most_common() if n >= least)}
    y = np.zeros((len(ancestors), len(tags)), np.bool_)
    for row, found in enumerate(ancestors):
        y[row, [tags[tag] for tag in found if tag in tags]] = True
    query, base, train = np.split(y, [nq, nq + nb])
    kept = query.any(axis=1)
    return Dataset(
        data.name,
        data.train,
        data.base,
        data.query[kept],
        train_labels=train,
        base_labels=base,
        query_labels=query[kept],
    )


def unseen(data: Dataset, split: int) -> Dataset:
    """Leave a third of the classes out of training, and all others out of base and queries."""
    classes = np.unique(data.train_labels)
    order = np.random.default_rng(split).permutation(classes)
    new = order[: len(classes) // 3]
    train, base, query = (
        np.isin(y, new) for y in (data.train_labels, data.base_labels, data.query_labels)
    )
    dense = np.unique(data.train_labels[~train], return_inverse=True)[1]
    return Dataset(
        data.name,
        data.train[~train],
        data.base[base],
        data.query[query],
        train_labels=dense,
        base_labels=data.base_labels[base],
        query_labels=data.query_labels[query],
    )


def cases(options: Any, data: Dataset) -> Iterator[tuple[str, int, Dataset]]:
    """Yield the name of each case asked for, the number of its split, and its data."""
    if "classes" in options.case:
        yield "classes", 0, data
    if "tags" in options.case and options.data:
        yield "tags", 0, with_tags(data, options.data, options.least)
    if "unseen" in options.case:
        for split in range(_SPLITS):
            yield "unseen", split, unseen(data, split)
    if "objectives" in options.case:
        yield "objectives", 0, held_out(data)
    if "objectives, unseen" in options.case:
        yield "objectives, unseen", 0, unseen(held_out(data), 0)


def held_out(data: Dataset) -> Dataset:
    """Take base and queries from the training rows: three tenths of them, a tenth of these ask."""
    order = np.random.default_rng(0).permutation(len(data.train))
    ask, base, train = np.split(order, [3 * len(order) // 100, 3 * len(order) // 10])
    x, y = data.train, data.train_labels
    return Dataset(
        data.name,
        x[train],
        x[base],
        x[ask],
        train_labels=y[train],
        base_labels=y[base],
        query_labels=y[ask],
    )


# ---- figures -------------------------------------------------------------------------------------


def measured(options: Any, data: Dataset) -> Iterator[dict[str, Any]]:
    """Train every method for every case, and rank the whole base for all queries."""
    for case, split, part in cases(options, data):
        methods = {name: METHODS[name] for name in options.methods}
        for name, method in (OBJECTIVES if case.startswith("objectives") else methods).items():
            for bits in options.bits:
                start = time.process_time()
                index = method(part, bits, options.seed)
                seconds = time.process_time() - start
                yield {
                    "data": data.name,
                    "case": case,
                    "split": split,
                    "method": name,
                    "bits": bits,
                    **judged(index, part),
                    "train_cpu_s": seconds,
                }


def judged(index: Any, data: Dataset) -> dict[str, float]:
    """Rank the whole base."""
    index.add(data.base)
    I = index.search(data.query, len(data.base))[1]
    labels = data.query_labels, data.base_labels
    top = min(5000, len(data.base))
    return {
        "mAP": mean_average_precision(I, *labels),
        "mAP@5000": mean_average_precision(I, *labels, top=top),
        "precision@10": float(precision_at(I, *labels, 10)),
    }


def tiny() -> Dataset:
    """Return some clusters."""
    rng = np.random.default_rng(0)
    parts = []
    centres = rng.standard_normal((6, 32))
    for n in (700, 200, 20):
        y = np.arange(n) % 6
        x = centres[y] + 0.7 * rng.standard_normal((n, 32))
        parts.append((x.astype(np.float32), y))
    (train, a), (base, b), (query, c) = parts
    return Dataset("tiny", train, base, query, train_labels=a, base_labels=b, query_labels=c)


def main() -> None:
    """Compare the methods in every case asked for."""
    arguments = parser(__doc__ or "", CASES)
    arguments.add_argument("--bits", type=int, nargs="+", default=[128])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument("--least", type=int, default=50, help="training rows that a tag has")
    options = arguments.parse_args()
    if options.smoke:
        options.bits, options.data = [16], None
    data = tiny() if options.smoke or not options.data else load(options.data)
    run(options, "labels", measured(options, data), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
