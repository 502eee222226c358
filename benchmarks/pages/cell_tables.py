"""Tables of docs/cells.md: the speed of cells, how an index grows, what a billion would take."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.common.results import Row
from benchmarks.speed.goals import LEVELS

_GOALS = {
    "batch": "8x / 5x",
    "one": "3x / 2x",
    "fast_scan": "1x",
    "flat": "8x for 1M, 30x for 10M",
    "add": "3x",
}
_CASES = {
    "batch": "1,000 queries at once",
    "one": "1 query at once",
    "fast_scan": "faiss.IndexIVFPQFastScan",
    "flat": "DeepQuantIndex of .98 of the recall",
    "add": "adding",
}
_SHOWN = ("all codes", "1 cell", "4 cells", "16 cells", "64 cells")
_BILLION, _MORE_CELLS, _MACHINE_BYTES = 1_000_000_000, (65_536, 262_144), 256 << 30


def searches(results: list[Row]) -> list[Row]:
    """Lay out how many times faster than faiss's index, or than ours without cells, we are."""
    rows: dict[tuple[object, ...], Row] = {}
    for result in results:
        if result["case"] not in _CASES:
            continue
        case = _CASES[result["case"]]
        if result["case"] in ("fast_scan", "flat"):
            case += f", {result['nq']:,} at once"
        names = {
            "case": case,
            "vectors": f"{result['N']:,}",
            "bytes": result["M"],
            "goal": _GOALS[result["case"]],
            **dict.fromkeys(LEVELS.values(), "-"),
        }
        rows.setdefault(tuple(names.values()), names)[result["level"]] = _figure(result)
    found = list(rows.values())
    empty = {name for name in LEVELS.values() if all(row[name] == "-" for row in found)}
    return [{name: cell for name, cell in row.items() if name not in empty} for row in found]


def _figure(row: Row) -> str:
    if "x_flat" in row:
        return f"{row['us']:.0f} us: {row['x_flat']:.3g}x, nprobe {row['nprobe']}"
    figure = f"{row['us']:.3g} us: {row['x_default']:.2g}x / {row['x_best']:.2g}x"
    if "other_recall" in row:
        figure += f", recall {row['recall']:.2f} to {row['other_recall']:.2f}"
    return figure


def growth(results: list[Row]) -> list[Row]:
    """Lay out what adding in batches took."""
    return [
        {
            "vectors": f"{row['N']:,}",
            "cells": f"{row['nlist']:,}",
            "bytes": row["M"],
            "us a vector": f"{row['us']:.1f}",
            "codes, ids, centres": f"{row['stored_bytes'] / 1e6:.0f} MB",
            "memory beyond them": f"{row['beyond']:.0%}",
            "file": f"{row['file_bytes'] / 1e6:.0f} MB",
            "saving": f"{row['save_seconds']:.2g} s",
            "loading": f"{row['load_seconds']:.2g} s",
        }
        for row in results
        if row["case"] == "growth"
    ]


def shared(results: list[Row]) -> list[Row]:
    """Lay out what two processes that search one mapped file take."""
    return [
        {
            "vectors": f"{row['N']:,}",
            "bytes": row["M"],
            "opened in": f"{row['open_seconds'] * 1e3:.1f} ms",
            "memory of its own": f"{row['own_bytes'] / 1e6:.0f} MB",
            "a query": f"{row['us']:.0f} us",
            "ids as in memory": f"{row['ids_equal']:.1%}",
        }
        for row in results
        if row["case"] == "shared"
    ]


def multi_index(results: list[Row]) -> list[Row]:
    """Lay out what is found, and in what time, by share of the codes that is looked at."""
    rows: dict[tuple[str, ...], Row] = {}
    for result in results:
        if result["benchmark"] == "trunk":
            continue
        names = {"data": result["data"], "cells": result["cells"], "learned": result["learned"]}
        row = rows.setdefault(tuple(names.values()), {**names, **dict.fromkeys(_SHOWN, "")})
        cells = result.get("nprobe", 0)
        probed = f"{cells} cell{'s' * (cells > 1)}" if cells else "all codes"
        if probed in row:
            looked = f"{result['share']:.1%}: " if cells else ""
            row[probed] = f"{looked}{result['measure']:.3f}, {result['us']:.0f} us"
    return list(rows.values())


def costs(results: list[Row]) -> list[Row]:
    """Lay out what is measured, and what a billion vectors would take.

    Adding costs so much a vector and so much a centre, as two sizes tell; a query so much a centre
    and so much a code of the cells that it looks into, as two numbers of cells tell.
    """
    grown = {row["N"]: row for row in results if row["case"] == "growth" and row["M"] == 8}
    asked = {
        row["N"]: row
        for row in results
        if row["case"] == "batch" and row["M"] == 8 and row["simd"] == "avx512"
    }
    sizes = sorted(grown.keys() & asked.keys())
    if len(sizes) < 2:
        return []
    add = _line(*((grown[N]["nlist"], 1.0, grown[N]["us"]) for N in sizes[:2]))
    most = sizes[-1]
    fewer = next(
        row
        for row in results
        if (row["case"], row["N"], row["M"], row.get("nq")) == ("flat", most, 8, 1000)
    )
    ask = _line(*((row["nlist"], _looked(row), row["us"]) for row in (asked[most], fewer)))
    rows = [_cost(N, grown[N]["nlist"], grown[N]["us"], asked[N]["us"], grown[N]) for N in sizes]
    for nlist in _MORE_CELLS:
        looked = asked[sizes[0]]["nprobe"] * _BILLION / nlist
        last = grown[most]
        rows.append(_cost(_BILLION, nlist, add(nlist, 1.0), ask(nlist, looked), last))
    return rows


def _looked(row: Row) -> float:
    return float(row["nprobe"] * row["N"] / row["nlist"])


def _line(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> Callable[[float, float], float]:
    """Return a x + b y through two points (x, y, a x + b y)."""
    (x, y, value), (u, v, other) = first, second
    determinant = x * v - u * y
    a, b = (value * v - other * y) / determinant, (x * other - u * value) / determinant
    return lambda p, q: a * p + b * q


def _cost(N: int, nlist: int, add: float, ask: float, grown: Row) -> Row:
    stored = N * (grown["M"] + 8) + 4 * nlist * grown["d"]
    memory = stored * (1 + grown["beyond"])
    return {
        "vectors": f"{N:,}",
        "cells": f"{nlist:,}",
        "": "extrapolated" if N == _BILLION else "measured",
        "memory": f"{memory / 1e9:.3g} GB",
        "building": f"{N * add / 3.6e9:.2g} h",
        "a query": f"{ask:.3g} us",
        "queries a second": f"{1e6 / ask:,.0f}",
        "machines of 256 GB": -(-int(memory) // _MACHINE_BYTES),
    }
