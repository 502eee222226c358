"""The numbers of a report: what an index is, finds, takes and loses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepq._common.errors import KindError
from deepq._common.types import METRIC_L2, Ids
from deepq.evaluation.diagnosis import Diagnosis, diagnose
from deepq.evaluation.measures import in_one_thread
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.search_parameters import SearchParameters
from deepq.metrics.neighbours import recall
from deepq.metrics.ranking import mean_average_precision, precision_at
from deepq.plots.questions import Questions, is_cosine

Index = DeepQuantIndex | DeepQuantIVFIndex

TOP = 10  # results of a query, in recall, times and samples
_DEPTH = 100
_MOST_RANKED = 20_000  # stored vectors, up to which the whole ranking is judged by labels
_DEEP = 1000  # results that are judged by labels among more
_ALONE = 50  # queries that are searched one by one
_ROWS = 20_000  # of the stored vectors, that the distortion is measured on
_TIMES, _LONG = 3, 2.0  # how often something is timed, if not after so many seconds
_RERANKS = (20, 50, 100, 200, 500)


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured.

    Attributes
    ----------
    I : (nq, depth) int64
        What was found, as deep as true neighbours are counted.
    recalls : dict of float
        "1-recall@1" and the like.
    together_us, alone_us : float
        Microseconds of CPU of a query: of all in one call, and one by one.
    sweep : list of dict
        Points of recall and time, as `recall_against_time` takes them; `swept` is what differs.
    deep : (nq, depth) int64 or None
        What was found, as deep as labels are counted; `labels` are those that count.
    by_labels : dict of float
        "mAP" or "mAP@1000", and "precision@10".
    stored, lost : Diagnosis
        Of the stored codes; of a sample of the vectors, or None.
    """

    I: Ids
    recalls: dict[str, float]
    together_us: float
    alone_us: float
    sweep: list[dict[str, Any]]
    swept: str
    deep: Ids | None
    labels: tuple[Any, Any] | None
    by_labels: dict[str, float]
    stored: Diagnosis
    lost: Diagnosis | None


def measure(
    index: Index, asked: Questions, seed: int, tell: Callable[[str], None] = lambda _: None
) -> Findings:
    """Search, and measure everything. `tell` is called with a word before each step."""
    allowed = asked.allowed(int(index.ntotal))
    count = int(index.ntotal) if allowed is None else int(allowed.sum())

    def search(k: int, **how: Any) -> Ids:
        params = SearchParameters(sel=allowed, **how)
        ids: Ids = index.search(asked.queries, k, params=params)[1]
        return ids

    def timed(**how: Any) -> float:  # among all: leaving rows out is a matter of this page
        params, k = SearchParameters(**how), min(TOP, count)
        seconds = _least_seconds(lambda: index.search(asked.queries, k, params=params))
        return seconds / len(asked.queries) * 1e6

    tell("search")
    I = search(min(_DEPTH, count))
    recalls = {} if asked.truth is None else _recalls(I, asked.truth)
    tell("times")
    alone = asked.queries[:_ALONE]
    k = min(TOP, count)
    one_by_one = _least_seconds(lambda: [index.search(query[None], k) for query in alone])
    together = timed()
    swept, values = _varied(index, count)
    sweep = []
    for value in values if asked.truth is not None else []:
        how = {swept: value}
        point = {"label": str(value), "us_per_query": timed(**how)}
        name = _name_of(asked.truth, k)
        sweep.append({**point, name: _recall(search(k, **how), asked.truth, k)})
    deep, labels, by_labels = None, None, {}
    if asked.labels is not None:
        tell("labels")
        depth = count if count <= _MOST_RANKED else _DEEP
        deep = search(depth)
        name = "mAP" if depth == count else f"mAP@{depth}"
        of_queries, of_base = asked.labels
        if allowed is not None:
            of_queries, of_base = _without(of_queries, of_base, ~allowed)
        top, labels = None if depth == count else depth, (of_queries, of_base)
        by_labels = {
            name: mean_average_precision(deep, of_queries, of_base, top=top),
            f"precision@{k}": float(precision_at(deep, of_queries, of_base, k)),
        }
    tell("codebooks")
    lost = None
    if asked.base is not None:
        rows = np.random.default_rng(seed).permutation(len(asked.base))[:_ROWS]
        lost = _codes(index, np.asarray(asked.base[np.sort(rows)]))
    return Findings(
        I,
        recalls,
        together,
        one_by_one / len(alone) * 1e6,
        sweep,
        swept,
        deep,
        labels,
        by_labels,
        _codes(index),
        lost,
    )


