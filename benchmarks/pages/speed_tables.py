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
