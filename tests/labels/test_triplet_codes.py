"""Bits inferred from triplets: each quantity by enumeration, bits beside the best there are."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq.labels import triplet_codes
from deepq.labels.supervision import Classes, Pairs, Positives, Supervision, Tags
from deepq.labels.triplet_codes import coefficients, drawn, inferred
from deepq.metrics import mean_average_precision


def some_tags(n: int, seed: int = 0) -> Tags:
    y = np.random.default_rng(seed).random((n, 4)) < 0.3
    y[0] = False
    return Tags(y)


def some_pairs(n: int, p: int, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    i = rng.integers(n, size=p)
    j = (i + rng.integers(1, n, size=p)) % n
    return Pairs(np.append(i, n - 1), np.append(j, 0), rng.random(p + 1) < 0.4)


KINDS = [
    Classes(np.append(np.arange(39) % 3, 9)),  # the last row is alone in its class
    some_tags(40),
    some_pairs(40, 60),
    Positives(np.zeros((12, 2)), np.arange(12) % 5).after(20),
]
kinds = pytest.mark.parametrize("supervision", KINDS, ids=lambda s: type(s).__name__)


def choices(supervision: Supervision) -> tuple[list[set[int]], list[set[int]]]:
    """The rows known to be similar to each row, but for itself, and those known not to be.

    Only those that come in batches.
    """
    similar, known = supervision.similar(np.arange(supervision.n))
    seen = np.unique(next(supervision.batches(1000, np.random.default_rng(0))))
    known[:, np.setdiff1d(np.arange(supervision.n), seen)] = False
    near: list[set[int]] = [set() for _ in range(supervision.n)]
    far: list[set[int]] = [set() for _ in range(supervision.n)]
    for i, j in zip(*np.nonzero(known), strict=True):
        if i != j:
            (near if similar[i, j] else far)[i].add(int(j))
    return near, far


def instance(n: int, q: int, t: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n, q) and triplets (t, 3) of three rows each."""
    rng = np.random.default_rng(seed)
    triplets = np.array([rng.permutation(n)[:3] for _ in range(t)])
    return rng.choice(np.array([-1, 1], np.float32), (n, q)), triplets


def loss(codes: Any, triplets: Any, margin: float) -> float:
    """The sum of hinges."""
    total = 0.0
    for i, j, k in triplets:
        near = sum(a != b for a, b in zip(codes[i], codes[j], strict=True))
        far = sum(a != b for a, b in zip(codes[i], codes[k], strict=True))
        total += max(margin + near - far, 0)
    return total


def draws(supervision: Supervision, count: int = 5, seed: int = 0) -> np.ndarray:
    return drawn(supervision, count, np.random.default_rng(seed))


# ---- triplets ------------------------------------------------------------------------------------


@kinds
def test_triplets_are_drawn_of_each_row_that_has_some(supervision) -> None:
    near, far = choices(supervision)
    triplets = draws(supervision, 400)
    assert triplets.dtype == np.int64
    able = [i for i in range(supervision.n) if near[i] and far[i]]
    assert 0 < len(able) < supervision.n
    rows, counts = np.unique(triplets[:, 0], return_counts=True)
    assert rows.tolist() == able
    assert set(counts) == {400}
    for i in able:  # each that may be drawn is, and no other
        of = triplets[triplets[:, 0] == i]
        assert set(of[:, 1]) == near[i]
        assert set(of[:, 2]) == far[i]


@kinds
def test_triplets_of_many_batches_are_valid(supervision, monkeypatch) -> None:
    monkeypatch.setattr(triplet_codes, "_BATCH", 12)
    near, far = choices(supervision)
    triplets = draws(supervision)
    assert len(triplets) >= 50
    for i, j, k in triplets.tolist():
        assert j in near[i]
        assert k in far[i]
    np.testing.assert_array_equal(triplets, draws(supervision))
    assert not np.array_equal(triplets, draws(supervision, seed=1))


def test_others_are_drawn_evenly() -> None:
    triplets = draws(Classes(np.arange(20) % 2), 2000)
    of = triplets[triplets[:, 0] == 6]
    for column, among in ((of[:, 1], 9), (of[:, 2], 10)):
        assert np.abs(np.unique(column, return_counts=True)[1] * among / 2000 - 1).max() < 0.3


def test_there_may_be_none() -> None:
    for pairs in (Pairs([0, 1], [1, 2]), Pairs([0, 1], [1, 2], [0, 0])):
        assert draws(pairs).shape == (0, 3)


# ---- the quadratic form --------------------------------------------------------------------------

SIGNS = np.array(list(itertools.product([-1, 1], repeat=3)))


@given(st.lists(st.floats(-30, 30) | st.integers(-5, 5).map(float), min_size=1, max_size=9))
def test_coefficients_are_those_of_all_signs(slack) -> None:
    for s, (c1, c2, c3) in zip(slack, coefficients(np.array(slack)).T, strict=True):
        rest = [
            max(s + (hi != hj) - (hi != hk), 0) - c1 * hi * hj - c2 * hi * hk - c3 * hj * hk
            for hi, hj, hk in SIGNS
        ]
        np.testing.assert_allclose(rest, rest[0], atol=1e-12)


