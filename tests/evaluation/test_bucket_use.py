from __future__ import annotations

import numpy as np
import pytest

import deepq

from ..hash_table.builders import LEVELS, WIDTH, XB, XQ, filled, table


@pytest.mark.parametrize("sparsity", [1, 2])
def test_buckets_are_counted(sparsity) -> None:
    index = filled(sparsity=sparsity)
    use = deepq.diagnose(index)
    buckets = index.bucket_ids(XB)
    sizes = np.bincount(buckets.ravel(), minlength=WIDTH**LEVELS)
    assert use.n == 400
    np.testing.assert_array_equal(use.sizes, sizes)
    for level in range(LEVELS):
        digit = buckets // WIDTH ** (LEVELS - 1 - level) % WIDTH
        np.testing.assert_array_equal(use.words[level], np.bincount(digit.ravel(), minlength=WIDTH))
    p = sizes / sizes.sum()
    assert use.empty == (sizes == 0).sum()
    assert use.imbalance == pytest.approx(25 * np.square(p).sum())
    assert use.perplexity == pytest.approx(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()))
    assert f"400 vectors in 25 buckets of up to {sizes.max()}" in str(use)
    assert len(str(use).splitlines()) == 2 + LEVELS


def test_one_bucket_of_a_vector_is_met_as_often() -> None:
    index = filled()
    index.search(XB, 1)
    met = np.mean([index.bucket_sizes[b] for b in index.bucket_ids(XB)[:, 0]]) / 400
    assert deepq.diagnose(index).candidates == pytest.approx(met)


def test_others_rows_are_looked_at() -> None:
    use = deepq.diagnose(table(), XQ)
    assert use.n == len(XQ)
    assert use.sizes.sum() == len(XQ)


def test_there_must_be_rows() -> None:
    with pytest.raises(deepq.InputError, match="rows of x"):
        deepq.diagnose(table())


def test_tables_are_evaluated() -> None:
    index = filled()
    y, yq = np.arange(400) % 5, np.arange(30) % 5
    names = ["precision@3", "speed_up", "NMI", "us_per_query"]
    got = deepq.evaluate(index, XQ, measures=names, labels=(yq, y))
    _, I = index.search(XQ, 3)
    assert got["precision@3"] == pytest.approx((y[I[:, :3]] == yq[:, None]).mean())
    assert got["speed_up"] == pytest.approx(1 / index.candidates)
    buckets = index.bucket_ids(XQ)
    want = deepq.metrics.normalized_mutual_information(buckets, yq)
    assert got["NMI"] == pytest.approx(want)
    with pytest.raises(deepq.InputError, match="labels for NMI"):
        deepq.evaluate(index, XQ, measures="NMI")
    flat = deepq.DeepQuantIndex.from_codebooks(np.eye(4, 8, dtype=np.float32).reshape(1, 4, 8))
    flat.add(XB)
    with pytest.raises(deepq.InputError, match="HashTableIndex for speed_up, got DeepQuantIndex"):
        deepq.evaluate(flat, XQ, measures="speed_up")
