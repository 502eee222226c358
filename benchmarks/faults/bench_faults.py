"""What faults do to deepq's indexes and their files: the promises of docs/reliability.md, tested.

    python -m benchmarks.faults.bench_faults --output benchmarks/results/faults.jsonl

Whatever may crash or hang does so in a child. Some faults need Linux and the rights of root (file
systems, permissions); without these they are left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common.harness import in_one_thread, parser, run
from benchmarks.common.results import Row
from benchmarks.faults import damage, memory, pickles, places, saving, threads
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.files import KINDS, SMALL, Sizes
from benchmarks.faults.reading import Case, case_of, outcome, read_and_use

COLUMNS = ["case", "what", "n", "outcomes", "slowest_s"]


class Amounts:
    """How much of everything is done."""

    def __init__(self, *, smoke: bool) -> None:
        self.part = 0.02 if smoke else 1.0  # of the 705 damaged files
        self.stride = 97 if smoke else 1  # of the changes of a small file
        self.kills = 4 if smoke else 250
        self.saved = 1 << 20 if smoke else 96 << 20
        self.loaded = 1 << 24 if smoke else 256 << 20
        self.seconds = 1.0 if smoke else 60.0


def corpus(amounts: Amounts, seed: int) -> Iterator[Row]:
    """705 damaged files of every kind, each read in a child of its own."""
    for name, kind in KINDS.items():
        with _folder() as folder:
            case = case_of(kind, Sizes(), folder / "index")
            found: dict[str, Counter[str]] = defaultdict(Counter)
            slowest = 0.0
            for what, content in damage.corpus(case.content, seed, amounts.part):
                got = outcome(case, content, folder / "index")
                found[what][got.what] += 1
                slowest = max(slowest, got.seconds)
        total = sum(found.values(), Counter())
        by_damage = {what: dict(counts) for what, counts in found.items()}
        yield _row("corpus", name, total, slowest_s=slowest, by_damage=by_damage)


def exhaustive(amounts: Amounts) -> Iterator[Row]:
    """Every prefix and every changed byte of a small file, all in one child."""
    for name, kind in KINDS.items():
        with _folder() as folder:
            case = case_of(kind, SMALL, folder / "index")
            work = _Exhaustive(case, folder / "index", amounts.stride)
            try:
                total, slowest = in_child(work, seconds=3600)
            except (CrashError, HangError) as error:
                total, slowest = Counter({type(error).__name__: 1}), 0.0
        yield _row("every byte", name, total, slowest_s=slowest)


class _Exhaustive:
    """The work of that child."""

    def __init__(self, case: Case, path: Path, stride: int) -> None:
        self.case, self.path, self.stride = case, path, stride

    def __call__(self) -> tuple[Counter[str], float]:
        found, slowest = Counter[str](), 0.0
        for number, (_, content) in enumerate(damage.exhaustive(self.case.content)):
            if number % self.stride:
                continue
            self.path.write_bytes(content)
            got = read_and_use(self.case, content, self.path)
            found[got.what] += 1
            slowest = max(slowest, got.seconds)
        return found, slowest


def kills(amounts: Amounts) -> Iterator[Row]:
    """Kill saves that replace an index."""
    with _folder() as folder:
        found = saving.kills(amounts.saved, amounts.kills, folder)
    outcomes = {name: found.pop(name, 0) for name in ("old", "new", "lost")}
    yield _row("kills", "a save over an index", Counter(outcomes), **found)


def no_room(_: Amounts) -> Iterator[Row]:
    """Try saves that cannot end."""
    yield from _counted("no room", lambda folder: saving.no_room(800_000, folder))


def paths(_: Amounts) -> Iterator[Row]:
    """Places that are no files, and odd names."""
    yield from _counted("paths", places.no_files)
    yield from _counted("paths", places.odd_names)


def hostile(_: Amounts) -> Iterator[Row]:
    """Pickles that ask for more than an index."""
    with _folder() as folder:
        found = list(pickles.outcomes(folder))
    total = Counter(said for _, said in found)
    harmful = sorted({name for name, said in found if said != "refused"})
    yield _row("pickles", "hostile pickles", total, harmful=harmful)


def adding(amounts: Amounts) -> Iterator[Row]:
    """Four threads that add, beside four that search."""
    found = threads.trial(amounts.seconds)
    total = Counter({found.pop("outcome"): 1})
    yield _row("threads", f"{amounts.seconds:g} s", total, **found)


def limits(amounts: Amounts) -> Iterator[Row]:
    """Memory of a load, and loads of large files that must fail."""
    with _folder() as folder:
        path = folder / "index"
        memory.write(amounts.loaded, path)
        figures = {"bytes": path.stat().st_size, "peak": memory.peak(path)}
        trials = {"too little memory": memory.with_too_little, "cut by a byte": memory.cut}
        for name, trial in trials.items():
            said, seconds = trial(path)
            yield _row("memory", name, Counter({said: 1}), slowest_s=seconds, **figures)


def _counted(case: str, trials: Callable[[Path], Iterable[tuple[str, str]]]) -> Iterator[Row]:
    """Count the outcomes of every kind of trial."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    with _folder() as folder:
        for what, said in trials(folder):
            found[what][said] += 1
    for what, counts in found.items():
        yield _row(case, what, counts)


def _row(case: str, what: str, outcomes: Counter[str], **figures: Any) -> Row:
    common = {"case": case, "what": what, "n": outcomes.total()}
    return {**common, "outcomes": dict(outcomes), **figures}


class _folder(tempfile.TemporaryDirectory):  # noqa: N801 as the functions of contextlib
    """A folder for a while, as a path."""

    def __enter__(self) -> Path:
        return Path(super().__enter__())


CASES: dict[str, Callable[[Amounts, int], Iterator[Row]]] = {
    "corpus": corpus,
    "every byte": lambda amounts, _: exhaustive(amounts),
    "kills": lambda amounts, _: kills(amounts),
    "no room": lambda amounts, _: no_room(amounts),
    "paths": lambda amounts, _: paths(amounts),
    "pickles": lambda amounts, _: hostile(amounts),
    "threads": lambda amounts, _: adding(amounts),
    "memory": lambda amounts, _: limits(amounts),
}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Do it all."""
    amounts = Amounts(smoke=options.smoke)
    for name in options.case:
        yield from CASES[name](amounts, options.seed)


def main() -> None:
    """Run from the command line."""
    options = parser(__doc__ or "", CASES).parse_args()
    run(options, "faults", rows(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
