"""Speed of searches beside that of another build of deepq, with the same codebooks and codes.

    git worktree add ../before COMMIT && make -C ../before setup
    python -m benchmarks.speed.bench_builds --before ../before/.venv/bin/python --data sift.npz \
        --output benchmarks/results/builds.jsonl

The same with `--data text.npz --bytes 48 64 96`, with `--gauss 128`, and under DEEPQ_SIMD=avx2.
Both builds, each in a process of its own, and faiss at its default and at its best SIMD level take
turns with the same queries, which faiss gets rotated; CPU time of one thread. `same` says that both
builds found the same ids and scores, to the bit. The cases, with M = --bytes and k = 10:

    one        one query at once, among 1,000 to 1,000,000 codes
    batch      256 queries at once, among 50,000 and 200,000 codes
    million    256 queries at once and one among 1,000,000 codes, without faiss, which takes minutes
    fourbit    one query among 1,000,000 4-bit codes, two a byte, against faiss.IndexPQFastScan
    selectors  one query among a tenth of 1,000,000 codes, picked by every kind of selector
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common import pairs, vectors
from benchmarks.common.harness import faiss_level, faiss_levels, in_one_thread, parser, run

COLUMNS = [
    *("case", "data", "N", "M", "nq", "selector", "us_per_query"),
    *("x_before", "x_default", "x_best", "same"),
]
SIZES = {"one": (1000, 10_000, 100_000, 1_000_000), "batch": (50_000, 200_000)}
ROOT = Path(__file__).parents[2]
QUERIES = {"batch": (256,), "million": (256, 1)}
_QUERIES = {1: 32, 256: 256}
_K = 10
Answers = tuple[NDArray[Any], NDArray[Any]]


def selector(kind: str, n: int) -> Any:
    """Make a selector of a tenth of n ids; those of others are made of two such."""
    rng = np.random.default_rng(n)
    ids = np.sort(rng.choice(n, n // 10, replace=False))
    batch, half = faiss.IDSelectorBatch(ids), faiss.IDSelectorRange(0, n // 2)
    if kind == "Batch":
        return batch
    if kind == "Not":
        return faiss.IDSelectorNot(batch)
    return getattr(faiss, f"IDSelector{kind}")(batch, half)


class Worker:
    """One build's index in this process, which searches when it is told to."""

    def __init__(self) -> None:
        faiss.omp_set_num_threads(1)
        self.index: Any = None
        self.queries = np.empty((0, 0), np.float32)
        self.nq, self.params = 1, None

    def load(self, path: str, n: int, nq: int, kind: str | None) -> None:
        """Make the index of the arrays in a file, with the first n codes."""
        with np.load(path) as arrays:
            rotation = deepq.encoders.Rotation.of(arrays["rotation"])
            self.index = deepq.DeepQuantIndex.from_codebooks(arrays["codebooks"], rotation)
            self.index.add_sa_codes(arrays["codes"][:n])
            self.queries = arrays["queries"][: _QUERIES[nq]]
        self.nq = nq
        self.params = deepq.SearchParameters(sel=selector(kind, n)) if kind else None
        self.answer()

    def answer(self) -> Answers:
        """Search for all queries, nq in a call."""
        blocks = range(0, len(self.queries), self.nq)
        found = [
            self.index.search(self.queries[i : i + self.nq], _K, params=self.params) for i in blocks
        ]
        return np.concatenate([D for D, _ in found]), np.concatenate([I for _, I in found])

    def seconds(self) -> float:
        """CPU time of `answer`."""
        start = time.thread_time()
        self.answer()
        return time.thread_time() - start

    def place(self) -> str:
        """Where its deepq is."""
        return deepq.__file__

    def serve(self, connection: Connection) -> None:
        """Do what comes over a connection until it ends."""
        while True:
            try:
                name, *arguments = connection.recv()
            except EOFError:
                return
            connection.send(getattr(self, name)(*arguments))


class Before:
    """The `Worker` of the other build."""

    def __init__(self, python: str) -> None:
        listener = Listener(None, authkey=b"bench")
        # Away from here, and with its own deepq imported before this folder is looked into.
        script = (
            "import runpy, sys, deepq; sys.path.append(sys.argv.pop(1)); "
            f"runpy.run_module({__spec__.name!r}, run_name='__main__')"
        )
        command = [python, "-c", script, str(ROOT), "--serve", str(listener.address)]
        with tempfile.TemporaryDirectory() as away:
            self._process = subprocess.Popen(command, cwd=away)
            self._connection = listener.accept()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._connection.send((name, *arguments))
            return self._connection.recv()

        return call

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._process.wait()


