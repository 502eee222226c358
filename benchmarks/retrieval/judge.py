"""How an index of labelled rows is judged: every query ranks the whole base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.retrieval.axes import LEVELS, TOPS
from deepq.datasets import Dataset, ImageSet, retrieval_protocol
from deepq.metrics import average_precision, precision_at, precision_recall_curve
from deepq.quantizers import METRIC_INNER_PRODUCT, BinaryQuantizer

UNSEEN = 3  # classes in ten that a training does not see, and that are looked for
_QUERIES_AT_ONCE = 100

Search = Callable[[Any], tuple[Any, Any]]


class Protocol(NamedTuple):
    """What is learned from, searched and asked.

    Attributes
    ----------
    name : str
    data : Dataset
        With labels.
    is_training_row : (nb,) bool
        Which rows of the base are training rows; none where they are the whole base.
    """

    name: str
    data: Dataset
    is_training_row: NDArray[np.bool_]

    @property
    def classes(self) -> int:
        """How many classes the training rows have."""
        return len(np.unique(self.data.train_labels))


def protocol(name: str, images: ImageSet, queries: int, training: int, seed: int) -> Protocol:
    """Split images by one of the protocols of `bench_retrieval`.

    `queries` and `training` are images of each class. Which classes are not seen
    is drawn by the seed.
    """
    if name == "full":
        data = retrieval_protocol(images, None, None)
        return Protocol(name, data, np.zeros(len(data.base), np.bool_))
    data = retrieval_protocol(images, queries, training)
    is_training_row = np.zeros(len(data.base), np.bool_)
    if name == "unseen":
        return Protocol(name, _unseen(images, data, seed), is_training_row[:0])
    for label in np.unique(images.train_labels):
        is_training_row[np.flatnonzero(images.train_labels == label)[:training]] = True
    return Protocol(name, data, is_training_row)


def _unseen(images: ImageSet, data: Dataset, seed: int) -> Dataset:
    """Training rows of most classes; the other classes' training part is base, the test part asks.

    Sablayrolles et al., "How should we evaluate supervised hashing?", ICASSP 2017, section 3.
    """
    order = np.random.default_rng(seed).permutation(np.unique(images.train_labels))
    hidden = order[: max(1, len(order) * UNSEEN // 10)]
    seen = ~np.isin(data.train_labels, hidden)
    base, query = np.isin(images.train_labels, hidden), np.isin(images.test_labels, hidden)
    _, labels = np.unique(data.train_labels[seen], return_inverse=True)
    return Dataset(
        images.name,
        data.train[seen],
        images.train[base].reshape(base.sum(), -1),
        images.test[query].reshape(query.sum(), -1),
        train_labels=labels,
        base_labels=images.train_labels[base],
        query_labels=images.test_labels[query],
    )


def judged(index: Any, data: Dataset, is_training_row: NDArray[np.bool_]) -> dict[str, Any]:
    """Rank the whole base for every query, by codes and by embeddings.

    The latter are ranked exactly, by the index's metric. What is ranked by inner product is ranked
    by L2 as well, as in DQN's paper: fields that begin with "L2".
    """
    encoder, quantizer = index.encoder, index.quantizer
    z = np.concatenate([encoder.encode(rows) for rows in np.array_split(data.base, 20)])
    codes = quantizer.encode(z)  # as `add` does, without encoding the images again
    index.add_sa_codes(codes)
    row = _measures(lambda q: index.search(q, len(z)), data, is_training_row)
    if isinstance(quantizer, BinaryQuantizer):
        return {**row, "metric": "Hamming"}
    flat = faiss.IndexFlat(encoder.d_out, index.metric_type)
    flat.add(z)
    exact = _measures(lambda q: flat.search(encoder.encode(q), len(z)), data, is_training_row)
    row |= {"float_mAP": exact["mAP"], "metric": "L2"}
    if index.metric_type == METRIC_INNER_PRODUCT:
        twin = deepq.DeepQuantIndex.from_codebooks(quantizer.codebooks, encoder)
        twin.add_sa_codes(codes)
        by_L2 = _measures(lambda q: twin.search(q, len(z)), data, is_training_row)
        row |= {f"L2_{name}": value for name, value in by_L2.items() if name.startswith("mAP")}
        row["metric"] = "inner product"
    return row


def _measures(search: Search, data: Dataset, is_training_row: NDArray[np.bool_]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {"mAP": [], "mAP_without_training": [], "top": [], "curve": []}
    place, rest = (
        np.cumsum(~is_training_row) - 1,
        data.base_labels[: len(is_training_row)][~is_training_row],
    )
    for first in range(0, len(data.query), _QUERIES_AT_ONCE):
        block = slice(first, first + _QUERIES_AT_ONCE)
        D, I = search(data.query[block])
        labels = data.query_labels[block], data.base_labels
        found["mAP"].append(average_precision(I, *labels, D=D))
        if is_training_row.any():
            new = ~is_training_row[I]
            apart, D = (a[new].reshape(len(I), -1) for a in (place[I], D))
            found["mAP_without_training"].append(average_precision(apart, labels[0], rest, D=D))
        tops = [top for top in TOPS if top <= I.shape[1]]
        found["top"].append(precision_at(I, *labels, tops) * len(I))
        found["curve"].append(precision_recall_curve(I, *labels, levels=LEVELS)[0] * len(I))
    row: dict[str, Any] = {
        name: float(np.concatenate(found[name]).mean())
        for name in ("mAP", "mAP_without_training")
        if found[name]
    }
    n = len(data.query)
    row["precision_at"] = dict(zip(map(str, tops), (sum(found["top"]) / n).tolist(), strict=True))
    row["precision_at_recall"] = (sum(found["curve"]) / n).tolist()
    return row


def among(index: Any, x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the mAP of rows that were held out, each a query among all of them."""
    index.add(x)
    D, I = index.search(x, len(x))
    return float(average_precision(I, y, y, D=D).mean())
