"""Formulas of a plan: worked by hand, and what must follow from what."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.distributed.formulas import (
    CellTimes,
    Codes,
    Machine,
    Plan,
    caller_seconds,
    core_hours,
    flat_seconds,
    line,
    shard_bytes,
)

FLAT = Codes(1_000_000_000, 128, 16)
CELLS = Codes(1_000_000_000, 128, 16, 4096, 16)
PLAN = Plan(FLAT, 10_000_000, 2, 100_000_000, 0.008, 0.002, Machine(64, 256 << 30, 0.8, 3.0))


def test_memory_of_a_shard():
    assert shard_bytes(FLAT, 1000, 5) == 16_000 + 5
    assert shard_bytes(CELLS, 1000, 5) == 16_000 + 8000 + 4096 * 128 * 4 + 5


def test_a_caller_sends_one_call_after_another():
    assert caller_seconds(100, 1e-4, 5e-4, 2e-4) == pytest.approx(0.0107)


def test_flat_shards_take_time_in_proportion():
    assert flat_seconds(0.01, 10_000_000, 50_000_000) == pytest.approx(0.05)


def test_times_of_cells_go_through_what_was_measured():
    true = CellTimes(centre=2e-9, code=3e-10)
    few, many = (true.seconds(dataclasses.replace(CELLS, nprobe=n), 10_000_000) for n in (16, 64))
    fitted = CellTimes.fitted(few, many, (16, 64), 4096, 10_000_000)
    assert (fitted.centre, fitted.code) == (pytest.approx(2e-9), pytest.approx(3e-10))
    # All cells are all codes, and no more can be looked at.
    every = dataclasses.replace(CELLS, nprobe=10_000)
    assert true.seconds(every, 1000) == pytest.approx(2e-9 * 4096 + 3e-10 * 1000)
    # Noise that makes more cells faster gives no negative time.
    odd = CellTimes.fitted(2e-3, 1e-3, (16, 64), 4096, 10_000_000)
    assert odd.code == 0
    assert odd.centre > 0


def test_line():
    assert line((1024, 4096), (4.0, 10.0), 2048) == pytest.approx(6.0)
    assert line((1024, 4096), (4.0, 10.0), 7168) == pytest.approx(16.0)


def test_a_plan_worked_by_hand():
    assert (PLAN.shards, PLAN.workers) == (100, 200)
    assert PLAN.memory == 200 * (160_000_000 + 100_000_000)
    assert PLAN.machines == 4  # 200 cores of 64; memory would do with one
    # 256 cores, of which 200 have a worker; half of the time; 100 shards x 2 ms a query.
    assert PLAN.queries_per_second(0.002) == pytest.approx(200 * 0.5 / (100 * 0.002))
    # 4 machines at 3.00 an hour for 1e6 / 500 seconds.
    assert PLAN.price_of_a_million(0.002) == pytest.approx(4 * 3.0 * 2000 / 3600)
    assert core_hours(1_000_000_000, 1.8e-6) == pytest.approx(0.5)


def test_memory_decides_where_there_is_more_of_it_than_cores_ask_for():
    large = dataclasses.replace(PLAN, rows=500_000_000, replicas=1, process=100 << 30)
    assert large.workers == 2
    assert large.machines == 2


def test_a_last_shard_may_be_small():
    assert dataclasses.replace(PLAN, rows=300_000_000).shards == 4


def test_replicas_answer_more_queries_for_the_same_price_of_a_query():
    one, four = (dataclasses.replace(PLAN, replicas=n) for n in (16, 64))
    assert four.queries_per_second(0.01) == pytest.approx(4 * one.queries_per_second(0.01))
    assert four.price_of_a_million(0.01) == pytest.approx(one.price_of_a_million(0.01))
