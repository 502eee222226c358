"""Times of one shard, tail latency of many, and a plan for ten billion vectors.

    python -m benchmarks.distributed.bench_sizing --output benchmarks/results/sizing.jsonl

Without --case all of these are run; the later ones use the figures of the earlier ones, of this run
or, if a case is left out, the newest in the file of --output:

    shard       searches of one `ServedShard` in this process, flat and in cells; opening it
    rank        re-ranking 100 candidates a query, which does not depend on the shard
    merge       merging the results of so many shards
    simulation  queries to 10 to 1,000 shards (simulation.py)
    plan        machines, memory, queries per second, price (formulas.py)

Codes are random bytes, queries iid normal: the worst case for a scan that leaves out what cannot be
among the best. Every search is timed by the clock and by the processor's time of the thread; the
simulation draws from the latter, and says itself how often something else holds a call up.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.harness import in_one_thread, parser, run
from benchmarks.common.results import FOLDER, Row, newest, read
from benchmarks.distributed import simulation
from benchmarks.distributed.formulas import (
    CellTimes,
    Codes,
    Machine,
    Plan,
    caller_seconds,
    callers,
    core_hours,
    in_proportion,
    line,
)
from benchmarks.distributed.one_shard import KINDS, SMOKE, merging, ranking, shards
from benchmarks.distributed.simulation import Cluster

COLUMNS = [
    *("case", "kind", "d", "M", "N", "nprobe", "nq", "p50", "p99", "repetitions"),
    *("shards", "replicas", "load", "slow_share", "p999", "machines", "price"),
]
_KEY = ("case", "kind", "d", "M", "N", "nlist", "nprobe", "nq", "verify", "shards")
_HEDGES = (1.5, 2.0, 3.0, 5.0, 10.0, math.inf)  # medians
VECTORS = 10_000_000_000
ROWS = (10_000_000, 50_000_000, 100_000_000)  # of a shard
AT_ONCE = 64


# ---- many shards ---------------------------------------------------------------------------------


def simulations(options: argparse.Namespace, done: list[Row]) -> Iterator[Row]:
    """Simulate single queries to the largest shards of 16 bytes, flat and in cells."""
    merge = {
        row["shards"]: row["cpu_p50"]
        for row in done
        if (row["case"], row.get("nq")) == ("merge", 1)
    }
    middle = options.shards[len(options.shards) // 2]
    for kind in ("flat", "cells"):
        found = [
            row
            for row in done
            if row["case"] == "shard"
            and (row["kind"], row["d"], row["M"], row["nq"]) == (kind, 128, 16, 1)
        ]
        row = max(found, key=lambda row: (row["N"], -row["nlist"], -row["nprobe"]))
        times = np.array(row["cpu"])
        median = float(np.median(times))
        about = {name: row[name] for name in ("kind", "d", "M", "N", "nlist", "nprobe", "nq")}
        about |= {"slow_factor": options.slow_factor, "hedge_medians": options.hedge}
        for slow in options.slow if kind == "flat" else options.slow[1:2]:
            for load in options.load:
                for replicas in (1, 2, 3):
                    cluster = _cluster(options, times, replicas, load, slow, options.hedge * median)
                    for row in _simulated(options, cluster, options.shards, merge):
                        yield {"case": "simulation", **about, **row}
        for load in options.load if kind == "flat" else ():
            for medians in _HEDGES:
                cluster = _cluster(options, times, 2, load, options.slow[1], medians * median)
                after = {"hedge_medians": medians if math.isfinite(medians) else None}
                for row in _simulated(options, replace(cluster, shards=middle), [middle], merge):
                    yield {"case": "hedge", **about, **after, **row}


def _cluster(
    options: argparse.Namespace,
    times: NDArray[np.float64],
    replicas: int,
    load: float,
    slow: float,
    hedge: float,
) -> Cluster:
    return Cluster(
        times,
        max(options.shards),
        replicas,
        load,
        hedge,
        slow,
        options.slow_factor,
        options.queries,
        options.seed,
    )


def _simulated(
    options: argparse.Namespace, cluster: Cluster, counts: Iterable[int], merge: dict[int, float]
) -> Iterator[Row]:
    """Yield the figures of queries to so many of the cluster's shards."""
    answered = simulation.answers(cluster)
    for count in counts:
        caller = caller_seconds(count, options.call, options.round_trip, merge[count])
        whole = simulation.whole(answered, count)
        p50, p99, p999 = map(float, np.quantile(whole, [0.5, 0.99, 0.999]))
        figures = {
            "hedge_s": cluster.hedge if math.isfinite(cluster.hedge) else None,
            "caller_s": caller,
            "p50": p50 + caller,
            "p99": p99 + caller,
            "p999": p999 + caller,
            "shards_p50": p50,
            "shards_p99": p99,
            "shards_p999": p999,
        }
        yield {
            "shards": count,
            "replicas": cluster.replicas,
            "load": cluster.load,
            "slow_share": cluster.slow_share,
            **{name: value and round(value, 6) for name, value in figures.items()},
        }


