from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq.hash_table.probes import ORDERS, Words, probes
from deepq.hash_table.rows import BucketRows


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_buckets_come_in_order(data) -> None:
    levels, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    sparsity, order = data.draw(st.integers(1, width)), data.draw(st.sampled_from(ORDERS))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    n, wanted = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 40))
    stored = Words.ranked(rng.standard_normal((n, levels * width)), levels)
    rows = BucketRows.of(
        np.zeros((n, 1), np.float32), np.arange(n), stored.own_buckets(sparsity), width**levels
    )
    scores = rng.integers(-3, 4, (4, levels, width)) / 2  # with ties
    words = Words.ranked(scores.reshape(4, -1), levels)
    looked = probes(rows, words, sparsity, wanted, order)
    done: list[object] = []
    for query, buckets, found in zip(words.words, looked.buckets, looked.found, strict=True):
        want: list[int] = []
        members: set[int] = set()
        for bucket in plain_order(scores[len(done)], query, sparsity, order):
            if len(want) >= sparsity and len(members) >= min(wanted, n):
                break
            want.append(bucket)
            members |= set(rows.entries[rows.offsets[bucket] : rows.offsets[bucket + 1]].tolist())
        done.append(query)
        assert buckets[buckets >= 0].tolist() == want
        assert found == len(members)


def plain_order(scores, words, sparsity, order) -> list[int]:
    """All buckets of one query, by their digits."""
    levels, width = scores.shape
    found = []
    for ranks in itertools.product(range(width), repeat=levels):
        chosen = [int(words[level, rank]) for level, rank in enumerate(ranks)]
        bucket, total = 0, 0.0
        for level, word in enumerate(chosen):
            bucket, total = bucket * width + word, total + float(scores[level, word])
        is_own = not any(ranks[:-1]) and ranks[-1] < sparsity
        found.append((not is_own, 0 if order == "counting" or is_own else -total, ranks, bucket))
    return [bucket for *_, bucket in sorted(found)]


def test_equal_scores_come_in_order() -> None:
    words = Words.ranked(np.zeros((1, 6)), 2)
    assert words.words.tolist() == [[[0, 1, 2], [0, 1, 2]]]
    assert words.own_buckets(2).tolist() == [[0, 1]]


@pytest.mark.parametrize("sparsity", [1, 3])
def test_rows_lie_in_the_order_of_buckets(sparsity) -> None:
    rng = np.random.default_rng(0)
    buckets = np.array([rng.choice(10, sparsity, replace=False) for _ in range(50)])
    rows = BucketRows.of(np.arange(50.0)[:, None], 100 + np.arange(50), buckets, 10)
    assert rows.sizes.sum() == 50 * sparsity
    for bucket in range(10):
        at = rows.entries[rows.offsets[bucket] : rows.offsets[bucket + 1]]
        want = np.flatnonzero((buckets == bucket).any(axis=1))
        assert sorted(rows.ids[at] - 100) == want.tolist()
        np.testing.assert_array_equal(rows.content[rows.in_bucket(bucket), 0], rows.ids[at] - 100)
    left = rows.without(np.array([100, 149, 7]))
    assert len(left) == 48
    again = left.with_more(np.zeros((1, 1)), np.array([100]), buckets[:1])
    assert sorted(again.ids) == [*range(100, 149)]
