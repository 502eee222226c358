"""Tables of docs/sizing.md: times of a shard, tail latency of many, the plan."""

from __future__ import annotations

from benchmarks.common.results import Row

KEY = (
    "case kind d M N nlist nprobe nq verify shards replicas load slow_share slow_factor"
    " hedge_medians rows"
)
SLOW, LOAD = 0.001, 0.5  # of the tables that do not vary them
_ENOUGH = 100  # repetitions to speak of a 99th percentile


def searches(results: list[Row]) -> list[Row]:
    """Lay out the times of searches in one shard."""
    return [
        {
            "shard": _kind(row),
            "d": row["d"],
            "bytes": row["M"],
            "codes": f"{row['N']:,}",
            "queries at once": row["nq"],
            "p50, ms": _ms(row["p50"]),
            "p95": _ms(row["p95"]),
            "p99": _p99(row, "p99"),
            "of the processor: p50": _ms(row["cpu_p50"]),
            "p99 ": _p99(row, "cpu_p99"),
            "repetitions": row["repetitions"],
        }
        for row in results
        if row["case"] == "shard"
    ]


def _kind(row: Row) -> str:
    return f"{row['nprobe']} of {row['nlist']:,} cells" if row["nlist"] else "flat"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.{2 if seconds < 0.01 else 1 if seconds < 0.1 else 0}f}"


def _p99(row: Row, name: str) -> str:
    return _ms(row[name]) if row["repetitions"] >= _ENOUGH else "-"


def opened(results: list[Row]) -> list[Row]:
    """Lay out what opening a shard takes."""
    rows: dict[tuple[object, ...], Row] = {}
    for result in results:
        if result["case"] == "open":
            key = result["nlist"], result["d"], result["M"], result["N"]
            line = rows.setdefault(
                key,
                {
                    "shard": f"{result['nlist']:,} cells" if result["nlist"] else "flat",
                    "d": result["d"],
                    "bytes": result["M"],
                    "codes": f"{result['N']:,}",
                    "file": f"{result['file_bytes'] / 1e6:,.0f} MB",
                    "mapped in": "",
                    "with checksum": "",
                    "memory of its own": f"{result['own_bytes'] / 1e6:.1f} MB",
                    "of the process before": f"{result['process_bytes'] / 1e6:.0f} MB",
                },
            )
            where = "with checksum" if result["verify"] else "mapped in"
            line[where] = f"{result['seconds'] * 1e3:.0f} ms"
    return list(rows.values())


def rest(results: list[Row]) -> list[Row]:
    """Lay out what a query takes besides searches of shards."""
    ranked = [
        {
            "": f"re-ranking {row['rerank']} candidates a query",
            "queries at once": row["nq"],
            "ms": _ms(row["p50"]),
        }
        for row in results
        if row["case"] == "rank"
    ]
    return ranked + [
        {
            "": f"merging results of {row['shards']:,} shards",
            "queries at once": row["nq"],
            "ms": _ms(row["p50"]),
        }
        for row in results
        if row["case"] == "merge"
    ]


def tail(results: list[Row]) -> list[Row]:
    """Lay out p50, p99 and p99.9 of whole queries to flat shards, by load and replicas."""
    found = _simulated(results, "flat", SLOW)
    names = {"load": "caller and network", "replicas": "all"}
    first = {_column(row): _ms(row["caller_s"]) for row in found}
    rows: dict[tuple[float, int], Row] = {}
    for row in found:
        key = row["load"], row["replicas"]
        line = rows.setdefault(key, {"load": f"{key[0]:.0%}", "replicas": key[1]})
        figures = (row[name] for name in ("p50", "p99", "p999"))
        line[_column(row)] = " / ".join(map(_ms, figures))
    return [{**names, **first}, *rows.values()] if rows else []


def _simulated(results: list[Row], kind: str, slow: float) -> list[Row]:
    return [
        row
        for row in results
        if (row["case"], row["kind"], row["slow_share"]) == ("simulation", kind, slow)
    ]


def _column(row: Row) -> str:
    return f"{row['shards']:,} shards"


def only_simulated(results: list[Row]) -> list[Row]:
    """Choose what the simulation gave."""
    return [row for row in results if row["case"] in ("simulation", "hedge")]


def slow(results: list[Row]) -> list[Row]:
    """Lay out p99 of the shards' part by the share of slow calls and by replicas."""
    rows: dict[tuple[float, int], Row] = {}
    for row in results:
        if (row["case"], row["kind"], row["load"]) == ("simulation", "flat", LOAD):
            key = row["slow_share"], row["replicas"]
            line = rows.setdefault(key, {"slow calls": f"{key[0]:.1%}", "replicas": key[1]})
            line[_column(row)] = _ms(row["shards_p99"])
    return [rows[key] for key in sorted(rows)]


def cells(results: list[Row]) -> list[Row]:
    """Lay out p99 of the shards' part of queries to shards with cells."""
    rows: dict[tuple[float, int], Row] = {}
    for row in _simulated(results, "cells", SLOW):
        key = row["load"], row["replicas"]
        line = rows.setdefault(key, {"load": f"{key[0]:.0%}", "replicas": key[1]})
        line[_column(row)] = _ms(row["shards_p99"])
    return list(rows.values())


def hedges(results: list[Row]) -> list[Row]:
    """Lay out what hedging earlier or later gives."""
    rows: dict[float | None, Row] = {}
    for row in results:
        if row["case"] == "hedge":
            after = row["hedge_medians"]
            named = "never" if after is None else f"{after:g} medians"
            line = rows.setdefault(after, {"a replica is asked after": named})
            figures = (row[name] for name in ("shards_p50", "shards_p99", "shards_p999"))
            line[f"load {row['load']:.0%}"] = " / ".join(map(_ms, figures))
    return list(rows.values())


def plans(results: list[Row]) -> list[Row]:
    """Lay out the plan."""
    return [
        {
            "d": row["d"],
            "bytes": row["M"],
            "index": _kind(row),
            "codes of a shard": f"{row['rows'] / 1e6:.0f}M",
            "shards": f"{row['shards']:,}",
            "memory": f"{row['memory_bytes'] / 1e9:,.0f} GB",
            "machines": row["machines"],
            "a shard's answer": f"{_ms(row['alone_s'])} ms",
            "queries/s, one by one": _rate(row["qps_alone"]),
            "64 at once": _rate(row["qps"]),
            "by machine": _rate(row["qps_machine"]),
            "limit": row["limit"],
            "callers": row["callers"],
            "a million queries": f"{row['price']:,.3g}",
            "encoding, hours of a core": f"{row['encode_core_hours']:,.0f}",
            "of a machine": f"{row['encode_days'] * 24:.2g}",
        }
        for row in results
        if row["case"] == "plan"
    ]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