# ---- the plan ------------------------------------------------------------------------------------


def plans(options: argparse.Namespace, done: list[Row]) -> Iterator[Row]:
    """Plan a cluster for ten billion vectors, of three codecs, flat and in cells."""
    machine = Machine(
        options.cores, options.memory << 30, price=options.price, bandwidth=options.bandwidth
    )
    encoding = _encoding()
    opened = [row for row in done if row["case"] == "open"]
    merged = [row for row in done if row["case"] == "merge" and row["nq"] == AT_ONCE]
    merge = max(row["cpu_p50"] / row["shards"] for row in merged)
    for kind in SMOKE if options.smoke else KINDS:
        codes = Codes(VECTORS, kind.d, kind.M, kind.nlist, kind.nprobes[0])
        for rows in ROWS:
            alone, together = (
                Plan(
                    codes,
                    rows,
                    options.replicas,
                    (options.process << 20) + own_bytes(opened, codes, rows),
                    seconds_of(done, codes, rows, at_once),
                    at_once,
                    machine,
                    options.utilisation,
                )
                for at_once in (1, AT_ONCE)
            )
            busy = caller_seconds(together.shards, options.call, 0.0, merge * together.shards)
            rate = together.queries_per_second
            yield {
                **planned(alone, together, encoding(kind.d, kind.M, kind.nlist)),
                "callers": callers(rate, AT_ONCE, busy, options.utilisation),
            }


def own_bytes(opened: list[Row], codes: Codes, rows: int) -> int:
    """Memory that a worker has besides the mapped file: of cells, or in proportion to flat rows."""
    wanted = codes.d, codes.code_bytes, codes.nlist
    own = [row for row in opened if (row["d"], row["M"], row["nlist"]) == wanted]
    row = max(own, key=lambda row: (row["N"], row["own_bytes"]))
    return int(row["own_bytes"] if codes.nlist else in_proportion(row["own_bytes"], row["N"], rows))


def planned(alone: Plan, together: Plan, encode: float) -> Row:
    """Lay a plan for single queries, and for queries asked together, out as a result."""
    codes, machine = together.codes, together.machine
    hours = core_hours(codes.vectors, encode)
    return {
        "case": "plan",
        "kind": "cells" if codes.nlist else "flat",
        "vectors": codes.vectors,
        "d": codes.d,
        "M": codes.code_bytes,
        "nlist": codes.nlist,
        "nprobe": codes.nprobe,
        "rows": together.rows,
        "shards": together.shards,
        "replicas": together.replicas,
        "workers": together.workers,
        "memory_bytes": together.memory,
        "machines": together.machines,
        "alone_s": alone.seconds,
        "together_s": together.seconds,
        "at_once": together.at_once,
        "qps_alone": alone.queries_per_second,
        "qps": together.queries_per_second,
        "limit": "cores" if together.of_cores <= together.of_memory else "memory",
        "qps_machine": together.queries_per_second / together.machines,
        "price_alone": alone.price_of_a_million,
        "price": together.price_of_a_million,
        "encode_us": encode * 1e6,
        "encode_core_hours": hours,
        "encode_days": hours / 24 / machine.cores,
        "price_hour": machine.price,
        "utilisation": together.utilisation,
    }