def arrays(source: vectors.Vectors, M: int, nbits: int, n: int, path: Path) -> None:
    """Train an index and write it, the codes of n vectors and queries into a file."""
    index = pairs.trained(source, M, nbits, "rotation")
    codes = pairs.codes_of(index, source, n)
    queries = source.queries(max(_QUERIES.values()))
    parts = {"rotation": index.encoder.A, "codebooks": index.codebooks}
    np.savez(path, codes=codes, queries=queries, **parts)


def theirs(now: Worker, case: str) -> Any:
    """Make faiss's index of the same codes."""
    if case == "million":
        return None
    twin = pairs.empty_twin(now.index)
    twin.add_sa_codes(pairs.stored(now.index))
    return faiss.IndexPQFastScan(twin, 32) if case == "fourbit" else twin


def compared(now: Worker, before: Any, other: Any, repeats: int) -> dict[str, Any]:
    """Time both builds, and faiss, in turns."""
    encoded = now.index.encoder.encode(now.queries)

    def of_faiss(level: str) -> float:
        with faiss_level(level):
            start = time.thread_time()
            for first in range(0, len(encoded), now.nq):
                other.search(encoded[first : first + now.nq], _K)
            return time.thread_time() - start

    levels = faiss_levels() if other is not None else []
    times: dict[str, list[float]] = {"now": [], "before": [], **{level: [] for level in levels}}
    for _ in range(repeats):
        times["now"].append(now.seconds())
        times["before"].append(before.seconds())
        for level in levels:
            times[level].append(of_faiss(level))
    slower = {name: _ratio(values, times["now"]) for name, values in times.items()}
    same = all(np.array_equal(a, b) for a, b in zip(now.answer(), before.answer(), strict=True))
    row = {"us_per_query": median(times["now"]) / len(now.queries) * 1e6, "seconds": times}
    row |= {"x_before": slower["before"], "same": same}
    if levels:
        row |= {"x_default": slower[levels[0]], "x_best": min(slower[level] for level in levels)}
    return row


def _ratio(slow: list[float], fast: list[float]) -> float:
    return median(a / b for a, b in zip(slow, fast, strict=True))


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure the cases asked for."""
    source, now, before = vectors.of(options), Worker(), Before(options.before)
    if before.place() == now.place() and not options.smoke:
        raise SystemExit(f"expected a Python with another build of deepq, got {options.before}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        for M in options.bytes:
            for nbits in sorted({4 if case == "fourbit" else 8 for case in options.case}):
                arrays(source, M * 8 // nbits, nbits, options.n, path)
                cases = [case for case in options.case if (case == "fourbit") == (nbits == 4)]
                for case, n, nq, kind in _combinations(cases, options.n):
                    for worker in (now, before):
                        worker.load(str(path), n, nq, kind)
                    other = None if kind else theirs(now, case)
                    about = {"case": case, "data": source.name, "N": n, "M": M, "nbits": nbits}
                    about |= {"nq": nq, "k": _K, "selector": kind}
                    yield about | compared(now, before, other, options.repeats)
    before.close()


def _combinations(cases: list[str], most: int) -> Iterator[tuple[str, int, int, str | None]]:
    """Every case with its numbers of codes and of queries at once, and its selectors."""
    for case in cases:
        kinds = ("Batch", "Not", "And", "Or", "XOr") if case == "selectors" else (None,)
        for n in SIZES.get(case, (1_000_000,)):
            for kind in kinds:
                for nq in QUERIES.get(case, (1,)):
                    if n <= most:
                        yield case, n, nq, kind


def main() -> None:
    """Measure the cases asked for, or serve another process that does."""
    arguments = parser(__doc__ or "", ["one", "batch", "million", "fourbit", "selectors"])
    vectors.add_arguments(arguments)
    arguments.add_argument("--before", default=sys.executable, help="Python of the other build")
    arguments.add_argument("--serve", help=argparse.SUPPRESS)
    arguments.add_argument("--bytes", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--n", type=int, default=1_000_000, help="most codes")
    arguments.add_argument("--repeats", type=int, default=7)
    options = arguments.parse_args()
    if options.serve:
        with Client(options.serve, authkey=b"bench") as connection:
            Worker().serve(connection)
        return
    if options.smoke:
        options.n, options.bytes, options.repeats = 1000, [8], 1
    run(options, "builds", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