def _codes(index: Index, x: Any = None) -> Diagnosis:
    found = diagnose(index, x)
    if not isinstance(found, Diagnosis):
        raise KindError(f"expected an index of codes, got {type(index).__name__}")
    return found


def _least_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of the fastest of some calls: the first one also sets up what others use."""
    times: list[float] = []
    while len(times) < _TIMES and sum(times) < _LONG:
        times.append(in_one_thread(work)[1])
    return max(min(times), 1e-9)


def facts(index: Index) -> dict[str, str]:
    """Return what an index is, in words, by what each is called."""
    M, nbits, size = int(index.pq.M), int(index.pq.nbits), int(index.code_size)
    vector = 4 * int(index.d)
    told = {
        "Kind": type(index).__name__,
        "Vectors": f"{int(index.ntotal):,}",
        "Numbers of a vector": f"{int(index.d):,}",
        "Compared by": compared(index),
        "Code": f"{M} words of {nbits} bits: {size} bytes, {smaller(index)} times smaller "
        f"than {vector:,} bytes of float32",
        "All codes": _size(int(index.ntotal) * size),
        "Encoder": ", ".join(type(member).__name__ for member in index.encoder.members),
        "Ranked anew": f"the best {index.rerank} of a scan, by a decoder"
        if index.rerank and index.product_quantizer.decoder is not None
        else "nothing",
    }
    if isinstance(index, DeepQuantIVFIndex):
        told["Cells"] = f"{int(index.nlist):,}, of which a search looks into {int(index.nprobe):,}"
    told["Fingerprint"] = str(index.fingerprint)
    return told


def smaller(index: Index) -> str:
    """Say how many times smaller codes are than vectors of float32."""
    times = 4 * int(index.d) / int(index.code_size)
    return f"{times:,.0f}" if times >= 100 else f"{times:.3g}"


def compared(index: Index) -> str:
    """Say what vectors are compared by."""
    if is_cosine(index):
        return "cosine"
    return "Euclidean distance" if index.metric_type == METRIC_L2 else "inner product"


def _size(count: int) -> str:
    """Bytes in words."""
    power = 0 if count < 1000 else min(4, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def _recalls(I: Ids, truth: Ids) -> dict[str, float]:
    wanted = [(1, 1), (1, 10), (1, 100), (10, 10), (10, 100)]
    return {
        f"{k}-recall@{r}": recall(I, truth, k=k, r=r)
        for k, r in wanted
        if k <= truth.shape[1] and r <= I.shape[1]
    }


def _name_of(truth: Any, k: int) -> str:
    return f"{min(k, truth.shape[1])}-recall@{k}"


def _recall(I: Ids, truth: Any, k: int) -> float:
    return recall(I, truth, k=min(k, truth.shape[1]), r=k)


def _varied(index: Index, count: int) -> tuple[str, list[int]]:
    """Return what costs time and finds more, and the values of it to try; none for a plain scan."""
    if isinstance(index, DeepQuantIVFIndex):
        doubled = [1 << power for power in range(16) if 1 << power <= index.nlist]
        return "nprobe", sorted({*doubled, min(int(index.nprobe), int(index.nlist))})
    if index.product_quantizer.decoder is not None:
        values = {0, *_RERANKS, int(index.rerank)}
        return "rerank", sorted(value for value in values if value <= count)
    return "", []


def _without(of_queries: Any, of_base: Any, rows: Any) -> tuple[Any, Any]:
    """Labels of which some stored rows have a class, or no tag, that no query has."""
    if of_base.ndim == 2:
        left = of_base.copy()
        left[rows] = False
        return of_queries, left
    classes, numbers = np.unique(np.concatenate([of_queries, of_base]), return_inverse=True)
    queries, base = numbers[: len(of_queries)], numbers[len(of_queries) :].copy()
    base[rows] = len(classes)
    return queries, base
