"""A run of a benchmark: its options, its data, one thread, paired timings, its record."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common.results import SEED, record, table
from deepq import datasets

_Key = TypeVar("_Key")

# Where things lie on one machine; the name of the data is in every row.
_NOT_RECORDED = ("data", "output", "smoke", "before", "serve", "indexes", "work")


def in_one_thread(main: Callable[[], None]) -> None:
    """Run a benchmark with one thread for everybody: BLAS, torch, faiss, deepq, which follows it.

    What is loaded later asks the environment: torch, and turbovec.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        main()


def parser(description: str, cases: Iterable[str] = ()) -> argparse.ArgumentParser:
    """Return an argument parser with what every benchmark takes, and `--case` if it has several."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if cases:
        arguments.add_argument(
            "--case", nargs="+", choices=list(cases), default=list(cases), help="default: all"
        )
    arguments.add_argument(
        "--data",
        help="npz with train, base, query[, gt], or a folder of fvecs (default: shipped set)",
    )
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument(
        "--output", type=Path, help="file to append JSON lines to (default: none)"
    )
    arguments.add_argument(
        "--smoke", action="store_true", help="a tiny run that shows that all of it works"
    )
    return arguments


def load(path: str | None) -> datasets.Dataset:
    """Load the data set of a run."""
    return datasets.load(path) if path else datasets.wordnet_glosses()


def run(
    options: argparse.Namespace,
    benchmark: str,
    rows: Iterable[dict[str, Any]],
    columns: list[str],
) -> None:
    """Record every result with the arguments of its run as soon as it is there; print a table."""
    arguments = {key: value for key, value in vars(options).items() if key not in _NOT_RECORDED}
    done = []
    for row in rows:
        record(options.output, {"benchmark": benchmark, "arguments": arguments, **row})
        done.append(row)
    print(table(done, columns))


def paired_times(
    engines: Mapping[_Key, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.thread_time,
) -> dict[_Key, list[float]]:
    """Seconds of every engine in every round; they take turns, so that all see the same load."""
    times: dict[_Key, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, engine in engines.items():
            start = clock()
            engine()
            times[name].append(clock() - start)
    return times


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return the median over the rounds of how many times faster `fast` is."""
    return median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def calls(
    search: Callable[[NDArray[np.float32]], Any], queries: NDArray[Any], nq: int
) -> Callable[[], list[Any]]:
    """Return a function that searches for all queries, nq in a call, and returns the answers."""
    blocks = [queries[first : first + nq] for first in range(0, len(queries), nq)]
    return lambda: [search(block) for block in blocks]


def versus(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    repeats: int,
    clock: Callable[[], float] = time.thread_time,
) -> tuple[dict[str, Any], Any, Any]:
    """Time deepq against faiss at its default SIMD level and at the fastest level of a trial.

    Returns the figures, and what the two functions return.
    """
    our_answer, their_answer = ours(), theirs()
    levels = {level: partial(_at_level, level, theirs) for level in faiss_levels()}
    default = next(iter(levels))
    trial = paired_times(levels, 1, clock)
    best = min(trial, key=lambda level: trial[level][0])
    engines = {"deepq": ours} | {level: levels[level] for level in (default, best)}
    times = paired_times(engines, repeats, clock)
    figures = {
        "x_default": ratio(times, default, "deepq"),
        "x_best": ratio(times, best, "deepq"),
        "faiss_default": default,
        "faiss_best": best,
        "seconds": times,
    }
    return figures, our_answer, their_answer


def _at_level(level: str, run: Callable[[], Any]) -> Any:
    with faiss_level(level):
        return run()


@cache
def faiss_levels() -> list[str]:
    """Names of the SIMD levels this faiss can be switched to, its default first."""
    if not hasattr(faiss, "SIMDConfig") or not hasattr(faiss.SIMDConfig, "set_level"):
        return ["default"]
    default = faiss.SIMDConfig.get_level()
    levels = []
    for name in dir(faiss):
        if name.startswith("SIMDLevel_") and name not in ("SIMDLevel_COUNT",):
            try:
                faiss.SIMDConfig.set_level(getattr(faiss, name))
                levels.append(name.removeprefix("SIMDLevel_"))
            except RuntimeError:
                continue
    faiss.SIMDConfig.set_level(default)
    levels.sort(key=lambda name: getattr(faiss, f"SIMDLevel_{name}") != default)
    return levels


@contextmanager
def faiss_level(name: str) -> Iterator[None]:
    """Run faiss at one of `faiss_levels`."""
    if name == "default":
        yield
        return
    before = faiss.SIMDConfig.get_level()
    faiss.SIMDConfig.set_level(getattr(faiss, f"SIMDLevel_{name}"))
    try:
        yield
    finally:
        faiss.SIMDConfig.set_level(before)
