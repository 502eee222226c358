"""Tables of docs/sizing.md, of a few made-up results."""

from __future__ import annotations

from benchmarks.pages import sizing_tables

SIMULATED = [
    {
        "case": "simulation",
        "kind": "flat",
        "slow_share": 0.001,
        "load": load,
        "replicas": replicas,
        "shards": shards,
        "caller_s": shards * 1e-4,
        "p50": 0.012,
        "p99": 0.2 / replicas,
        "p999": 0.5,
        "shards_p99": 0.1 / replicas,
    }
    for load in (0.0, 0.5)
    for replicas in (1, 2)
    for shards in (10, 1000)
]


def test_tail_has_a_line_for_each_load_and_number_of_replicas():
    caller, *lines = sizing_tables.tail(SIMULATED)
    assert (caller["10 shards"], caller["1,000 shards"]) == ("1.00", "100")
    assert [(line["load"], line["replicas"]) for line in lines] == [
        *(("0%", 1), ("0%", 2), ("50%", 1), ("50%", 2))
    ]
    assert lines[0]["10 shards"] == "12.0 / 200 / 500"
    assert lines[1]["10 shards"] == "12.0 / 100 / 500"


def test_other_tables_take_their_own_results():
    other = [{**row, "slow_share": 0.01} for row in SIMULATED]
    assert sizing_tables.tail(other) == []
    slow = sizing_tables.slow(other + SIMULATED)
    assert [line["slow calls"] for line in slow] == ["0.1%", "0.1%", "1.0%", "1.0%"]
    assert sizing_tables.cells(SIMULATED) == []
    cells = sizing_tables.cells([{**row, "kind": "cells"} for row in SIMULATED])
    assert cells[1] == {"load": "0%", "replicas": 2, "10 shards": "50.0", "1,000 shards": "50.0"}


def test_no_99th_percentile_of_a_few_repetitions():
    row = {
        "case": "shard",
        "nlist": 4096,
        "nprobe": 16,
        "d": 128,
        "M": 16,
        "N": 10_000_000,
        "nq": 1,
        "p50": 0.0012,
        "p95": 0.0123,
        "p99": 0.123,
        "cpu_p50": 0.001,
        "cpu_p99": 0.1,
    }
    few, many = (sizing_tables.searches([{**row, "repetitions": n}])[0] for n in (99, 100))
    assert (few["p99"], many["p99"]) == ("-", "123")
    assert (many["p50, ms"], many["p95"], many["shard"]) == ("1.20", "12.3", "16 of 4,096 cells")


def test_both_ways_to_open_are_in_one_line():
    row = {
        "case": "open",
        "kind": "flat",
        "nlist": 0,
        "d": 128,
        "M": 16,
        "N": 1000,
        "file_bytes": 2e6,
        "own_bytes": 5e5,
        "process_bytes": 3e7,
    }
    (line,) = sizing_tables.opened(
        [{**row, "verify": False, "seconds": 0.01}, {**row, "verify": True, "seconds": 0.2}]
    )
    assert (line["mapped in"], line["with checksum"]) == ("10 ms", "200 ms")
