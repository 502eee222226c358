from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq.hash_table.probes import own_buckets, probes, ranked_words
from deepq.hash_table.rows import BucketRows


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_buckets_come_in_the_order_of_counting(data) -> None:
    levels, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    sparsity = data.draw(st.integers(1, width))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    n, wanted = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 40))
    stored = ranked_words(rng.standard_normal((n, levels * width)), levels)
    rows = BucketRows.of(
        np.zeros((n, 1), np.float32), np.arange(n), own_buckets(stored, sparsity), width**levels
    )
    words = ranked_words(rng.standard_normal((4, levels * width)), levels)
    looked = probes(rows, words, sparsity, wanted)
    for query, buckets, found in zip(words, looked.buckets, looked.found, strict=True):
        want: list[int] = []
        members: set[int] = set()
        for number in range(width**levels):
            if number >= sparsity and len(members) >= min(wanted, n):
                break
            bucket, rest = 0, number
            digits = []
            for _ in range(levels):
                rest, digit = divmod(rest, width)
                digits.insert(0, digit)
            for level, digit in enumerate(digits):
                bucket = bucket * width + int(query[level, digit])
            want.append(bucket)
            members |= set(rows.entries[rows.offsets[bucket] : rows.offsets[bucket + 1]].tolist())
        assert buckets[buckets >= 0].tolist() == want
        assert found == len(members)


def test_equal_scores_come_in_order() -> None:
    words = ranked_words(np.zeros((1, 6)), 2)
    assert words.tolist() == [[[0, 1, 2], [0, 1, 2]]]
    assert own_buckets(words, 2).tolist() == [[0, 1]]


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
