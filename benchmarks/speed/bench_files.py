"""Seconds to save and load index files, beside a plain write and a load without checksums.

    python -m benchmarks.speed.bench_files --output benchmarks/results/files.jsonl

A cold load is one of a file that the system has no copy of in memory. A cached load is timed by the
processor, the others by the clock.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import deepq
from benchmarks.common.harness import in_one_thread, parser, ratio, run
from benchmarks.faults.saving import two_indexes

COLUMNS = ["case", "bytes", "GB_s", "ratio"]


def plain_write(content: bytes, path: Path) -> None:
    """Write bytes, and have them on the disk."""
    with path.open("wb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def forget(path: Path) -> None:
    """Let the system drop its copy of a file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def after(
    prepare: Callable[[], Any], work: Callable[[], Any], clock: Callable[[], float] = perf_counter
) -> Callable[[], float]:
    """Return a function that does both and returns the seconds of the second."""

    def timed() -> float:
        prepare()
        start = clock()
        kept = work()
        seconds = clock() - start
        del kept
        return seconds

    return timed


def compared(first: Callable[[], float], second: Callable[[], float], repeats: int) -> Any:
    """Return the seconds of both, taking turns, each second round in the other order."""
    times: dict[str, list[float]] = {"first": [], "second": []}
    for turn in range(repeats):
        pair = [("first", first), ("second", second)]
        for name, work in pair if turn % 2 else pair[::-1]:
            times[name].append(work())
    return times


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare saves, then loads, for every size."""
    for size in options.bytes:
        repeats = options.repeats if size < 1 << 29 else options.repeats // 3
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index")
            for case, times in measured(size, path, repeats).items():
                length = path.stat().st_size
                yield {
                    "case": case,
                    "bytes": length,
                    "GB_s": length / median(times["second"]) / 1e9,
                    "ratio": ratio(times, "first", "second"),
                    "seconds": times,
                }


def measured(size: int, path: Path, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of what is compared, for an index of so many bytes of codes."""
    index = two_indexes(size)[0]
    deepq.write_index(index, path)
    content = path.read_bytes()

    def remove() -> None:
        path.unlink(missing_ok=True)

    def loads(
        prepare: Callable[[], Any], clock: Callable[[], float] = perf_counter
    ) -> dict[str, list[float]]:
        light = after(prepare, lambda: deepq.read_index(path, verify="header"), clock)
        return compared(light, after(prepare, lambda: deepq.read_index(path), clock), repeats)

    plain = after(remove, lambda: plain_write(content, path))
    return {
        "save": compared(plain, after(remove, lambda: deepq.write_index(index, path)), repeats),
        "cached load": loads(path.read_bytes, thread_time),
        "cold load": loads(lambda: forget(path)),
    }


def main() -> None:
    """Run from the command line."""
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--bytes", type=int, nargs="+", default=[10_000_000, 100_000_000, 1_000_000_000]
    )
    arguments.add_argument("--repeats", type=int, default=15)
    options = arguments.parse_args()
    if options.smoke:
        options.bytes, options.repeats = [1_000_000], 3
    run(options, "files", rows(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
