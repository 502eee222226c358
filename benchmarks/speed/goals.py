"""The goals for the speed of the scan and of encoding, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.common.results import Row

LEVELS = {"avx512": "AVX-512", "avx2": "AVX2", "portable": "portable"}


def clustered(data: str) -> bool:
    """Whether a data set is more than noise."""
    return data != "gauss"


@dataclass(frozen=True)
class Goal:
    """A row of the table: which results it shows.

    `where` maps fields of a result to the value they have, or to a test of it.
    """

    case: str
    goal: str
    benchmark: str
    where: dict[str, Any]

    def shows(self, row: Row) -> bool:
        """Whether a result belongs to this row."""
        return row["benchmark"] == self.benchmark and all(
            value(row.get(field)) if callable(value) else row.get(field) == value
            for field, value in self.where.items()
        )


def _batch(M: int, goal: str, note: str = "") -> Goal:
    return Goal(f"batch, M = {M}{note}", goal, "scan", {"case": "batch", "M": M})


def _scan(case: str, goal: str, name: str, **where: Any) -> Goal:
    return Goal(case, goal, "scan", {"case": name, **where})


def _codes(case: str, goal: str, name: str, **where: Any) -> Goal:
    return Goal(case, goal, "codes", {"case": name, **where})


def _encode(case: str, goal: str, name: str, **where: Any) -> Goal:
    return Goal(case, goal, "encode", {"case": name, **where})


def _several(nq: int) -> bool:
    return nq > 1


NEVER_SLOWER = "at most 1 of a full search"

GOALS = [
    _batch(4, "40x / 18x"),
    _batch(8, "40x / 18x"),
    _batch(16, "35x / 16x"),
    _batch(32, "20x / 12x"),
    _batch(48, "20x / 12x", " (384 dimensions)"),
    _batch(96, "20x / 12x", " (768 dimensions)"),
    _scan("batch, 50,000 codes", "20x / 10x", "base50k"),
    _scan("batch, inner product", "as L2", "inner_product"),
    _scan("batch, k = 100", "25x / 12x", "k", k=100),
    _scan("batch, k = 1000", "8x / 4x", "k", k=1000),
    _scan("1 query, any data", "3.5x / 1.6x", "few", nq=1),
    _scan("1 query, data that clusters", "10x / 5x", "few", nq=1, data=clustered),
    _scan("2 queries", "3x / -", "few", nq=2),
    _scan("4 queries", "6x / -", "few", nq=4),
    _scan("8 queries", "10x / -", "few", nq=8),
    _scan("16 queries", "18x / -", "few", nq=16),
    _codes("4-bit codes against FastScan, batch, M = 16", "3x", "fourbit", M=16, nq=_several),
    _codes("the same, M = 32", "3x", "fourbit", M=32, nq=_several),
    _codes("1 query, M = 16", "1.3x", "fourbit", M=16, nq=1),
    _codes("1 query, M = 32", "1.3x", "fourbit", M=32, nq=1),
    _codes("48-bit hashes against IndexBinaryFlat, batch", "5x", "binary", M=6, nq=_several),
    _codes("64-bit hashes, batch", "5x", "binary", M=8, nq=_several),
    _codes("48-bit hashes, 1 query", "1x", "binary", M=6, nq=1),
    _codes("64-bit hashes, 1 query", "1x", "binary", M=8, nq=1),
    _codes("12-bit hashes, batch", "no flood of ties", "short", nq=_several),
    _codes("12-bit hashes, 1 query", "no flood of ties", "short", nq=1),
    _scan("two threads against one, 256 queries", "1.7x", "threads", nq=256),
    _scan("two threads against one, 1 query", "1.7x", "threads", nq=1),
    _scan("50,000 codes ranked", "15x", "ranking"),
    _scan("1 % of the ids allowed", NEVER_SLOWER, "restricted", share=0.01),
    _scan("10 % of the ids allowed", NEVER_SLOWER, "restricted", share=0.1),
    _scan("50 % of the ids allowed", NEVER_SLOWER, "restricted", share=0.5),
    _scan("range_search, batch", NEVER_SLOWER, "range", nq=_several),
    _scan("range_search, 1 query", NEVER_SLOWER, "range", nq=1),
    _scan("10M codes, batch", "40x / 18x", "ten_million", nq=_several),
    _scan("10M codes, 1 query", "3.5x / 1.6x", "ten_million", nq=1),
    _encode("add, d = 128, M = 8", "6x", "add", d=128, M=8, encoder="identity"),
    _encode("add, d = 128, M = 16", "2x", "add", d=128, M=16, encoder="identity"),
    _encode("add, d = 384, M = 48", "1x", "add", d=384, M=48, encoder="identity"),
    _encode("add with the default encoder", "1x", "add", encoder="rotation"),
    _encode("k-means, d = 128, M = 8", "1.5x", "kmeans", d=128, M=8),
    _encode("k-means, d = 384, M = 48", "4x", "kmeans", d=384, M=48),
]


def goal_rows(results: Iterable[Row]) -> list[Row]:
    """Return the rows of the table: for each instruction set the worst result of each data set."""
    results = list(results)
    return [
        {
            "case": goal.case,
            "goal": goal.goal,
            **{
                title: _cell([r for r in results if r["simd"] == level and goal.shows(r)])
                for level, title in LEVELS.items()
            },
        }
        for goal in GOALS
    ]


def _cell(results: list[Row]) -> str:
    """Describe the worst result of each data set."""
    worst = {
        data: max((r for r in results if r["data"] == data), key=_badness)
        for data in dict.fromkeys(r["data"] for r in results)
    }
    return "; ".join(f"{data} {_figure(row)}" for data, row in worst.items()) or "-"


def _badness(row: Row) -> float:
    if "of_full" in row:
        return row["of_full"]
    return -row.get("x_one_thread", row.get("x_best", 0.0))


_FIGURES: list[tuple[str, Callable[[Row], str]]] = [
    ("of_full", lambda row: f"{row['of_full']:.2f} of a full search"),
    ("selector", lambda row: f"by IDSelector{row['selector']}"),
    ("x_one_thread", lambda row: f"{row['x_one_thread']:.2f}x"),
    ("x_default", lambda row: f"{row['x_default']:.1f}x / {row['x_best']:.1f}x"),
    ("overlap", lambda row: f"FastScan's overlap {row['overlap']:.2f}"),
    ("error_ratio", lambda row: f"error {row['error_ratio']:.3f}"),
]


def _figure(row: Row) -> str:
    return ", ".join(show(row) for field, show in _FIGURES if field in row)


def alternative_rows(results: Iterable[Row]) -> list[Row]:
    """Return the rows of the table of other methods, each beside the fastest of ours as good."""
    results = sorted(results, key=lambda row: (row["bytes"], row["method"]))
    ours = [row for row in results if row["method"] == "deepq"]
    return [
        {
            "method": row["method"],
            "bytes": row["bytes"],
            "10-recall@10": f"{row['10@10']:.3f}",
            "ns a code and query": f"{row['ns']:.2f}",
            "1 query at once": f"{row['ns_single']:.2f}",
            "deepq in no more bytes at no less recall": _as_good(row, ours),
        }
        for row in results
    ]


def _as_good(other: Row, ours: list[Row]) -> str:
    """Name the fastest of our results that is no larger and finds no less; nothing for ours."""
    if other["method"] == "deepq":
        return ""
    good = [r for r in ours if r["bytes"] <= other["bytes"] and r["10@10"] >= other["10@10"]]
    if not good:
        return "none"
    best = min(good, key=lambda row: row["ns"])
    faster = median(b / a for a, b in zip(best["seconds_ns"], other["seconds_ns"], strict=True))
    return f"{best['bytes']} bytes, {faster:.1f}x as fast"


def composite_rows(results: list[Row]) -> list[Row]:
    """Return a row for each composite and number of queries, in times of the bare index."""
    rows: dict[tuple[object, ...], Row] = {}
    for result in results:
        names = {
            "through": result["composite"],
            "data": result["data"],
            "codes": f"{result['N']:,}",
            "queries": result["nq"],
            "goal": "1.2x",
        }
        row = rows.setdefault(tuple(names.values()), names)
        same = "" if result["same"] else ", other ids"
        row[f"M = {result['M']}"] = f"{result['of_bare']:.2f}x{same}"
    return list(rows.values())
