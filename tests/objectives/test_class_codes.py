"""Objectives of codes of classes: margins and centres."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from deepq import objectives
from deepq._common.errors import InputError
from deepq.labels.similarity_codes import factorized
from deepq.labels.supervision import Classes, Tags

from .builders import ROWS, TAGS, Y, Z, bit_loss, prepared, rows_of


@pytest.mark.parametrize("supervision", [Classes(Y), Tags(TAGS)])
def test_classes_stand_behind_the_codes(supervision) -> None:
    objective = prepared(objectives.CodeRegression(classes=4), 6, supervision, seed=3)
    torch.manual_seed(3)
    codes = factorized(supervision, 2, seed=int(torch.randint(1 << 62, (1,)))).tolist()
    for row, code in enumerate(codes):
        has = TAGS[row] if supervision.several else [Y[row] == c for c in range(3)]
        code += [1 if yes else -1 for yes in [*has, False]]
    np.testing.assert_array_equal(objective.codes, codes)
    with pytest.raises(InputError, match="more than 3 numbers for 3 classes, got 3"):
        prepared(objectives.CodeRegression(classes=3), 3, supervision)
    with pytest.raises(InputError, match="labels of at most 2 classes, got 3"):
        prepared(objectives.CodeRegression(classes=2), 6, supervision)
    assert objective.needs_classes
    assert not objectives.CodeRegression().needs_classes


@pytest.mark.parametrize("supervision", [Classes(Y), Tags(TAGS)])
def test_a_margin_is_taken_from_the_cosine_of_true_classes(supervision) -> None:
    objective = prepared(objectives.OrthoHash(scale=5.0, margin=0.3), 4, supervision)
    targets, want = supervision.targets(ROWS), []
    for z, t in zip(Z, targets, strict=False):
        logits = []
        for c, code in enumerate(objective.codes.numpy()):
            cosine = z @ code / math.sqrt((z @ z) * (code @ code))
            logits.append(5 * (cosine - (0.3 if t[c] > 0 else 0)))
        total = math.log(sum(map(math.exp, logits)))
        want.append(-sum(a * (b - total) for a, b in zip(t, logits, strict=True)))
    got = objective(torch.from_numpy(Z[:4]).float(), rows_of(supervision))
    assert got.item() == pytest.approx(np.mean(want), rel=1e-5)


def majority(codes: Any) -> list[int]:
    """The sign of most codes, bit by bit; of the first where there are as many of both."""
    return [int(np.sign(sum(bits) or bits[0])) for bits in zip(*codes, strict=True)]


@pytest.mark.parametrize("supervision", [Classes(Y), Tags(TAGS)])
def test_centres_are_those_of_most_classes(supervision) -> None:
    objective = prepared(objectives.CentralSimilarity(pull=0.7), 4, supervision)
    codes, found = objective.codes.int().tolist(), []
    for t in supervision.targets(ROWS):
        found.append(majority([codes[c] for c in range(3) if t[c] > 0] or [[0] * 4]))
    pull = np.mean([(abs(math.tanh(number)) - 1) ** 2 for number in Z[:4].ravel()])
    got = objective(torch.from_numpy(Z[:4]).float(), rows_of(supervision))
    assert got.item() == pytest.approx(bit_loss(2 * Z[:4], found) + 0.7 * pull, rel=1e-5)


def test_a_row_without_a_class_is_drawn_to_none() -> None:
    objective = prepared(objectives.CentralSimilarity(pull=0.0), 4, Tags(TAGS))
    z = torch.from_numpy(Z[:4]).float().requires_grad_()
    objective(z, rows_of(Tags(TAGS))).backward()
    assert z.grad.any(1).tolist() == [True, True, False, True]  # ROWS[2] has no tag


def test_ties_of_classes_go_to_the_first() -> None:
    objective = prepared(objectives.CentralSimilarity(pull=0.0), 4, Tags(TAGS))
    codes = objective.codes
    assert (codes[1] != codes[2]).any()
    both = SimpleNamespace(targets=torch.tensor([[0.0, 0.5, 0.5]]))
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    want = bit_loss(2 * z.numpy(), codes[1].numpy())
    assert objective(z, both).item() == pytest.approx(want, rel=1e-5)
