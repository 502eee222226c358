"""How well an index finds what it should, and how fast."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_array, as_codes, as_vectors
from deepq._common.checks import as_tuple
from deepq._common.errors import InputError, KindError
from deepq._common.threads import openmp_threads
from deepq._common.types import Ids
from deepq.hash_table.index import HashTableIndex
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.metrics.buckets import normalized_mutual_information, speed_up
from deepq.metrics.neighbours import recall
from deepq.metrics.ranking import mean_average_precision, precision_at
from deepq.metrics.results import plain_results

MEASURES = ("1-recall@1", "1-recall@10", "1-recall@100", "10-recall@10")
TIMES = ("us_per_query", "queries_per_second")
OF_BUCKETS = ("speed_up", "NMI")

_MEASURE = re.compile(r"(?:([1-9][0-9]*)-recall|(mAP|precision))@([1-9][0-9]*)")
_TIMED_K = 10  # how many results are asked for where only times are

Numbers = NDArray[np.float64]
Result = TypeVar("Result")


def evaluate(
    index: Any,
    queries: Any,
    ground_truth: Any = None,
    measures: Iterable[str] = MEASURES,
    *,
    labels: tuple[Any, Any] | None = None,
) -> dict[str, float]:
    """Search once and measure the results by name.

    Parameters
    ----------
    index : faiss.Index or faiss.IndexBinary
        A DeepQuantIndex or any other index of faiss, to compare with; or an object with `d`,
        `ntotal` and ``search(x, k)``, whose results are taken as `metrics.plain_results` says.
    queries : (nq, d) array
        What is searched for; of a binary index packed codes, (nq, d / 8) uint8.
    ground_truth : (nq, depth) array of integers, optional
        True neighbours in ranked order, such as `datasets.exact_neighbours` gives; for recall.
    measures : str or iterable of str
        Some of these:

        ``"K-recall@R"``, K and R numbers
            The part of the K true neighbours that is among the first R results (`metrics.recall`).
        ``"mAP"``, ``"mAP@R"``, ``"precision@R"``
            How many results share a class with the query (`metrics.mean_average_precision`,
            `metrics.precision_at`), among all stored vectors or the first R.
        ``"us_per_query"``, ``"queries_per_second"``
            CPU time of the search of all queries in one call, for the deepest R asked for, or for
            10 results. Where a time is asked for, faiss and deepq use one thread for the search.
        ``"speed_up"``, ``"NMI"``
            Of a `HashTableIndex`: how many times fewer vectors a query looks at than are stored
            (`metrics.speed_up`), and how much the buckets of queries and their classes say of each
            other (`metrics.normalized_mutual_information`).
    labels : pair of arrays, optional
        Classes of the queries and of the stored vectors, by id, as `metrics` takes them; for mAP,
        precision and NMI.

    Returns
    -------
    dict of float
        One entry for each name in `measures`, in that order.

    Raises
    ------
    InputError
        If a measure is unknown, is one of hash tables for another index, or lacks `ground_truth` or
        `labels`; if R is larger than the number
        of stored vectors; if `ground_truth` has fewer than K columns, or it or `labels` another
        number of rows than there are vectors; or if a query is not finite.
    DimensionError, KindError
        If `queries` is not an (nq, d) array of real numbers, or `ground_truth` does not hold
        integers.

    Examples
    --------
    >>> import deepq, faiss
    >>> x = np.random.default_rng(0).standard_normal((1000, 16)).astype("float32")
    >>> index = faiss.IndexFlatL2(16)
    >>> index.add(x)
    >>> _, gt = deepq.datasets.exact_neighbours(x, x[:5], 10)
    >>> evaluate(index, x[:5], gt, ["1-recall@1", "10-recall@10"])
    {'1-recall@1': 1.0, '10-recall@10': 1.0}
    """
    if not (hasattr(index, "ntotal") and hasattr(index, "search")):
        raise KindError(f"expected an index, got {type(index).__name__}")
    names = (measures,) if isinstance(measures, str) else as_tuple(measures, "measures")
    own = [name for name in names if isinstance(name, str) and name in OF_BUCKETS]
    others = [name for name in names if not isinstance(name, str) or name not in (*TIMES, *own)]
    _check_buckets(own, index, labels)
    wanted = {name: _parse(name, index.ntotal) for name in others}
    if isinstance(index, faiss.IndexBinary):
        queries = as_codes(queries, index.code_size)
    else:
        queries = as_vectors(queries, index.d, "queries", finite=True, image=image_shape(index))
    true = None if ground_truth is None else _as_ground_truth(ground_truth, len(queries))
    if labels is not None:
        _check_labels(labels, len(queries), index.ntotal)
    for name, measure in wanted.items():
        measure.check(name, true, labels, index.ntotal)
    deepest = max((measure.r for measure in wanted.values()), default=_TIMED_K)
    values = {}
    if set(names).isdisjoint(TIMES):
        D, I = index.search(queries, deepest)
    else:
        (D, I), seconds = in_one_thread(lambda: index.search(queries, deepest))
        values["us_per_query"] = seconds / len(queries) * 1e6
        values["queries_per_second"] = len(queries) / max(seconds, 1e-9)
    if not isinstance(index, faiss.Index | faiss.IndexBinary):
        I = _of_width(plain_results(D, I)[1], deepest)
    values |= {name: measure.of(I, true, labels) for name, measure in wanted.items()}
    if "speed_up" in names:
        values["speed_up"] = speed_up(index.candidates)
    if "NMI" in names and labels is not None:
        values["NMI"] = normalized_mutual_information(index.bucket_ids(queries), labels[0])
    return {name: values[name] for name in names}


def in_one_thread(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what `work` returns and the CPU seconds it took, with faiss and deepq on one thread.

    The number of threads is one for the calling thread only, and what it was before afterwards.
    """
    with openmp_threads(1):
        start = time.thread_time()
        result = work()
        return result, time.thread_time() - start