def seconds_of(done: list[Row], codes: Codes, rows: int, nq: int) -> float:
    """Seconds of a core for a query in a shard of so many rows, of nq at once."""
    wanted = codes.d, codes.code_bytes, codes.nlist, nq
    found = [
        row
        for row in done
        if row["case"] == "shard" and (row["d"], row["M"], row["nlist"], row["nq"]) == wanted
    ]
    most = max(row["N"] for row in found)
    own = {row["nprobe"]: row for row in found if row["N"] == most}
    if not codes.nlist:
        return in_proportion(own[0]["cpu_p50"] / nq, most, rows)
    few, many = sorted(own)
    seconds = (own[nprobe]["cpu_p50"] / nq for nprobe in (few, many))
    return CellTimes.fitted(*seconds, (few, many), codes.nlist, most).seconds(codes, rows)


def _encoding() -> Callable[[int, int, int], float]:
    """Return what gives seconds to encode a vector, from the committed results of other benchmarks.

    Flat: bench_encode, with a rotation; for lengths of codes in between, in proportion to M. Cells:
    bench_cells adds so much for every centre to those of 128 dimensions, in proportion to d.
    """
    added = [row for row in read(FOLDER / "encode.jsonl") if row["case"] == "add"]
    added = [row for row in newest(added, "d", "M", "encoder") if row["encoder"] == "rotation"]
    grown = [row for row in read(FOLDER / "cells.jsonl") if row["case"] == "growth"]
    grown = sorted(
        (row for row in newest(grown, "N", "nlist", "M") if row["M"] == 8), key=lambda r: r["nlist"]
    )

    def seconds(d: int, M: int, nlist: int) -> float:
        if nlist:
            cells = tuple(row["nlist"] for row in grown[:2]), tuple(row["us"] for row in grown[:2])
            return line(*cells, nlist) * d / grown[0]["d"] / 1e6
        row = min((row for row in added if row["d"] == d), key=lambda row: abs(row["M"] - M))
        return float(row["us_per_vector"] * max(1.0, M / row["M"]) / 1e6)

    return seconds


# ---- the run -------------------------------------------------------------------------------------

CASES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "shard": shards,
    "rank": ranking,
    "merge": merging,
}
DERIVED: dict[str, Callable[[argparse.Namespace, list[Row]], Iterator[Row]]] = {
    "simulation": simulations,
    "plan": plans,
}


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """Run the cases asked for."""
    done = read(options.output, "sizing") if options.output else []
    done = newest(done, *_KEY)
    for name, case in CASES.items():
        if name in options.case:
            own = {name, "open"} if name == "shard" else {name}
            done = [row for row in done if row["case"] not in own]
            for row in case(options):
                done.append(row)
                yield row
    missing = {*CASES} - {row["case"] for row in done}
    for name, derived in DERIVED.items():
        if name in options.case:
            if missing:
                raise SystemExit(f"expected results of {', '.join(sorted(missing))} for {name}")
            yield from derived(options, done)


def main() -> None:
    """Run the cases asked for."""
    arguments = parser(__doc__ or "", (*CASES, *DERIVED))
    add = arguments.add_argument
    add("--budget", type=float, default=3.0, help="seconds for one kind of search")
    add("--shards", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    add("--queries", type=int, default=20_000, help="simulated")
    add("--load", type=float, nargs="+", default=[0.0, 0.5, 0.7])
    add("--slow", type=float, nargs="+", default=[0.0, 0.001, 0.01], help="shares of slow calls")
    add("--slow-factor", type=float, default=20.0, help="times as long as others")
    add("--hedge", type=float, default=3.0, help="medians of a call until a replica is asked")
    add("--call", type=float, default=125e-6, help="seconds of the caller for a call")
    add("--round-trip", type=float, default=500e-6, help="seconds of the network")
    add("--cores", type=int, default=64, help="of a machine")
    add("--memory", type=int, default=256, help="GiB of a machine")
    add("--bandwidth", type=float, default=200e9, help="bytes per second of a machine's memory")
    add("--process", type=int, default=150, help="MiB of a worker besides its shard")
    add("--price", type=float, default=3.0, help="of an hour of a machine: an assumption")
    add("--replicas", type=int, default=1, help="of the plan")
    add("--utilisation", type=float, default=0.5, help="of the plan")
    options = arguments.parse_args()
    if options.smoke:
        options.shards, options.queries, options.budget = [10, 100], 200, 0.1
        options.load, options.slow = [0.0, 0.5], [0.0, 0.01]
    run(options, "sizing", measured(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
