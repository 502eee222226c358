"""What an index is asked: queries, the right answers, and what can be shown of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_labels, as_numbers, as_vectors, as_whole
from deepq._common.checks import as_size, as_tuple
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.sources import RowSource, row_blocks
from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Ids
from deepq.datasets.dataset import Dataset
from deepq.datasets.exact import exact_neighbours
from deepq.encoders.fixed import Normalize
from deepq.evaluation.measures import image_shape
from deepq.quantizers.binary import BinaryQuantizer

_DEPTH = 100  # true neighbours of a query
_LEAST = 10  # stored vectors, of which a tenth becomes queries


@dataclass(frozen=True, eq=False)
class Shown:
    """What vectors stand for, where it is known: of the queries, and of the stored vectors.

    Pictures are arrays, or paths of files. Of a query it may be None.
    """

    texts: tuple[Sequence[str | None], Sequence[str]] | None = None
    images: tuple[Sequence[Any], Sequence[Any]] | None = None


@dataclass(frozen=True, eq=False)
class Questions:
    """Queries, and what is right.

    Attributes
    ----------
    queries : (nq, d) float32
        What is searched for.
    truth : (nq, depth) int64 or None
        Ids of the true neighbours in ranked order; None where only labels say what is right.
    labels : pair of arrays, or None
        Classes or tags of the queries and of the stored vectors.
    label_names : tuple of str
        Names of classes, where known.
    drawn : (nq,) int64 or None
        Ids of the stored vectors that are the queries; they may not be found.
    base : (n, d) array, source or None
        The stored vectors as they were before they became codes.
    shown : Shown
        Texts and pictures.
    of : int
        Queries that there were before some were drawn.
    """

    queries: Floats
    truth: Ids | None
    labels: tuple[NDArray[Any], NDArray[Any]] | None = None
    label_names: tuple[str, ...] = ()
    drawn: Ids | None = None
    base: Any = None
    shown: Shown = field(default_factory=Shown)
    of: int = 0

    def allowed(self, ntotal: int) -> NDArray[np.bool_] | None:
        """Return which of the stored vectors may be found, or None for all."""
        if self.drawn is None:
            return None
        mask = np.full(ntotal, fill_value=True)
        mask[self.drawn] = False
        return mask


def questions(
    index: Any,
    data: Any,
    *,
    queries: Any,
    truth: Any,
    labels: tuple[Any, Any],
    texts: tuple[Any, Any],
    images: tuple[Any, Any],
    max_queries: int,
    seed: int,
) -> Questions:
    """Put together what an index is asked. Pairs are of queries and of stored vectors.

    For the arguments and the errors see `report`.
    """
    most, ntotal = as_size(max_queries, "max_queries"), int(index.ntotal)
    if not index.is_trained or not ntotal:
        what = "an untrained one" if not index.is_trained else "one without vectors"
        raise StateError(f"expected an index with vectors to report on, got {what}")
    names: tuple[str, ...] = ()
    base = data
    if isinstance(data, Dataset):
        base, names = data.base, data.label_names
        if queries is None:
            queries = data.query
            truth = data.gt if truth is None else truth
            labels = (_first(labels[0], data.query_labels), labels[1])
            texts = (_first(texts[0], data.query_texts), texts[1])
        if labels[0] is not None:
            labels = (labels[0], _first(labels[1], data.base_labels))
        texts = (texts[0], _first(texts[1], data.base_texts))
    if base is not None:
        base = _as_base(base, index)
    rng = np.random.default_rng(seed)
    drawn: Ids | None = None
    if queries is None:
        if base is None:
            raise InputError("expected stored vectors or queries, got neither")
        if ntotal < _LEAST:
            raise InputError(
                f"expected queries, or at least {_LEAST} stored vectors to draw some of, got "
                f"{ntotal} vectors"
            )
        if any(one is not None for one in (truth, labels[0], texts[0], images[0])):
            raise InputError("expected queries with their truth, labels, texts or images, got none")
        of = ntotal
        chosen = drawn = _draw(ntotal, min(most, ntotal // _LEAST), rng)
        rows = np.asarray(base[drawn])
        labels, texts, images = ((part[1], part[1]) for part in (labels, texts, images))
    else:
        rows = as_vectors(queries, index.d, "queries", finite=True, image=image_shape(index))
        if not len(rows):
            raise InputError("expected at least one query, got none")
        of = len(rows)
        chosen = _draw(of, min(most, of), rng)
        rows = rows[chosen]
    rows = as_vectors(rows, index.d, "queries", finite=True, image=image_shape(index))
    known = _labels(labels, of, ntotal, chosen)
    if truth is not None:
        right: Ids | None = _as_truth(truth, of, ntotal)[chosen]
    elif known is not None and learned_from_labels(index):
        right = None
    else:
        right = _true_neighbours(index, base, rows, drawn)
    shown = _shown(index, base, rows, texts, images, (of, ntotal), chosen)
    return Questions(rows, right, known, names, drawn, base, shown, of)


def is_cosine(index: Any) -> bool:
    """Whether an index compares vectors by the cosine: it normalizes them."""
    return isinstance(index.encoder.members[0], Normalize)


def learned_from_labels(index: Any) -> bool:
    """Whether what an index should find is a matter of labels, and not of distances."""
    return index.objective is not None or isinstance(index.product_quantizer, BinaryQuantizer)


def _first(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given


def _draw(n: int, count: int, rng: np.random.Generator) -> Ids:
    """Return `count` of n rows in ascending order."""
    return np.sort(rng.permutation(n)[:count])


def _as_base(base: Any, index: Any) -> Any:
    rows = as_numbers(base, "data")
    if rows.ndim > 2 and image_shape(index):
        rows = rows.reshape(len(rows), -1)
    if rows.ndim != 2 or rows.shape[1] != index.d:
        raise DimensionError(f"expected data of shape (n, {index.d}), got {rows.shape}")
    if len(rows) != index.ntotal:
        raise InputError(
            f"expected the {index.ntotal:,} vectors that are in the index, got {len(rows):,}"
        )
    return rows


def _as_truth(truth: Any, nq: int, ntotal: int) -> Ids:
    ids = as_whole(truth, "truth")
    if ids.ndim != 2 or len(ids) != nq or not ids.shape[1]:
        raise DimensionError(f"expected truth of shape ({nq}, depth), got {ids.shape}")
    if ids.min() < 0 or ids.max() >= ntotal:
        raise InputError(
            f"expected ids from 0 to {ntotal - 1} in truth, got {ids.min()} to {ids.max()}"
        )
    return ids


def _labels(
    labels: tuple[Any, Any], nq: int, ntotal: int, chosen: Ids
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    if labels[0] is None and labels[1] is None:
        return None
    if labels[0] is None or labels[1] is None:
        lacking = "queries" if labels[0] is None else "stored vectors"
        raise InputError(f"expected labels of the {lacking} as well, got None")
    of_queries, of_base = as_labels(labels[0], "query_labels"), as_labels(labels[1], "labels")
    if len(of_queries) != nq:
        raise DimensionError(f"expected {nq} query_labels, got {len(of_queries)}")
    if len(of_base) != ntotal:
        raise DimensionError(f"expected {ntotal} labels, got {len(of_base)}")
    return of_queries[chosen], of_base


def _true_neighbours(index: Any, base: Any, rows: Floats, drawn: Ids | None) -> Ids | None:
    """Return the neighbours that the metric of an index calls nearest, without the drawn rows."""
    if base is None:
        raise InputError("expected the stored vectors, or the truth beside queries, got neither")
    left_out = 0 if drawn is None else len(drawn)
    depth = min(_DEPTH, len(base) - left_out)
    metric = int(index.metric_type)
    query = rows
    if is_cosine(index):  # the nearest of unit vectors, by inner product
        base, query = _UnitRows(base), Normalize(index.d).encode(rows)
        metric = METRIC_INNER_PRODUCT
    ids = exact_neighbours(base, query, depth + left_out, metric)[1]
    if drawn is None:
        return ids
    kept = ~np.isin(ids, drawn)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(ids, order, axis=1)


class _UnitRows(RowSource):
    """Rows scaled to length 1 as they are read."""

    def __init__(self, rows: Any) -> None:
        super().__init__("the unit vectors", [0, len(rows)], rows.shape[1], np.float32)
        self._rows, self._scaled = rows, Normalize(rows.shape[1])

    def _read_part(self, i: int, size: int) -> Iterator[NDArray[Any]]:  # noqa: ARG002 - all are one
        for block in row_blocks(self._rows, size):
            yield self._scaled.encode(np.asarray(block, np.float32))


class _Pixels(Sequence[Any]):
    """Rows that are images, as (C, H, W) uint8."""

    def __init__(self, rows: Any, shape: tuple[int, ...]) -> None:
        self._rows, self._shape = rows, shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        pixels = np.asarray(self._rows[row]).reshape(self._shape)
        if pixels.dtype == np.uint8:
            return pixels
        scale = 255 if pixels.max(initial=0) <= 1 and pixels.min(initial=0) >= 0 else 1
        return np.clip(np.round(pixels * scale), 0, 255).astype(np.uint8)


def _shown(
    index: Any,
    base: Any,
    rows: Floats,
    texts: tuple[Any, Any],
    images: tuple[Any, Any],
    counts: tuple[int, int],
    chosen: Ids,
) -> Shown:
    """Texts and pictures of the chosen queries and of the stored vectors."""
    written = _pair(texts, "texts", counts, chosen)
    if written is not None:
        wrong = [one for side in written for one in side if not isinstance(one, str | None)]
        if wrong:
            raise KindError(f"expected texts to be str, got {type(wrong[0]).__name__}")
    pictures = _pair(images, "images", counts, chosen)
    shape = image_shape(index)
    if pictures is None and len(shape) == 3 and shape[0] in (1, 3) and base is not None:
        pictures = (_Pixels(rows, shape), _Pixels(base, shape))
    return Shown(written, pictures)


def _pair(
    given: tuple[Any, Any], name: str, counts: tuple[int, int], chosen: Ids
) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """Return those of the chosen queries, and of all stored vectors; None where none are given."""
    if given[1] is None or not len(given[1]):
        if given[0] is not None and len(given[0]):
            raise InputError(f"expected {name} of the stored vectors as well, got None")
        return None
    of_base = _sequence(given[1], name)
    if len(of_base) != counts[1]:
        raise DimensionError(f"expected {counts[1]} {name}, got {len(of_base)}")
    if given[0] is None or not len(given[0]):
        return [None] * len(chosen), of_base  # the answers alone say something
    of_queries = _sequence(given[0], f"query_{name}")
    if len(of_queries) != counts[0]:
        raise DimensionError(f"expected {counts[0]} query_{name}, got {len(of_queries)}")
    return [of_queries[int(i)] for i in chosen], of_base


def _sequence(given: Any, name: str) -> Sequence[Any]:
    if isinstance(given, str):
        raise KindError(f"expected {name} to be a sequence, got str")
    return given if hasattr(given, "__getitem__") else as_tuple(given, name)
