"""Tables of docs/distributed.md: what Ray costs and brings on one machine."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.common.results import Row

KEY = "case what actors nq rows"


def of_case(case: str) -> Callable[[list[Row]], list[Row]]:
    """Return what chooses the results of a case."""
    return lambda results: [row for row in results if row["case"] == case]


def overhead(results: list[Row]) -> list[Row]:
    """Lay out calls of shards that have next to nothing to search."""
    actors = sorted({row["actors"] for row in results})
    lines: dict[tuple[str, int], Row] = {}
    for row in results:
        line = lines.setdefault(
            (row["what"], row["nq"]), {"a call": row["what"], "queries": row["nq"] or "-"}
        )
        line[f"{row['actors']} shards, ms"] = f"{row['ms']:.1f}"
    columns = ["a call", "queries", *(f"{number} shards, ms" for number in actors)]
    return [{name: line.get(name, "-") for name in columns} for line in lines.values()]


def encode(results: list[Row]) -> list[Row]:
    """Lay out encoding, beside a pool of processes."""
    return [
        {
            "encoding": "a plain pool" if row["what"] == "pool" else "`encode_dataset`",
            "processes": row["actors"],
            "vectors": f"{row['rows']:,}",
            "seconds": f"{row['seconds']:.1f}",
            "time of the pool's": f"{row['x']:.2g}x",
        }
        for row in results
    ]


def serve(results: list[Row]) -> list[Row]:
    """Lay out single queries over HTTP."""
    return [
        {
            "at the same time": row["what"],
            "requests a second": f"{1000 / row['ms']:.0f}",
            "of one client, a second": f"{1000 / row['alone_ms']:.0f}",
            "more": f"{row['x']:.1f}x",
        }
        for row in results
    ]
