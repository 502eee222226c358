"""Losses are their formulas, by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deepq.objectives import losses

from .builders import ALL, RNG, SIMILAR, Z, call, pairs

SOME = np.triu(RNG.random((6, 6)) < 0.6)
SOME = SOME | SOME.T


def balanced(loss, known) -> float:
    """The mean over similar pairs and the mean over the others, half each."""
    kinds = {True: [], False: []}
    for i, j in pairs(known):
        kinds[bool(SIMILAR[i, j])].append(loss(i, j, 1 if SIMILAR[i, j] else -1))
    return sum(np.mean(kind) if kind else 0 for kind in kinds.values()) / 2


@pytest.mark.parametrize("known", [ALL, SOME])
def test_pairwise_cosine(known) -> None:
    def loss(i, j, s):
        return (s - Z[i] @ Z[j] / math.sqrt(Z[i] @ Z[i]) / math.sqrt(Z[j] @ Z[j])) ** 2

    got = call(losses.pairwise_cosine, Z, SIMILAR, known)
    assert got == pytest.approx(balanced(loss, known), rel=1e-9)


@pytest.mark.parametrize("known", [ALL, SOME])
def test_pairwise_inner_product(known) -> None:
    got = call(losses.pairwise_inner_product, Z, SIMILAR, known)
    assert got == pytest.approx(balanced(lambda i, j, s: (s - Z[i] @ Z[j] / 4) ** 2, known))


@pytest.mark.parametrize("known", [ALL, SOME])
@pytest.mark.parametrize("margin", [1.0, 8.0])
def test_contrastive(known, margin) -> None:
    found = []
    for i, j in pairs(known):
        d2 = sum((a - b) ** 2 for a, b in zip(Z[i], Z[j], strict=True))
        found.append(d2 if SIMILAR[i, j] else max(margin - d2, 0))
    got = call(losses.contrastive, Z, SIMILAR, known, margin)
    assert got == pytest.approx(np.mean(found))


@pytest.mark.parametrize("known", [ALL, SOME])
@pytest.mark.parametrize("margin", [0.5, 6.0])
def test_triplet(known, margin) -> None:
    found = []
    d2 = np.square(Z[:, None] - Z).sum(axis=2)
    for i, j in pairs(known):
        others = [k for k in range(6) if known[i, k] and not SIMILAR[i, k]]
        if SIMILAR[i, j] and others:
            beyond = [d2[i, k] for k in others if d2[i, k] > d2[i, j]]
            rival = min(beyond) if beyond else max(d2[i, k] for k in others)
            found.append(max(margin + d2[i, j] - rival, 0))
    got = call(losses.triplet, d2, SIMILAR, known, margin)
    assert got == pytest.approx(np.mean(found))


def test_triplets_of_one_class_cost_nothing() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    same = torch.ones(4, 4, dtype=torch.bool)
    loss = losses.triplet(losses.squared_distances(z), same, same, 1.0)
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


def test_cross_entropies() -> None:
    logits = RNG.standard_normal((6, 3))
    targets = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0.5, 0.5]])
    soft, binary = [], []
    for row, t in zip(logits, targets, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        soft.append(-sum(a * math.log(b) for a, b in zip(t, p, strict=True)))
        yes = 1 / (1 + np.exp(-row))
        binary.append(
            -sum(math.log(q) if a > 0 else math.log(1 - q) for a, q in zip(t, yes, strict=True))
        )
    a, b = torch.from_numpy(logits), torch.from_numpy(targets)
    assert float(losses.cross_entropy(a, b)) == pytest.approx(np.mean(soft))
    assert float(losses.binary_cross_entropy(a, b)) == pytest.approx(np.mean(binary))


def test_quantization() -> None:
    decoded = RNG.standard_normal((6, 4))
    want = np.mean([sum((a - b) ** 2) for a, b in zip(Z, decoded, strict=True)])
    got = losses.quantization(torch.from_numpy(Z), torch.from_numpy(decoded))
    assert float(got) == pytest.approx(want)


def test_pull_to_signs() -> None:
    want = [sum(abs(abs(number) - 1) for number in row) for row in Z]
    assert float(losses.pull_to_signs(torch.from_numpy(Z))) == pytest.approx(np.mean(want))


def test_losses_of_codes() -> None:
    codes = RNG.choice([-1.0, 1.0], (6, 4))
    squares, bits = [], []
    for z, code in zip(Z.ravel(), codes.ravel(), strict=True):
        squares.append((z - code) ** 2)
        one = 1 / (1 + math.exp(-z))
        bits.append(-math.log(one if code == 1 else 1 - one))
    pair = torch.from_numpy(Z), torch.from_numpy(codes)
    assert float(losses.code_regression(*pair)) == pytest.approx(np.mean(squares))
    assert float(losses.code_cross_entropy(*pair)) == pytest.approx(np.mean(bits))


def test_rows_that_are_equal_have_finite_gradients() -> None:
    z = torch.zeros(4, 3, requires_grad=True)
    similar = torch.eye(4, dtype=torch.bool)
    known = torch.ones(4, 4, dtype=torch.bool)
    loss = sum(
        (
            losses.pairwise_cosine(z, similar, known),
            losses.contrastive(z, similar, known, 1.0),
            losses.triplet(losses.squared_distances(z), similar, known, 1.0),
        )
    )
    loss.backward()
    assert torch.isfinite(z.grad).all()
