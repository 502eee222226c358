"""Results of other libraries: whatever marks a missing one, it is -1 afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepq
from deepq.metrics import plain_results

NAN = float("nan")
X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
LARGEST = {kind: np.iinfo(kind).max for kind in ("uint32", "uint64", "int64")}


@pytest.mark.parametrize(
    ("D", "I"),
    [
        ([[0.5, 0.7, NAN], [0.1, NAN, NAN]], np.array([[7, 4, 0], [3, 0, 0]], np.uint64)),
        ([[0.5, 0.7], [0.1]], [[7, 4], [3]]),
        ([[0.5, 0.7, 3e38], [0.1, 3e38, 3e38]], [[7, 4, -1], [3, -1, -1]]),
        *(
            (
                [[0.5, 0.7, 0], [0.1, 0, 0]],
                np.array([[7, 4, most], [3, most, most]], kind),
            )
            for kind, most in LARGEST.items()
        ),
    ],
    ids=["key 0 and NaN", "fewer", "faiss", *LARGEST],
)
def test_what_is_missing_is_minus_one(D, I):
    found, ids = plain_results(D, I)
    assert (ids.dtype, found.dtype) == (np.int64, np.float32)
    assert [row[row >= 0].tolist() for row in ids] == [[7, 4], [3]]
    assert set(ids[ids < 0].tolist()) <= {-1}
    assert found.shape == ids.shape
    np.testing.assert_allclose(found[0, :2], [0.5, 0.7])


def test_nothing_at_all_and_a_row_without_results():
    assert plain_results([], [])[1].shape == (0, 0)
    assert plain_results([[], [1.0]], [[], [5]])[1].tolist() == [[-1], [5]]


@pytest.mark.parametrize(
    ("D", "I", "error", "match"),
    [
        ([[0.5]], [[1.5]], TypeError, "integer ids"),
        ([["near"]], [[1]], TypeError, "real numbers"),
        ([[0.5]], [[1, 2]], ValueError, "as many scores"),
        ([0.5], [1], ValueError, "of nq rows"),
        (np.zeros((1, 1, 1)), np.zeros((1, 1, 1), int), ValueError, "of nq rows"),
    ],
)
def test_anything_else_is_refused(D, I, error, match):
    with pytest.raises(error, match=match):
        plain_results(D, I)


class Foreign:
    """An exact index that finds 5 results at most, and says so in one of these ways."""

    d, ntotal = 4, len(X)

    def __init__(self, way: str, metric: int) -> None:
        self.way, self.metric = way, metric

    def search(self, x: Any, k: int) -> tuple[Any, Any]:
        D, I = deepq.datasets.exact_neighbours(X, x, 5, self.metric)
        if self.metric == 0:
            D = 1 - D  # as some libraries have it
        if self.way == "fewer":
            return D.tolist(), I.tolist()
        more = ((0, 0), (0, k - 5))
        missing = {"key 0": 0, "largest": np.iinfo(np.uint32).max}[self.way]
        kind = {"key 0": np.uint64, "largest": np.uint32}[self.way]
        return np.pad(D, more, constant_values=NAN), np.pad(
            I, more, constant_values=missing
        ).astype(kind)


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("way", ["fewer", "key 0", "largest"])
def test_evaluate_takes_each_right(way, metric):
    gt = deepq.datasets.exact_neighbours(X, X[:9], 10, metric)[1]
    found = deepq.evaluate(
        Foreign(way, metric), X[:9], gt, ["5-recall@10", "10-recall@10", "1-recall@1"]
    )
    assert found == {"5-recall@10": 1.0, "10-recall@10": 0.5, "1-recall@1": 1.0}
