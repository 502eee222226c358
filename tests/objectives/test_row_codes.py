"""Objectives of codes of rows: regressed at once, or inferred bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deepq import objectives
from deepq._common.errors import InputError
from deepq.labels import triplet_codes
from deepq.labels.similarity_codes import factorized
from deepq.labels.supervision import Classes, Pairs, Positives, Tags

from .builders import ROWS, TAGS, Y, Z, bit_loss, prepared, rows_of

PAIRS = Pairs([0, 0, 1, 3, 2, 4], [2, 1, 4, 5, 3, 5], [1, 0, 1, 0, 0, 0])
LOG = Positives(np.zeros((2, 4)), [1, 3]).after(4)  # rows 4 and 5 are the queries


@pytest.mark.parametrize("supervision", [Classes(Y), Tags(TAGS), PAIRS, LOG])
def test_codes_are_regressed_row_by_row(supervision) -> None:
    objective = prepared(objectives.CodeRegression(), 4, supervision, seed=3)
    torch.manual_seed(3)
    codes = factorized(supervision, 4, seed=int(torch.randint(1 << 62, (1,))))
    want = [(Z[a, b] - codes[row, b]) ** 2 for a, row in enumerate(ROWS) for b in range(4)]
    got = objective(torch.from_numpy(Z[:4]), rows_of(supervision))
    assert got.item() == pytest.approx(np.mean(want))


MANY = Classes(np.arange(40) % 4)
EMBEDDED = np.random.default_rng(1).standard_normal((40, 12)).astype(np.float32)
EMBEDDED[:3] = 0


def inferring(bits: int = 12, group: int = 4, seed: int = 0, **options: Any) -> Any:
    return prepared(objectives.InferredCodes(group=group, **options), bits, MANY, seed)


@pytest.mark.parametrize(
    ("epochs", "group", "active"),
    [
        (12, 4, [4, 4, 8, 8, *[12] * 8]),
        (6, 4, [4, 8, *[12] * 4]),
        (5, 4, [4, 8, 12, 12, 12]),
        (4, 4, [8, 12, 12, 12]),
        (3, 5, [10, 12, 12]),
        (3, 20, [12, 12, 12]),
        (2, 1, [12, 12]),
        (1, 4, [12]),
    ],
)
def test_bits_become_active_in_turn_and_in_the_end_all_are(epochs, group, active) -> None:
    objective, found = inferring(group=group), []
    for epoch in range(epochs):
        before = objective.codes.clone()
        old = objective.active
        objective.begin_epoch(epoch, epochs, lambda: EMBEDDED)
        found.append(objective.active)
        assert torch.equal(objective.codes[:, :old], before[:, :old])
        assert (objective.codes[:, : found[-1]].abs() == 1).all()
        assert not objective.codes[:, found[-1] :].any()
        z = torch.from_numpy(EMBEDDED[ROWS])
        want = bit_loss(z[:, : found[-1]], objective.codes[ROWS, : found[-1]])
        assert objective(z, rows_of(MANY)).item() == pytest.approx(want, rel=1e-5)
    assert found == active


def test_later_bits_are_inferred_given_the_signs_of_embeddings(monkeypatch) -> None:
    given, real = [], triplet_codes.inferred

    def inferred(codes: Any, triplets: Any, bits: int, margin: float, rng: Any) -> Any:
        added = real(codes, triplets, bits, margin, rng)
        given.append((codes.copy(), len(triplets), bits, margin, added))
        return added

    monkeypatch.setattr(triplet_codes, "inferred", inferred)
    signs = np.where(EMBEDDED >= 0, 1, -1)
    objective = inferring(triplets=5)
    for epoch in range(6):
        objective.begin_epoch(epoch, 6, lambda: EMBEDDED)
    assert len(given) == 3
    for number, (codes, count, bits, margin, _) in enumerate(given):
        np.testing.assert_array_equal(codes, signs[:, : 4 * number])
        assert (count, bits, margin) == (5 * 40, 4, 6.0)
    given.clear()
    objective = inferring()
    objective.begin_epoch(0, 4, lambda: EMBEDDED)  # two groups at once
    objective.begin_epoch(1, 4, lambda: EMBEDDED)
    added = [call[-1] for call in given]
    np.testing.assert_array_equal(given[1][0], added[0])  # which nothing has learned yet
    np.testing.assert_array_equal(given[2][0], signs[:, :8])
    np.testing.assert_array_equal(objective.codes, np.hstack(added))
    given.clear()
    objective = inferring(group=2)
    for epoch in range(4):
        objective.begin_epoch(epoch, 4, lambda: EMBEDDED)
    np.testing.assert_array_equal(given[4][0], np.hstack([signs[:, :6], given[3][-1]]))


def test_a_seed_decides_which_bits_are_inferred() -> None:
    def codes(seed: int) -> Any:
        objective = inferring(seed=seed)
        for epoch in range(3):
            objective.begin_epoch(epoch, 3, lambda: EMBEDDED)
        return objective.codes

    assert torch.equal(codes(1), codes(1))
    assert not torch.equal(codes(1), codes(2))


def test_epochs_may_be_begun_by_another_that_has_the_codes() -> None:
    whole, resumed = inferring(), inferring()
    for epoch in range(6):
        whole.begin_epoch(epoch, 6, lambda: EMBEDDED)
        if epoch == 1:
            resumed.load_state_dict(whole.state_dict())
        if epoch > 1:
            resumed.begin_epoch(epoch, 6, lambda: EMBEDDED)
    assert torch.equal(whole.codes, resumed.codes)
    assert whole.active == resumed.active


def test_rows_without_triplets_have_no_bits() -> None:
    pairs = Pairs([0, 1, 3, 4], [1, 2, 4, 5], [1, 0, 1, 1])  # of 1 there are both kinds
    objective = prepared(objectives.InferredCodes(), 4, pairs)
    objective.begin_epoch(0, 1, lambda: EMBEDDED)
    assert objective.codes.abs().sum(1).tolist() == [4, 4, 4, 0, 0, 0]
    z = torch.from_numpy(Z[:4]).float().requires_grad_()
    objective(z, rows_of(pairs)).backward()
    assert z.grad.any(1).tolist() == [False, True, False, True]


@pytest.mark.parametrize("s", [0, 1])
def test_bits_cannot_be_inferred_where_all_pairs_are_of_one_kind(s) -> None:
    pairs = Pairs([0, 0, 1], [1, 2, 3], [s, s, s])
    objective = prepared(objectives.InferredCodes(), 8, pairs)
    with pytest.raises(InputError, match="expected rows that are similar to one row and not to"):
        objective.begin_epoch(0, 3, lambda: EMBEDDED)
