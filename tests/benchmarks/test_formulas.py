"""Formulas of a plan: worked by hand, and what must follow from what."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.distributed.formulas import (
    CellTimes,
    Codes,
    Machine,
    Plan,
    bytes_read,
    caller_seconds,
    callers,
    core_hours,
    in_proportion,
    line,
    shard_bytes,
)

FLAT = Codes(1_000_000_000, 128, 16)
CELLS = Codes(1_000_000_000, 128, 16, 4096, 16)
MACHINE = Machine(64, 256 << 30, 0.8, 3.0, 200e9)
PLAN = Plan(FLAT, 10_000_000, 2, 100_000_000, 0.002, 64, MACHINE)


def test_memory_of_a_shard():
    assert shard_bytes(FLAT, 1000, 5) == 16_000 + 5
    assert shard_bytes(CELLS, 1000, 5) == 16_000 + 8000 + 4096 * 128 * 4 + 5


def test_a_caller_sends_one_call_after_another():
    assert caller_seconds(100, 1e-4, 5e-4, 2e-4) == pytest.approx(0.0107)


def test_callers():
    # 10 calls a second of 0.1 s each keep one busy; half of the time, two.
    assert callers(640, 64, 0.1, 1.0) == 1
    assert callers(640, 64, 0.1, 0.5) == 2
    assert callers(650, 64, 0.1, 0.5) == 3


def test_flat_shards_take_time_in_proportion():
    assert in_proportion(0.01, 10_000_000, 50_000_000) == pytest.approx(0.05)


def test_times_of_cells_go_through_what_was_measured():
    true = CellTimes(fixed=2e-4, code=3e-10)
    few, many = (true.seconds(dataclasses.replace(CELLS, nprobe=n), 10_000_000) for n in (16, 64))
    fitted = CellTimes.fitted(few, many, (16, 64), 4096, 10_000_000)
    assert (fitted.fixed, fitted.code) == (pytest.approx(2e-4), pytest.approx(3e-10))
    # All cells are all codes, and no more can be looked at.
    every = dataclasses.replace(CELLS, nprobe=10_000)
    assert true.seconds(every, 1000) == pytest.approx(2e-4 + 3e-10 * 1000)
    # Noise that makes more cells faster gives no negative time.
    odd = CellTimes.fitted(2e-3, 1e-3, (16, 64), 4096, 10_000_000)
    assert (odd.fixed, odd.code) == (2e-3, 0)


def test_line():
    assert line((1024, 4096), (4.0, 10.0), 2048) == pytest.approx(6.0)
    assert line((1024, 4096), (4.0, 10.0), 7168) == pytest.approx(16.0)


def test_a_plan_worked_by_hand():
    assert (PLAN.shards, PLAN.workers) == (100, 200)
    assert PLAN.memory == 200 * (160_000_000 + 100_000_000)
    assert PLAN.machines == 4  # 200 cores of 64; memory would do with one
    # 200 workers, half of the time; 100 shards take 2 ms each.
    assert PLAN.of_cores == pytest.approx(200 * 0.5 / (100 * 0.002))
    # 4 machines read 0.8 TB/s, half of the time; 64 queries read 16 GB together.
    assert PLAN.of_memory == pytest.approx(0.4e12 / (16e9 / 64))
    assert PLAN.queries_per_second == PLAN.of_cores == pytest.approx(500)
    # 4 machines at 3.00 an hour for 1e6 / 500 seconds.
    assert PLAN.price_of_a_million == pytest.approx(4 * 3.0 * 2000 / 3600)
    assert core_hours(1_000_000_000, 1.8e-6) == pytest.approx(0.5)


def test_memory_decides_where_there_is_more_of_it_than_cores_ask_for():
    large = dataclasses.replace(PLAN, rows=500_000_000, replicas=1, process=100 << 30)
    assert large.workers == 2
    assert large.machines == 2


def test_a_last_shard_may_be_small():
    assert dataclasses.replace(PLAN, rows=300_000_000).shards == 4


def test_single_queries_to_flat_shards_wait_for_memory():
    single = dataclasses.replace(PLAN, at_once=1)
    assert single.queries_per_second == single.of_memory == pytest.approx(0.4e12 / 16e9)


def test_bytes_read():
    assert bytes_read(FLAT, 1) == 16e9
    assert bytes_read(FLAT, 64) == 16e9 / 64
    assert bytes_read(CELLS, 1) == bytes_read(CELLS, 64) == 16e9 / 256
    assert bytes_read(dataclasses.replace(CELLS, nprobe=9999), 1) == 16e9


def test_replicas_answer_more_queries_for_the_same_price_of_a_query():
    one, four = (dataclasses.replace(PLAN, replicas=n) for n in (16, 64))
    assert four.queries_per_second == pytest.approx(4 * one.queries_per_second)
    assert four.price_of_a_million == pytest.approx(one.price_of_a_million)
