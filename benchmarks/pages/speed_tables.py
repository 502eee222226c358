"""Which results of speed the tables show; `fill` and `goals` say how they are laid out."""

from __future__ import annotations

from benchmarks.common.results import Row
from benchmarks.speed.goals import LEVELS

_CASES = ("batch", "few", "base50k")
_SIZES = (8, 16, 48)
_QUERIES = (1, 16, 256)


def of_usual_searches(results: list[Row]) -> list[Row]:
    """Keep and sort what README.md shows: the most usual cases, with the best instruction set."""
    usual = [
        row
        for row in results
        if row["case"] in _CASES
        and row["M"] in _SIZES
        and row["nbits"] == 8
        and row["nq"] in _QUERIES
        and row["simd"] == next(iter(LEVELS))
    ]
    return sorted(usual, key=lambda row: (row["data"], -row["N"], row["M"], row["nq"]))


def of_last_level(results: list[Row]) -> list[Row]:
    """Keep what was measured with the instruction set of the last result."""
    return [row for row in results if row["simd"] == results[-1]["simd"]]


def beside_the_build_before(results: list[Row]) -> list[Row]:
    """Lay out how many times faster searches are than with the build before, and than faiss."""
    rows: dict[tuple[object, ...], Row] = {}
    for row in results:
        names = {
            "case": _case(row),
            "data": row["data"],
            "codes": f"{row['N']:,}",
            "bytes": row["M"],
            **dict.fromkeys(LEVELS.values(), "-"),
        }
        cells = rows.setdefault(tuple(names.values()), names)
        figures = f"{row['us_per_query']:.0f} us: {row['x_before']:.2g}x"
        if "x_default" in row:  # faiss is not asked with a selector, nor where it takes minutes
            figures += f", {row['x_default']:.2g}x / {row['x_best']:.2g}x"
        cells[row["level"]] = figures
    found = list(rows.values())
    empty = {name for name in LEVELS.values() if all(row[name] == "-" for row in found)}
    return [{name: cell for name, cell in row.items() if name not in empty} for row in found]


def _case(row: Row) -> str:
    case = f"{row['nq']} queries at once" if row["nq"] > 1 else "1 query"
    if row["nbits"] == 4:
        case += ", 4-bit codes, faiss's FastScan"
    if row["selector"] is not None:
        case += f", IDSelector{row['selector']}"
    return case if row["k"] == 10 else f"{case}, k = {row['k']}"