@dataclass(frozen=True)
class _Measure:
    """A measure of the first `r` results; `k` is the number of true neighbours, for recall."""

    kind: str
    r: int
    k: int = 0

    def check(self, name: str, true: Ids | None, labels: Any, ntotal: int) -> None:
        """Refuse what cannot be measured with this."""
        if self.kind == "recall":
            if true is None:
                raise InputError(f"expected ground_truth for {name}, got None")
            if self.k > true.shape[1]:
                raise InputError(
                    f"expected ground truth of at least {self.k} columns for {name}, "
                    f"got {true.shape[1]}"
                )
        elif labels is None:
            raise InputError(f"expected labels for {name}, got None")
        if not 1 <= self.r <= ntotal:
            raise InputError(
                f"expected at least {max(self.r, 1)} stored vectors for {name}, got {ntotal}"
            )

    def of(self, I: Ids, true: Any, labels: Any) -> float:
        """Return the value for results I (nq, >= r)."""
        if self.kind == "recall":
            return recall(I, true, self.k, self.r)
        if self.kind == "mAP":
            return mean_average_precision(I, *labels, top=self.r)
        return float(precision_at(I, labels[0], labels[1], self.r))


def _of_width(I: Ids, k: int) -> Ids:
    """Return ids (nq, k), filled up with -1."""
    return np.pad(I, ((0, 0), (0, max(0, k - I.shape[1]))), constant_values=-1)


def _parse(name: Any, ntotal: int) -> _Measure:
    word = name if isinstance(name, str) else ""
    if word == "mAP":
        return _Measure("mAP", ntotal)
    match = _MEASURE.fullmatch(word)
    if match is None:
        known = " or ".join(("K-recall@R", "mAP", "mAP@R", "precision@R", *TIMES, *OF_BUCKETS))
        raise InputError(f"expected a measure {known}, got {name!r}")
    k, kind, r = match.groups()
    return _Measure(kind or "recall", int(r), int(k or 0))


def _check_buckets(names: list[str], index: Any, labels: Any) -> None:
    if names and not isinstance(index, HashTableIndex):
        raise InputError(f"expected a HashTableIndex for {names[0]}, got {type(index).__name__}")
    if "NMI" in names and labels is None:
        raise InputError("expected labels for NMI, got None")


def _check_labels(labels: tuple[Any, Any], nq: int, ntotal: int) -> None:
    if not isinstance(labels, tuple | list) or len(labels) != 2:
        raise KindError(f"expected labels to be two arrays, got {type(labels).__name__}")
    found = tuple(len(np.atleast_1d(as_array(rows, "labels"))) for rows in labels)
    if found != (nq, ntotal):
        raise InputError(
            f"expected labels of {nq} queries and of {ntotal} stored vectors, "
            f"got {' and '.join(map(str, found))}"
        )


def _as_ground_truth(ground_truth: Any, nq: int) -> Ids:
    true = as_array(ground_truth, "ground_truth")
    if true.ndim != 2 or len(true) != nq or not nq:
        raise InputError(
            f"expected a row of ground truth for each of {nq} queries, got shape {true.shape}"
        )
    if true.dtype.kind not in "iu":
        raise KindError(f"expected ground truth of integers, got dtype {true.dtype}")
    return true.astype(np.int64, copy=False)


def image_shape(index: Any) -> tuple[int, ...]:
    """Shape of the images that an index takes beside vectors, if it does."""
    is_ours = isinstance(index, DeepQuantIndex | DeepQuantIVFIndex | HashTableIndex)
    return index.encoder.input_shape if is_ours else ()


def require_some(rows: NDArray[Any]) -> None:
    """Raise InputError where there are no rows."""
    if not len(rows):
        raise InputError("expected stored codes, or rows of x, to look at, got none")
