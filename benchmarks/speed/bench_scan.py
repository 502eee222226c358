"""Speed of DeepQuantIndex.search against faiss.IndexPQ on the same codebooks and codes.

    python -m benchmarks.speed.bench_scan --case batch --data sift.npz \
        --output benchmarks/results/scan.jsonl

The same with `--data text.npz`, `--data text.npz --double` (768 dimensions: two differently noised
copies of every vector side by side) and `--gauss 128` (iid normal, the worst case for pruning).
Without --case all of these are run:

    batch          64 and 256 queries at once, 1M codes, k = 10
    base50k        the same among 50,000 codes
    inner_product  the same by inner product
    k              k = 100 and 1000
    few            1, 2, 4, 8 and 16 queries at once
    threads        two threads against one, wall-clock time, 1 and 256 queries at once
    ranking        all of 50,000 codes ranked
    restricted     1, 10 and 50 % of the ids allowed, against our own full search
    range          range_search at the median distance of a 10th neighbour, against our own search
                   and faiss.IndexPQ.range_search
    ten_million    10M codes

The base is the data set's, repeated with noise of a tenth of the spread of each column up to the
number of codes. Training takes rows of the training part only, and the queries are held out. Each
figure is the median over rounds of a ratio of thread CPU times, one thread, against faiss at its
default SIMD level and at whichever level is fastest here. faiss gets its queries encoded; for ours,
encoding is part of the time. The answers are compared in the same run; faiss orders equal inner
products in another way, so there the scores are what has to agree. DEEPQ_SIMD=avx2 or portable in
the environment chooses another instruction set for deepq.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import pairs, vectors
from benchmarks.common.harness import calls, in_one_thread, paired_times, parser, ratio, run, versus
from benchmarks.common.pairs import Load, Pair, agreement, queries_for

COLUMNS = [
    *("case", "data", "N", "M", "nq", "k", "metric", "ids", "us_per_query", "x_default", "x_best"),
    *("x_one_thread", "of_full", "ids_equal", "scores_equal"),
]
# Codes of each length of vector, where --M asks for no others.
SIZES = {128: (4, 8, 16, 32), 384: (48,), 768: (96,)}
_SHARES = (0.01, 0.1, 0.5)
# faiss searches ranges query by query, and slowly: a few are timed, and taken for all.
_FAISS_RANGES = 4


def against_faiss(load: Load) -> Iterator[dict[str, Any]]:
    """Time searches of both."""
    figures, ours, theirs = load.versus()
    yield {**figures, **agreement(ours, theirs)}


def two_threads(load: Load) -> Iterator[dict[str, Any]]:
    """Time our search with one thread and with two, by the clock on the wall."""

    def with_threads(count: int) -> None:
        faiss.omp_set_num_threads(count)
        search()
        faiss.omp_set_num_threads(1)

    search = load.ours()
    engines = {"one": lambda: with_threads(1), "two": lambda: with_threads(2)}
    paired_times(engines, 1)
    times = paired_times(engines, load.repeats, time.perf_counter)
    figure = ratio(times, "one", "two")
    yield {
        "us_per_query": load.us_per_query(times["two"]),
        "x_one_thread": figure,
        "seconds": times,
    }


def restricted(load: Load) -> Iterator[dict[str, Any]]:
    """Time searches among part of the ids against full searches."""
    for share in _SHARES:
        for name, (selector, allowed) in _selectors(load.pair.ours.ntotal, share).items():
            search = load.ours(params=faiss.SearchParameters(sel=selector))
            figures = {**_of_full(load, search), **_among(load, allowed, search())}
            yield {"selector": name, "share": share, "ids": f"{name} {share:.0%}", **figures}


def _selectors(n: int, share: float) -> dict[str, tuple[Any, NDArray[np.int64]]]:
    """Return a selector of every kind for a share of n ids, and the ids in ascending order."""
    rng = np.random.default_rng(n)
    count = max(1, int(n * share))
    ids = np.sort(rng.choice(n, count, replace=False))
    bits = np.packbits(np.isin(np.arange(n), ids), bitorder="little")
    first = int(rng.integers(n - count))
    half, even = faiss.IDSelectorRange(0, n // 2), np.arange(0, n, 2)
    others = faiss.IDSelectorBatch(np.setdiff1d(np.arange(n), ids))
    few, evens = faiss.IDSelectorBatch(ids), faiss.IDSelectorBatch(even)
    return {
        "Not": (faiss.IDSelectorNot(others), ids),
        "And": (faiss.IDSelectorAnd(few, half), ids[ids < n // 2]),
        "Or": (faiss.IDSelectorOr(few, faiss.IDSelectorRange(0, 9)), np.union1d(ids, np.arange(9))),
        "XOr": (faiss.IDSelectorXOr(few, evens), np.setxor1d(ids, even)),
        "Array": (faiss.IDSelectorArray(ids), ids),
        "Batch": (faiss.IDSelectorBatch(ids), ids),
        "Bitmap": (faiss.IDSelectorBitmap(bits), ids),
        "Range": (faiss.IDSelectorRange(first, first + count), np.arange(first, first + count)),
    }


def _of_full(load: Load, search: Callable[[], Any]) -> dict[str, Any]:
    """Time what takes the place of a full search against that."""
    engines = {"this": search, "full": load.ours()}
    paired_times(engines, 1)
    times = paired_times(engines, load.repeats)
    us = load.us_per_query(times["this"])
    return {"us_per_query": us, "of_full": ratio(times, "this", "full"), "seconds_of_full": times}


def _among(load: Load, allowed: NDArray[np.int64], answers: list[Any]) -> dict[str, float]:
    """Compare answers with those of an index that has nothing but the allowed codes."""
    ours = load.pair.ours
    part = pairs.pair(ours, pairs.stored(ours)[allowed], "L2").ours
    expected = calls(lambda x: part.search(x, load.k), load.queries, load.nq)()
    return agreement(answers, [(D, np.where(I < 0, -1, allowed[I])) for D, I in expected])


def ranges(load: Load) -> Iterator[dict[str, Any]]:
    """Time range searches of both, and ours against our full search."""
    ours, theirs = load.pair.ours, load.pair.theirs
    radius = float(np.median([D[:, -1] for D, _ in load.ours()()]))
    search = calls(lambda x: ours.range_search(x, radius), load.queries, load.nq)
    few = load.encoded[:_FAISS_RANGES]
    figures, _, found = versus(search, lambda: theirs.range_search(few, radius), load.repeats)
    for name in ("x_default", "x_best"):
        figures[name] *= len(load.queries) / len(few)
    same = _same_ranges(ours.range_search(load.queries[: len(few)], radius), found)
    yield {"radius": radius, **figures, **_of_full(load, search), "ids_equal": float(same)}


def _same_ranges(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    """Whether two range searches found the same ids for every query, in whatever order."""
    (lims, _, I), (faiss_lims, _, I_faiss) = ours, theirs
    if not np.array_equal(lims, faiss_lims):
        return False
    query = np.repeat(np.arange(len(lims) - 1), np.diff(lims.astype(np.int64)))
    return np.array_equal(I[np.lexsort((I, query))], I_faiss[np.lexsort((I_faiss, query))])


@dataclass(frozen=True)
class Case:
    """What is measured, and for which numbers of codes, queries at once and results."""

    measure: Callable[[Load], Iterator[dict[str, Any]]] = against_faiss
    sizes: tuple[int, ...] = (8, 16, 48)
    n: tuple[int, ...] = (1_000_000,)
    nq: tuple[int, ...] = (64, 256)
    k: tuple[int, ...] = (10,)
    metric: str = "L2"


CASES = {
    "batch": Case(sizes=(4, 8, 16, 32, 48, 96)),
    "base50k": Case(n=(50_000,)),
    "inner_product": Case(metric="IP"),
    "k": Case(nq=(64,), k=(100, 1000)),
    "few": Case(nq=(1, 2, 4, 8, 16)),
    "threads": Case(two_threads, nq=(1, 256)),
    "ranking": Case(n=(50_000,), nq=(16,), k=(50_000,)),
    "restricted": Case(restricted, sizes=(8, 48), nq=(1, 64)),
    "range": Case(ranges, sizes=(8, 48), nq=(1, 64)),
    "ten_million": Case(sizes=(8,), n=(10_000_000,), nq=(1, 64)),
}


def chosen(options: argparse.Namespace, d: int) -> dict[str, Case]:
    """Return the cases asked for, with the numbers of the command line in place of their own."""
    overrides = {"sizes": options.M, "n": options.n, "nq": options.nq, "k": options.k}
    overrides = {field: tuple(numbers) for field, numbers in overrides.items() if numbers}
    cases = {}
    for name in options.case:
        case = CASES[name]
        case = replace(case, sizes=tuple(M for M in SIZES.get(d, (8, 16)) if M in case.sizes))
        if options.smoke:
            case = replace(case, sizes=(8,), n=(2000,), nq=case.nq[:2])
        cases[name] = replace(case, **overrides)
    return cases


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every combination of the cases; each size of code is trained and encoded once."""
    source = vectors.of(options)
    cases = chosen(options, source.d)
    for M in sorted({M for case in cases.values() for M in case.sizes}):
        mine = {name: case for name, case in cases.items() if M in case.sizes}
        index = pairs.trained(source, M, options.nbits, options.encoder)
        codes = pairs.codes_of(index, source, max(n for case in mine.values() for n in case.n))
        for name, case in mine.items():
            for n in case.n:
                pair = pairs.pair(index, codes[:n], case.metric)
                about = {"case": name, "data": source.name, "d": source.d, "N": n, "M": M}
                about |= {"nbits": options.nbits, "metric": case.metric}
                yield from (about | row for row in _rows(case, pair, source, options.repeats))


def _rows(
    case: Case, pair: Pair, source: vectors.Vectors, repeats: int
) -> Iterator[dict[str, Any]]:
    """Measure one pair of indexes with every number of queries and results of a case."""
    for nq, k in itertools.product(case.nq, case.k):
        queries = source.queries(queries_for(nq, pair.ours.ntotal, k))
        encoded = pair.ours.encoder.encode(queries)
        k = min(k, pair.ours.ntotal)
        load = Load(pair, queries, encoded, nq, k, repeats)
        yield from ({"nq": nq, "k": k, **row} for row in case.measure(load))


def main() -> None:
    """Measure the cases asked for."""
    arguments = parser(__doc__ or "", CASES)
    vectors.add_arguments(arguments)
    for name in ("--M", "--n", "--nq", "--k"):
        arguments.add_argument(name, type=int, nargs="+", help="default: those of the case")
    arguments.add_argument("--nbits", type=int, default=8)
    arguments.add_argument("--encoder", choices=list(pairs.ENCODERS), default="rotation")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    if options.smoke:
        options.repeats = 1
    run(options, "scan", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
