from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

import deepq
from deepq import metrics

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("shape", [(300,), (300, 1), (300, 3)])
def test_mutual_information_is_that_of_scikit_learn(shape) -> None:
    buckets, labels = RNG.integers(0, 12, shape), RNG.integers(0, 7, shape[0])
    flat = np.repeat(labels, buckets.size // len(labels))
    want = normalized_mutual_info_score(flat, buckets.ravel(), average_method="arithmetic")
    got = metrics.normalized_mutual_information(buckets, labels)
    assert got == pytest.approx(want, abs=1e-12)
    named = np.char.add("class ", labels.astype(str))
    assert metrics.normalized_mutual_information(buckets, named) == pytest.approx(got)


def test_one_bucket_of_one_class_says_all() -> None:
    assert metrics.normalized_mutual_information([3, 3], [1, 1]) == 1
    assert metrics.normalized_mutual_information([3, 3], [1, 2]) == 0


def test_speed_up() -> None:
    assert metrics.speed_up(1) == 1
    assert metrics.speed_up(0) == float("inf")
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(deepq.InputError):
            metrics.speed_up(wrong)


def test_the_query_itself_is_dropped() -> None:
    I = np.array([[0, 2, 1], [2, 1, -1], [0, 1, -1]])
    assert metrics.without_self(I).tolist() == [[2, 1], [2, -1], [0, 1]]
    ids = [1, 2, 9]
    assert metrics.without_self(I, ids).tolist() == [[0, 2], [1, -1], [0, 1]]


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.normalized_mutual_information([1, 2], [1]),
        lambda: metrics.normalized_mutual_information([], []),
        lambda: metrics.normalized_mutual_information([1.5], [1]),
        lambda: metrics.without_self([[1], [2]]),
        lambda: metrics.without_self([[1, 2]], [1, 2]),
        lambda: metrics.without_self([[1.0, 2.0]]),
    ],
)
def test_bad_input(call) -> None:
    with pytest.raises((ValueError, TypeError)):
        call()
