"""Which settings to use: a sweep over M, nbits and rerank, measured on a sample."""

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
from deepq._common.types import Floats, Ids
from deepq.datasets.exact import exact_neighbours
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Normalize
from deepq.encoders.rotation import Rotation
from deepq.evaluation.measures import evaluate, in_one_thread
from deepq.index.flat import DeepQuantIndex
from deepq.training.settings import TrainConfig
from deepq.training.structure import LEAST_ROWS, sample

NBITS = (4, 6, 8)
RERANKS = (100,)  # tried with the best code, besides 0

_MOST_ROWS = 20_000  # in each part: to train on, to search among
_MOST_QUERIES = 500
_EPOCHS = 3  # of a quick training
_MEASURE = "10-recall@10"
_PADDED_BELOW = 3 / 4  # share of the bytes that codes without padding use

Metric = int | str
Setting = tuple[int, int, int]  # M, nbits, rerank


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
    """

    M: int
    nbits: int
    rerank: int
    bytes_per_vector: int
    recall: float
    search_us: float
    encode_us: float

    def index(self, d: int, metric: Metric = faiss.METRIC_L2) -> DeepQuantIndex:
        """Make an untrained index of these settings, for vectors of `d` numbers.

        `metric` is a number of faiss's, or "cosine".
        """
        d = as_size(d, "d")
        encoder = None if d % self.M == 0 else _padding(d, self.M)
        return DeepQuantIndex(d, self.M, self.nbits, metric, encoder=encoder, rerank=self.rerank)

    def __str__(self) -> str:
        return (
            f"M={self.M}, nbits={self.nbits}, rerank={self.rerank}: "
            f"{self.bytes_per_vector} bytes, {_MEASURE} {self.recall:.3f}, "
            f"search {self.search_us:.1f} us, encode {self.encode_us:.1f} us"
        )


def suggest(
    x: Any,
    *,
    bytes_per_vector: int | None = None,
    recall: float | None = None,
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
    was worth keeping.

    Parameters
    ----------
    x : (n, d) array
        Vectors like those that will be stored, at least 256. May be memory-mapped.
    bytes_per_vector : int, optional
        The most bytes a code may have. The suggestions come by falling recall.
    recall : float, optional
        The least 10-recall@10, from 0 to 1. The suggestions reach it, and come by rising bytes.
        The bytes to try are found by bisection between 1 and d.
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
        If not exactly one of `bytes_per_vector` and `recall` is given, one is out of range, the
        recall is not reached with d bytes, there are too few rows, or NaN or infinity among them.
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
    training = TrainConfig(seed=seed, epochs=_EPOCHS)
    if isinstance(metric, str) and metric != "cosine":
        raise InputError(f'expected a metric of faiss, or "cosine", got {metric!r}')
    metric = metric if isinstance(metric, str) else as_metric(metric)
    trial = _Trial.draw(x, queries, metric, training)
    quiet = not as_flag(verbose, "verbose")
    with tqdm(desc="suggest", unit="setting", disable=quiet) as bar, _each_warning_once():
        sweep = _Sweep(trial, bar)
        if budget is not None:
            return sorted(sweep.within(budget), key=lambda s: (-s.recall, s.bytes_per_vector))
        return sorted(sweep.reaching(target), key=lambda s: (s.bytes_per_vector, -s.recall))


@dataclass(frozen=True, eq=False)
class _Trial:
    """Vectors (n, d) to train on, to search among and to search for, and what is to be found."""

    train: Floats
    base: Floats
    queries: Floats
    true: Ids
    metric: Metric
    training: TrainConfig

    @classmethod
    def draw(cls, x: Any, queries: Any, metric: Metric, training: TrainConfig) -> _Trial:
        """Split a sample of `x` into parts that have no row in common."""
        rng = np.random.default_rng(training.seed)
        rows = sample(x, 2 * _MOST_ROWS + _MOST_QUERIES, rng)
        if len(rows) < LEAST_ROWS:
            raise InputError(f"expected at least {LEAST_ROWS} vectors, got {len(rows)}")
        if queries is None:
            nq = min(_MOST_QUERIES, len(rows) // 10)
            queries, rows = rows[:nq], rows[nq:]
        else:
            queries = sample(queries, _MOST_QUERIES, rng, "queries")
        if queries.shape[1] != rows.shape[1]:
            raise DimensionError(f"expected queries (nq, {rows.shape[1]}), got {queries.shape}")
        nb = min(_MOST_ROWS, len(rows) // 2)
        base, train = rows[:nb], rows[nb : nb + _MOST_ROWS]
        if isinstance(metric, str):
            unit = Normalize(rows.shape[1]).encode
            true = exact_neighbours(unit(base), unit(queries), 10, faiss.METRIC_INNER_PRODUCT)[1]
        else:
            true = exact_neighbours(base, queries, 10, metric)[1]
        return cls(train, base, queries, true, metric, training)

    def measure(self, M: int, nbits: int, rerank: int) -> Suggestion | None:
        """Train an index of these settings for a short time, fill it and search it.

        None where there is nothing to re-rank by: no decoder was worth keeping.
        """
        training = self.training
        if rerank:  # a short training is too short for a decoder
            training = replace(training, epochs=None)
        wanted = Suggestion(M, nbits, rerank, 0, 0.0, 0.0, 0.0)
        index = wanted.index(self.base.shape[1], self.metric)
        index.training = training
        index.train(self.train)
        if rerank and index.quantizer.decoder is None:
            return None
        _, seconds = in_one_thread(lambda: index.add(self.base))
        found = evaluate(index, self.queries, self.true, (_MEASURE, "us_per_query"))
        return replace(
            wanted,
            bytes_per_vector=index.code_size,
            recall=found[_MEASURE],
            search_us=found["us_per_query"],
            encode_us=seconds / len(self.base) * 1e6,
        )


class _Sweep:
    """Measures settings, each once."""

    def __init__(self, trial: _Trial, bar: Any) -> None:
        self._trial, self._bar = trial, bar
        self._measured: dict[Setting, Suggestion | None] = {}

    def within(self, budget: int) -> list[Suggestion]:
        """Measure the codes of so many bytes, and re-ranking with the best of them."""
        found = [self._measure((M, nbits, 0)) for M, nbits in self._codes(budget)]
        best = max((s for s in found if s), key=lambda s: s.recall)
        found += [self._measure((best.M, best.nbits, rerank)) for rerank in RERANKS]
        return [s for s in found if s]

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
        return [found for found in self._measured.values() if found and found.recall >= target]

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

    def _measure(self, setting: Setting) -> Suggestion | None:
        if setting not in self._measured:
            self._bar.set_postfix_str("M={}, nbits={}, rerank={}".format(*setting))
            self._measured[setting] = self._trial.measure(*setting)
            self._bar.update()
        return self._measured[setting]


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
