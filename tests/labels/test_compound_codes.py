from __future__ import annotations

import itertools

import numpy as np

from deepq.labels.compound_codes import RIVALRY, compound_codes

RNG = np.random.default_rng(5)


def test_each_level_is_the_best_after_those_before() -> None:
    scores = RNG.standard_normal((4, 2, 3))
    codes = compound_codes(scores, sparsity=2, crowding=0.4)
    assert codes.shape == scores.shape
    assert codes.sum(axis=2).tolist() == [[1, 2]] * 4
    prefix = codes[:, 0].argmax(axis=1)
    for level, rivals in ((0, None), (1, prefix)):
        rows = [np.array(row) for row in itertools.product([0, 1], repeat=3)]
        rows = [row for row in rows if row.sum() == level + 1]
        costs = [
            _cost(scores[:, level], np.array(h), rivals) for h in itertools.product(rows, repeat=4)
        ]
        got = _cost(scores[:, level], codes[:, level].astype(int), rivals)
        assert np.isclose(got, min(costs), atol=1e-6)


def _cost(scores, h, prefix) -> float:
    total = -(scores * h).sum()
    for i, j in itertools.combinations(range(len(h)), 2):
        same = prefix is not None and prefix[i] == prefix[j]
        total += (0.4 + RIVALRY * same) * (h[i] @ h[j])
    return total


def test_classes_of_one_prefix_differ_where_there_is_room() -> None:
    codes = compound_codes(np.ones((12, 2, 4)), crowding=0.0)
    first = codes[:, 0].argmax(axis=1)  # all take the first word
    assert (first == 0).all()
    assert np.bincount(codes[:, 1].argmax(axis=1)).tolist() == [3, 3, 3, 3]


def test_crowding_spreads_classes() -> None:
    codes = compound_codes(np.ones((12, 1, 4)), crowding=0.5)
    assert codes[:, 0].sum(axis=0).tolist() == [3, 3, 3, 3]
