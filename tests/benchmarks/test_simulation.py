"""The simulation of shards: what must hold whatever the times, and what is known in closed form."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.distributed.simulation import Cluster, answers, whole

# Exponential times of mean 1, without the luck of a draw.
EXPONENTIAL = -np.log1p(-(np.arange(10_000) + 0.5) / 10_000)
TIMES = np.random.default_rng(0).gamma(4.0, 0.0025, 300)


def cluster(times=TIMES, shards=1, **named):
    return Cluster(times, shards, **{"queries": 2500, **named})


def test_one_shard_without_load_is_what_was_measured():
    found = whole(answers(cluster()), 1)
    nearest = np.abs(TIMES - found[:, None]).min(axis=1)
    assert nearest.max() < 1e-7
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(found, q) == pytest.approx(np.quantile(TIMES, q), rel=0.05)


def test_more_shards_are_never_faster():
    found = answers(cluster(shards=40, replicas=2, load=0.5, hedge=0.02, slow_share=0.01))
    last = np.zeros(len(found))
    for count in (1, 10, 40):
        now = whole(found, count)
        assert (now >= last).all()
        last = now
    assert last.mean() > whole(found, 1).mean()


def test_hedging_is_never_slower_without_load():
    slow = {"shards": 20, "replicas": 2, "slow_share": 0.02}
    without, hedged = answers(cluster(**slow)), answers(cluster(**slow, hedge=0.03))
    assert (hedged <= without + 1e-7).all()
    assert np.quantile(whole(hedged, 20), 0.99) < 0.6 * np.quantile(whole(without, 20), 0.99)
    # Nobody is asked before `hedge`, and one replica has no other to ask.
    early = without < 0.03
    np.testing.assert_allclose(hedged[early], without[early], atol=1e-7)
    alone = dataclasses.replace(cluster(**slow, hedge=0.03), replicas=1)
    np.testing.assert_allclose(answers(alone), without, atol=1e-7)


def test_a_third_replica_changes_nothing_without_load():
    two, three = (answers(cluster(shards=5, replicas=n, hedge=0.01, queries=1000)) for n in (2, 3))
    np.testing.assert_allclose(two, three, atol=1e-6)


@pytest.mark.parametrize("shards", [1, 5, 50])
def test_maximum_of_exponential_times(shards):
    # The mean of the largest of n is 1 + 1/2 + ... + 1/n.
    found = whole(answers(cluster(EXPONENTIAL, shards, queries=6000)), shards)
    harmonic = sum(1 / i for i in range(1, shards + 1))
    assert found.mean() == pytest.approx(harmonic, rel=0.04)


def test_hedged_exponential_times():
    # min(X, h + Y) of exponential X and Y: h-truncated, then twice as fast.
    h = 0.5
    found = answers(cluster(EXPONENTIAL, 50, queries=1000, replicas=2, hedge=h))
    assert found.mean() == pytest.approx(1 - math.exp(-h) / 2, rel=0.02)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_queue_of_exponential_times(load):
    # M/M/1: the mean time in the system is 1 / (1 - load), and it is exponential, too.
    found = answers(cluster(EXPONENTIAL, 100, load=load, queries=8000))
    assert found.mean() == pytest.approx(1 / (1 - load), rel=0.1)
    assert np.median(found) == pytest.approx(math.log(2) / (1 - load), rel=0.1)


def test_queue_of_equal_times():
    # M/D/1, Pollaczek-Khinchine: 1 + load / (2 (1 - load)).
    found = answers(cluster(np.ones(1), 1, load=0.5, queries=10_000))
    assert found.mean() == pytest.approx(1.5, rel=0.1)


def test_hedged_calls_keep_workers_busy():
    # Asked at once, both replicas do everything: a queue M/D/1 of the whole load.
    both = {"load": 0.6, "replicas": 2, "queries": 10_000}
    found = answers(cluster(np.ones(1), 1, hedge=0.0, **both))
    assert found.mean() == pytest.approx(1 + 0.6 / (2 * 0.4), rel=0.1)
    assert answers(cluster(np.ones(1), 1, **both)).mean() < 1.3


def test_who_has_answered_is_not_asked_again():
    named = {"load": 0.5, "replicas": 2, "shards": 3}
    without = answers(cluster(EXPONENTIAL, **named))
    never_late = answers(cluster(EXPONENTIAL, **named, hedge=1.01 * without.max()))
    np.testing.assert_array_equal(never_late, without)


def test_replicas_share_the_load():
    means = [answers(cluster(EXPONENTIAL, 20, load=0.7, replicas=n)).mean() for n in (1, 2, 3)]
    assert means[0] > 1.5 * means[1] > 1.5 * means[2] > 1.5


def test_slow_calls_take_as_long_as_stated_and_count_as_load():
    found = answers(cluster(np.ones(1), 100, slow_share=0.01, queries=2000))
    values, counts = np.unique(np.round(found, 3), return_counts=True)
    assert values.tolist() == [1, 20]
    assert counts[1] / found.size == pytest.approx(0.01, rel=0.1)
    assert cluster(np.ones(1), slow_share=0.01).mean == pytest.approx(1.19)


def test_caller_is_added():
    found = answers(cluster(shards=3))
    np.testing.assert_allclose(whole(found, 3, 0.25), whole(found, 3) + 0.25)


def test_same_seed_same_figures():
    one, other = (answers(cluster(shards=3, load=0.5)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, answers(cluster(shards=3, load=0.5, seed=1)))