@pytest.mark.parametrize("margin", [0.5, 2.0, 3.5])
def test_the_form_is_the_loss_but_for_a_constant(margin) -> None:
    codes, triplets = instance(6, 3, 25)
    slack = np.array([loss(codes, [t], 100.0) - 100 + margin for t in triplets])
    form = triplet_codes._Form(6, triplets, coefficients(slack))
    rest = []
    for h in itertools.product([-1.0, 1.0], repeat=6):
        with_bit = np.column_stack([codes, h])
        rest.append(loss(with_bit, triplets, margin) - np.array(h) @ form.times(np.array(h)) / 2)
    np.testing.assert_allclose(rest, rest[0], atol=1e-9)
    W = np.stack([form.times(row) for row in np.eye(6)])
    np.testing.assert_array_equal(W, W.T)
    assert not W.diagonal().any()
    assert W.any()


def test_each_bit_is_inferred_given_those_before(monkeypatch) -> None:
    codes, triplets = instance(12, 4, 60)
    seen, real = [], coefficients
    monkeypatch.setattr(
        triplet_codes, "coefficients", lambda slack: seen.append(slack.copy()) or real(slack)
    )
    added = inferred(codes, triplets, 5, 3.5, np.random.default_rng(0))
    assert added.shape == (12, 5)
    assert added.dtype == np.float32
    assert set(np.unique(added)) == {-1, 1}
    for b, slack in enumerate(seen):
        so_far = np.hstack([codes, added[:, :b]])
        for t, s in zip(triplets, slack, strict=True):
            assert s == loss(so_far, [t], 100.0) - 100 + 3.5


# ---- bits ----------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_the_last_bit_cannot_change_for_the_better(supervision, seed) -> None:
    triplets = draws(supervision, seed=seed)
    added = inferred(np.empty((supervision.n, 0)), triplets, 4, 4.0, np.random.default_rng(seed))
    reached = loss(added, triplets, 4.0)
    assert reached > 0
    for row in range(supervision.n):
        flipped = added.copy()
        flipped[row, -1] *= -1
        assert loss(flipped, triplets, 4.0) >= reached


@pytest.mark.parametrize("q", [0, 3])
def test_few_rows_mostly_get_the_best_bit_there_is(q) -> None:
    signs = np.array(list(itertools.product([-1, 1], repeat=8)))
    reached, best = [], []
    for seed in range(30):
        codes, triplets = instance(8, q, 30, seed)
        if seed % 2:  # of two classes that overlap
            triplets = draws(Classes(np.arange(8) % 3), 4, seed)
        added = inferred(codes, triplets, 1, 1.5, np.random.default_rng(seed))
        reached.append(loss(np.hstack([codes, added]), triplets, 1.5))
        i, j, k = triplets.T
        apart = (codes[i] != codes[j]).sum(1) - (codes[i] != codes[k]).sum(1)
        news = (signs[:, i] != signs[:, j]).astype(int) - (signs[:, i] != signs[:, k])
        best.append(np.maximum(1.5 + apart + news, 0).sum(1).min())
    assert np.isclose(reached, best).mean() > 0.7
    assert np.mean(reached) < 1.05 * np.mean(best)
    assert np.all(np.array(reached) >= np.array(best) - 1e-9)


@kinds
def test_the_loss_falls_with_every_bit(supervision) -> None:
    triplets = draws(supervision, 10)
    added = inferred(np.empty((supervision.n, 0)), triplets, 8, 4.0, np.random.default_rng(0))
    losses = np.array([loss(added[:, :b], triplets, 4.0) for b in range(9)])
    assert losses[0] == 4 * len(triplets)
    falls = np.diff(losses)
    assert np.all(falls[losses[:-1] > 0.1 * losses[0]] < 0), losses
    assert np.all(falls[:3] < -0.1 * len(triplets))
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize(("classes", "bits"), [(4, 8), (10, 16), (50, 32)])
def test_bits_tell_classes_apart(monkeypatch, classes, bits) -> None:
    monkeypatch.setattr(triplet_codes, "_BATCH", 200)  # rows of other batches have the same bits
    y = np.random.default_rng(0).integers(classes, size=400)
    rng = np.random.default_rng(0)
    codes = inferred(np.empty((400, 0)), draws(Classes(y), 20), bits, bits / 2, rng)
    products = -codes @ codes.T
    order = np.argsort(products, axis=1, kind="stable")
    D = np.take_along_axis(products, order, axis=1)
    assert mean_average_precision(order, y, y, D=D) > 0.95


def test_a_seed_decides() -> None:
    codes, triplets = instance(30, 2, 200)

    def bits(seed: int) -> np.ndarray:
        return inferred(codes, triplets, 6, 4.0, np.random.default_rng(seed))

    np.testing.assert_array_equal(bits(1), bits(1))
    assert not np.array_equal(bits(1), bits(2))
