"""Tables of docs/distributed.md: what Ray costs and brings on one machine."""

from __future__ import annotations

from benchmarks.common.results import Row

KEY = "case what actors nq rows"


def overhead(results: list[Row]) -> list[Row]:
    """Lay out calls of shards that have next to nothing to search."""
    rows = [row for row in results if row["case"] == "overhead"]
    actors = sorted({row["actors"] for row in rows})
    lines: dict[tuple[str, int], Row] = {}
    for row in rows:
        line = lines.setdefault(
            (row["what"], row["nq"]), {"a call": row["what"], "queries": row["nq"] or "-"}
        )
        line[f"{row['actors']} shards, ms"] = f"{row['ms']:.1f}"
    columns = ["a call", "queries", *(f"{number} shards, ms" for number in actors)]
    return [{name: line.get(name, "-") for name in columns} for line in lines.values()]


def search(results: list[Row]) -> list[Row]:
    """Lay out a million codes in shards, beside one index."""
    return [
        {
            "shards": row["actors"],
            "queries in a call": row["nq"],
            "codes in all": f"{row['rows']:,}",
            "ms a call": f"{row['ms']:.1f}",
            "faster than one index in one thread": f"{row['x']:.2g}x",
        }
        for row in results
        if row["case"] == "search"
    ]


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
        if row["case"] == "encode"
    ]


def start(results: list[Row]) -> list[Row]:
    """Lay out the start of a large shard."""
    return [
        {
            "a shard": row["what"],
            "codes": f"{row['rows']:,}",
            "seconds": f"{row['seconds']:.2f}",
            "with its process": f"{row['with_process']:.1f}",
        }
        for row in results
        if row["case"] == "start"
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
        if row["case"] == "serve"
    ]


def kills(results: list[Row]) -> list[Row]:
    """Lay out what was killed, and what was wrong then."""
    return [
        {
            "killed at random moments": row["what"],
            "kills": row["kills"],
            "wrong, lost or doubled": row["wrong"],
            "seconds in all": f"{row['seconds']:.0f}",
        }
        for row in results
        if row["case"] == "kills"
    ]
