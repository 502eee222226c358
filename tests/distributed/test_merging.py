"""Results of shards become those of one index: the best scores, of equal ones the smaller ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq.distributed.merging import best, merged, merged_ranges

METRICS = {1: 1, 0: -1}  # L2: small is good; inner product: large is


@given(
    seed=st.integers(0, 1 << 30),
    n=st.integers(0, 4),
    m=st.integers(1, 40),
    k=st.integers(1, 45),
    values=st.sampled_from([2, 5, 1000]),
    metric=st.sampled_from([0, 1]),
)
def test_the_best_are_those_of_sorted_pairs(seed, n, m, k, values, metric):
    rng = np.random.default_rng(seed)
    D = rng.integers(values, size=(n, m)).astype("float32")
    I = np.stack([rng.permutation(2 * m)[:m] for _ in range(n)]).astype("int64") if n else None
    I = np.empty((0, m), "int64") if I is None else I
    gone = rng.random((n, m)) < 0.3
    D[gone], I[gone] = METRICS[metric] * np.finfo("float32").max, -1
    columns = best(D, I, k, metric)
    assert columns.shape == (n, min(k, m))
    for q in range(n):
        found = [(METRICS[metric] * D[q, c], I[q, c]) for c in columns[q]]
        there = sorted((METRICS[metric] * s, i) for s, i in zip(D[q], I[q], strict=True) if i >= 0)
        assert [pair for pair in found if pair[1] >= 0] == there[:k]


def test_codes_go_with_their_ids():
    D = np.array([[1, 3]], "float32"), np.array([[0, 2]], "float32")
    I = np.array([[5, 7]]), np.array([[6, 8]])
    codes = [i[..., None].astype("uint8") for i in I]
    scores, ids, own = merged(list(zip(D, I, codes, strict=True)), 3, 1)
    assert scores.tolist() == [[0, 1, 2]]
    assert ids.tolist() == [[6, 5, 8]]
    assert own[..., 0].tolist() == ids.tolist()
    assert merged([(D[0], I[0], None)], 1, 1)[2] is None


def test_tied_inner_products_come_in_ascending_order_of_id():
    """faiss's own merge takes the last shard first."""
    scores = np.ones((1, 3), "float32")
    parts = [(scores, np.arange(3)[None] + 10 * shard, None) for shard in range(3)]
    assert merged(parts, 5, 0)[1].tolist() == [[0, 1, 2, 10, 11]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ranges_come_in_ascending_order_of_id(order):
    one = np.array([0, 2, 2], "uint64"), np.array([1, 2], "float32"), np.array([3, 9])
    other = np.array([0, 1, 3], "uint64"), np.array([5, 6, 7], "float32"), np.array([4, 0, 8])
    parts = [(one, other)[i] for i in order]
    lims, D, I = merged_ranges(parts)
    assert lims.dtype == np.uint64
    assert lims.tolist() == [0, 3, 5]
    assert I.tolist() == [3, 4, 9, 0, 8]
    assert D.tolist() == [1, 5, 2, 6, 7]
