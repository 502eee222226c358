"""Which settings to use: a sweep over M, nbits, rerank, nlist and nprobe, measured on a sample."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from tqdm import tqdm

from deepq._common.checks import as_flag, as_metric, as_real, as_size
from deepq._common.errors import DimensionError, InputError
from deepq._common.extras import need_torch
from deepq._common.types import Floats, Ids
from deepq.datasets.exact import exact_neighbours
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Normalize
from deepq.encoders.rotation import Rotation
from deepq.evaluation.measures import evaluate, in_one_thread
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.training.settings import TrainConfig
from deepq.training.structure import LEAST_ROWS, sample

NBITS = (4, 6, 8)
RERANKS = (100,)  # tried with the best code, besides 0

_MOST_ROWS = 20_000  # in each part: to train on, to search among
_MOST_IN_CELLS, _NUMBERS_IN_CELLS = 200_000, 1 << 26  # rows to search among, and their numbers
_ROWS_PER_CELL = 8  # of those to train on, at least
_LEAST_GAIN = 0.002  # of recall, for which twice as many cells are looked into
_MOST_QUERIES = 500
_EPOCHS = 3  # of a quick training
_MEASURE = "10-recall@10"
_PADDED_BELOW = 3 / 4  # share of the bytes that codes without padding use

_log = logging.getLogger("deepq.evaluation")

Metric = int | str
Setting = tuple[int, int, int, int]  # M, nbits, rerank, nlist


@dataclass(frozen=True)
class Suggestion:
    """Settings of an index, and what was measured with them on a sample.

    Attributes
    ----------
    M, nbits, rerank : int
        As in `DeepQuantIndex`. Where M does not divide d, the encoder of `index` puts zeros behind
        every vector, which change no distance.
    bytes_per_vector : int
        Size of a code.
    recall : float
        10-recall@10.
    search_us, encode_us : float
        Microseconds of CPU per query and per added vector, in one thread. That of a query grows
        with the number of stored vectors.
    nlist, nprobe : int
        Cells, and how many of them a search looks into; 0 for a scan of all codes.
    """

    M: int
    nbits: int
    rerank: int
    bytes_per_vector: int
    recall: float
    search_us: float
    encode_us: float
    nlist: int = 0
    nprobe: int = 0

    def index(self, d: int, metric: Metric = faiss.METRIC_L2) -> DeepQuantIndex | DeepQuantIVFIndex:
        """Make an untrained index of these settings, for vectors of `d` numbers.

        `metric` is a number of faiss's, or "cosine".
        """
        d = as_size(d, "d")
        encoder = None if d % self.M == 0 else _padding(d, self.M)
        how: dict[str, Any] = {"encoder": encoder, "rerank": self.rerank}
        if not self.nlist:
            return DeepQuantIndex(d, self.M, self.nbits, metric, **how)
        index = DeepQuantIVFIndex(d, self.nlist, self.M, self.nbits, metric, **how)
        index.nprobe = self.nprobe or 1
        return index

    def __str__(self) -> str:
        cells = f", nlist={self.nlist}, nprobe={self.nprobe}" if self.nlist else ""
        return (
            f"M={self.M}, nbits={self.nbits}, rerank={self.rerank}{cells}: "
            f"{self.bytes_per_vector} bytes, {_MEASURE} {self.recall:.3f}, "
            f"search {self.search_us:.1f} us, encode {self.encode_us:.1f} us"
        )


def suggest(
    x: Any,
    *,
    bytes_per_vector: int | None = None,
    recall: float | None = None,
    us_per_query: float | None = None,
    cells: bool = False,
    queries: Any = None,
    metric: Metric = faiss.METRIC_L2,
    seed: int = 1234,
    verbose: bool = False,
) -> list[Suggestion]:
    """Try settings on a sample of `x` and return those that fit, best first.

    At most 20,000 vectors are trained on, 20,000 others are searched, and 500 more are the queries.
    For every number of bits, 4, 6 and 8, the largest M that the bytes allow is tried: one that
    divides d, and where that leaves a quarter of the bytes unused, one with zeros behind the
    vectors. Training is short, which may cost a point of recall; and it is the recall of the
    sample, which is lower among more vectors. Re-ranking is among the suggestions where a decoder
    was worth keeping, and torch is there to learn one. With `cells` the best code is put into cells
    as well, about as many as the root of the number of vectors and four times as many, and 1, 2, 4,
    ... of them are looked into, as long as that finds more. Then up to 200,000 vectors are
    searched, since so few as 20,000 need no cells.

    Parameters
    ----------
    x : (n, d) array
        Vectors like those that will be stored, at least 256. May be memory-mapped.
    bytes_per_vector : int, optional
        The most bytes a code may have. The suggestions come by falling recall.
    recall : float, optional
        The least 10-recall@10, from 0 to 1. The suggestions reach it, and come by rising bytes.
        The bytes to try are found by bisection between 1 and d.
    us_per_query : float, optional
        The most CPU time of a query, in microseconds: suggestions that take longer are left out.
    cells : bool
        Whether to try `DeepQuantIVFIndex`, too. With `recall`, suggestions of as many bytes come by
        rising time.
    queries : (nq, d) array, optional
        Queries like those that will be asked; by default rows of `x`, held out of all else.
    metric : int or "cosine"
        ``faiss.METRIC_L2`` or ``faiss.METRIC_INNER_PRODUCT``, or the cosine of vectors.
    seed : int
        Seed of everything random.
    verbose : bool
        Whether to show a progress bar on stderr.

    Returns
    -------
    list of Suggestion
        At least one. Where the vectors have no structure to learn a warning is logged.

    Raises
    ------
    InputError
        If not exactly one of `bytes_per_vector` and `recall` is given, a number is out of range,
        the recall is not reached with d bytes, or not in the time, there are too few rows, or NaN
        or infinity among them.
    DimensionError, KindError
        If `x` or `queries` is not an array of real numbers and of the right shape.
    """
    if (bytes_per_vector is None) == (recall is None):
        got = "neither" if recall is None else "both"
        raise InputError(f"expected either bytes_per_vector or recall, got {got}")
    budget = None if bytes_per_vector is None else as_size(bytes_per_vector, "bytes_per_vector")
    target = 0.0 if recall is None else as_real(recall, "recall")
    if not 0 <= target <= 1:
        raise InputError(f"expected recall from 0 to 1, got {recall}")
    most_us = np.inf if us_per_query is None else as_real(us_per_query, "us_per_query")
    if not most_us > 0:
        raise InputError(f"expected us_per_query above 0, got {us_per_query}")
    training = TrainConfig(seed=seed, epochs=_EPOCHS)
    if isinstance(metric, str) and metric != "cosine":
        raise InputError(f'expected a metric of faiss, or "cosine", got {metric!r}')
    metric = metric if isinstance(metric, str) else as_metric(metric)
    cells = as_flag(cells, "cells")
    trial = _Trial.draw(x, queries, metric, training, cells=cells)
    quiet = not as_flag(verbose, "verbose")
    with tqdm(desc="suggest", unit="setting", disable=quiet) as bar, _each_warning_once():
        sweep = _Sweep(trial, bar)
        found = sweep.within(budget) if budget is not None else sweep.reaching(target)
    fit = [s for s in found if s.search_us <= most_us]
    if not fit:
        least = min(s.search_us for s in found)
        raise InputError(
            f"expected at least {least:.1f} us_per_query, which the fastest of {len(found)} "
            f"settings takes, got {us_per_query}"
        )
    if budget is not None:
        return sorted(fit, key=lambda s: (-s.recall, s.bytes_per_vector))
    return sorted(fit, key=lambda s: (s.bytes_per_vector, s.search_us if cells else -s.recall))


@dataclass(frozen=True, eq=False)
class _Trial:
    """Vectors (n, d) to train on, to search among and to search for, and what is to be found."""

    train: Floats
    base: Floats
    queries: Floats
    true: Ids
    metric: Metric
    training: TrainConfig
    cells: tuple[int, ...]  # numbers of them to try

    @classmethod
    def draw(
        cls, x: Any, queries: Any, metric: Metric, training: TrainConfig, *, cells: bool = False
    ) -> _Trial:
        """Split a sample of `x` into parts that have no row in common."""
        rng = np.random.default_rng(training.seed)
        most = _most_in_cells(x) if cells else _MOST_ROWS
        rows = sample(x, most + _MOST_ROWS + _MOST_QUERIES, rng)
        if len(rows) < LEAST_ROWS:
            raise InputError(f"expected at least {LEAST_ROWS} vectors, got {len(rows)}")
        if queries is None:
            nq = min(_MOST_QUERIES, len(rows) // 10)
            queries, rows = rows[:nq], rows[nq:]
        else:
            queries = sample(queries, _MOST_QUERIES, rng, "queries")
        if queries.shape[1] != rows.shape[1]:
            raise DimensionError(f"expected queries (nq, {rows.shape[1]}), got {queries.shape}")
        nb = min(most, max(len(rows) // 2, len(rows) - _MOST_ROWS))
        base, train = rows[:nb], rows[nb : nb + _MOST_ROWS]
        if isinstance(metric, str):
            unit = Normalize(rows.shape[1]).encode
            true = exact_neighbours(unit(base), unit(queries), 10, faiss.METRIC_INNER_PRODUCT)[1]
        else:
            true = exact_neighbours(base, queries, 10, metric)[1]
        numbers = _numbers_of_cells(len(train), len(base)) if cells else ()
        return cls(train, base, queries, true, metric, training, numbers)

    def measure(self, M: int, nbits: int, rerank: int, nlist: int) -> list[Suggestion]:
        """Train an index of these settings for a short time, fill it and search it.

        None comes of it where there is nothing to re-rank by: no decoder was worth keeping. With
        cells there is a suggestion for each number of them that was looked into.
        """
        training = self.training
        if rerank:  # a short training is too short for a decoder
            training = replace(training, epochs=None)
        wanted = Suggestion(M, nbits, rerank, 0, 0.0, 0.0, 0.0, nlist)
        index = wanted.index(self.base.shape[1], self.metric)
        index.training = training
        index.train(self.train)
        if rerank and index.product_quantizer.decoder is None:
            return []
        _, seconds = in_one_thread(lambda: index.add(self.base))
        wanted = replace(
            wanted,
            bytes_per_vector=index.code_size,
            encode_us=seconds / len(self.base) * 1e6,
        )
        found: list[Suggestion] = []
        for nprobe in _doubling(nlist):
            index.nprobe = nprobe
            found.append(self._searched(index, replace(wanted, nprobe=nprobe)))
            if len(found) > 1 and found[-1].recall < found[-2].recall + _LEAST_GAIN:
                break
        return found or [self._searched(index, wanted)]

    def _searched(self, index: Any, wanted: Suggestion) -> Suggestion:
        """Search the index as it is set."""
        found = evaluate(index, self.queries, self.true, (_MEASURE, "us_per_query"))
        return replace(wanted, recall=found[_MEASURE], search_us=found["us_per_query"])


class _Sweep:
    """Measures settings, each once."""

    def __init__(self, trial: _Trial, bar: Any) -> None:
        self._trial, self._bar, self._reranks = trial, bar, _reranks()
        self._measured: dict[Setting, list[Suggestion]] = {}

    def within(self, budget: int) -> list[Suggestion]:
        """Measure the codes of so many bytes, and re-ranking and cells with the best of them."""
        found = [s for M, nbits in self._codes(budget) for s in self._measure((M, nbits, 0, 0))]
        best = max(found, key=lambda s: s.recall)
        for rerank in self._reranks:
            found += self._measure((best.M, best.nbits, rerank, 0))
        best = max(found, key=lambda s: s.recall)
        in_cells: list[Suggestion] = []
        for nlist in self._trial.cells:
            for rerank in sorted({0, best.rerank}):
                in_cells += self._measure((best.M, best.nbits, rerank, nlist))
        return found + [s for s in in_cells if not any(_beats(t, s) for t in found + in_cells)]

    def reaching(self, target: float) -> list[Suggestion]:
        """Find the fewest bytes that reach a recall; return all that reached it on the way."""
        d = self._trial.base.shape[1]
        budgets = _divisors(d)
        if any(later > 2 * earlier for earlier, later in pairwise(budgets)):
            budgets = list(range(1, d + 1))

        def best(budget: int) -> float:
            return max(found.recall for found in self.within(budget))

        if bisect_left(budgets, target, key=best) == len(budgets):
            raise InputError(
                f"expected a recall of at most {best(d):.3f}, which {d} bytes reach, got {target}"
            )
        return [s for found in self._measured.values() for s in found if s.recall >= target]

    def _codes(self, budget: int) -> Iterator[tuple[int, int]]:
        """Yield the largest M that fits, and nbits, for each nbits that there are rows for.

        Where divisors of d leave many bytes unused, also the largest M of padded vectors.
        """
        d = self._trial.base.shape[1]
        for nbits in NBITS:
            most = min(d, 8 * budget // nbits)
            if most and 1 << nbits <= len(self._trial.train):
                fitting = max(M for M in _divisors(d) if most >= M)
                yield fitting, nbits
                if fitting < _PADDED_BELOW * most:
                    yield _padded(d, most), nbits

    def _measure(self, setting: Setting) -> list[Suggestion]:
        if setting not in self._measured:
            self._bar.set_postfix_str("M={}, nbits={}, rerank={}, nlist={}".format(*setting))
            self._measured[setting] = self._trial.measure(*setting)
            self._bar.update()
        return self._measured[setting]


def _reranks() -> tuple[int, ...]:
    """Return how many to re-rank; a decoder cannot be learned without torch."""
    try:
        need_torch("try re-ranking")
    except ImportError as error:
        _log.warning("re-ranking is not tried: %s", error)
        return ()
    return RERANKS


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Let trainings of the same vectors say the same thing only once."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        new = record.msg not in said
        said.add(record.msg)
        return new

    logger = logging.getLogger("deepq.training")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def _beats(one: Suggestion, other: Suggestion) -> bool:
    """Whether a suggestion finds as much in less time and no more bytes."""
    return (
        one.recall >= other.recall
        and one.search_us < other.search_us
        and one.bytes_per_vector <= other.bytes_per_vector
    )


def _most_in_cells(x: Any) -> int:
    """Return how many rows of `x` to search among, where cells are tried."""
    columns = int(np.shape(x)[-1]) if len(np.shape(x)) > 1 else 1
    return min(_MOST_IN_CELLS, max(_MOST_ROWS, _NUMBERS_IN_CELLS // max(1, columns)))


def _numbers_of_cells(trained: int, stored: int) -> tuple[int, ...]:
    """Return the powers of 2 near the root of the rows, and near four times that."""
    near = 1 << round(np.log2(stored) / 2)
    return tuple(nlist for nlist in (near, 4 * near) if nlist * _ROWS_PER_CELL <= trained)


def _doubling(nlist: int) -> Iterator[int]:
    """Yield 1, 2, 4, ..., a quarter of the cells at most."""
    nprobe = 1
    while nprobe <= nlist // 4:
        yield nprobe
        nprobe *= 2


def _padded(d: int, most: int) -> int:
    """Return the largest M up to `most` that needs the fewest zeros behind d numbers for its words.

    As many numbers in a word as with `most` of them, and no word of zeros alone.
    """
    return -(-d // -(-d // most))


def _padding(d: int, M: int) -> Encoder:
    """Zeros behind vectors of d numbers, so that M divides them, and a rotation of all."""
    width = -(-d // M) * M
    return Chain([Affine(np.eye(width, d)), Rotation(width)])


def _divisors(d: int) -> list[int]:
    return [M for M in range(1, d + 1) if d % M == 0]
