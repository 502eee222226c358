"""Codes from similarities: every quantity by explicit loops, codes beside the best there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from deepq._common.errors import InputError, KindError
from deepq.labels import similarity_codes
from deepq.labels.similarity_codes import factorized
from deepq.labels.supervision import Classes, Pairs, Supervision, Tags
from deepq.metrics import mean_average_precision


class Full(Supervision):
    """A matrix of similarities, all known."""

    def __init__(self, similar) -> None:
        self.matrix, self.n = similar, len(similar)

    def similar(self, rows):
        block = self.matrix[np.ix_(rows, rows)]
        return block, np.ones_like(block)


def some_pairs(n, p, seed=0) -> Pairs:
    rng = np.random.default_rng(seed)
    i = rng.integers(n, size=p)
    j = (i + rng.integers(1, n, size=p)) % n
    return Pairs(np.append(i, n - 1), np.append(j, 0), rng.random(p + 1) < 0.4)


def some_tags(n, seed=0) -> Tags:
    y = np.random.default_rng(seed).random((n, 4)) < 0.3
    y[0] = False
    return Tags(y)


def some_matrix(n, seed=0) -> Full:
    upper = np.triu(np.random.default_rng(seed).random((n, n)) < 0.4)
    return Full(upper | upper.T)


KINDS = [
    Classes(np.random.default_rng(0).integers(3, size=12)),
    some_tags(12),
    some_matrix(12),
    some_pairs(12, 25),
]
kinds = pytest.mark.parametrize("supervision", KINDS, ids=lambda s: type(s).__name__)


def weighed(supervision):
    """S and the weights of its pairs, (n, n); a row is similar to itself."""
    similar, known = supervision.similar(np.arange(supervision.n))
    same = np.eye(supervision.n, dtype=np.bool_)
    return np.where(similar | same, 1.0, -1.0), (known | same).astype(float)


def loss(H, supervision) -> float:
    S, weights = weighed(supervision)
    n, q = H.shape
    return sum(
        weights[i, j] * (S[i, j] - sum(H[i] * H[j]) / q) ** 2 for i in range(n) for j in range(n)
    )


def start(n, q, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, q))


# ---- a row and the others ------------------------------------------------------------------------


@kinds
def test_the_loss_is_that_of_all_pairs(supervision) -> None:
    H, others = start(12, 5), similarity_codes._others(supervision)
    others.begin(H)
    assert others.loss(H) == pytest.approx(loss(H, supervision), rel=1e-12)
    assert others.known == weighed(supervision)[1].sum()


@kinds
def test_a_row_knows_the_gram_matrix_and_the_sum_of_the_others(supervision) -> None:
    H, others = start(12, 5), similarity_codes._others(supervision)
    S, weights = weighed(supervision)
    others.begin(H)
    for i in range(12):
        rest = [k for k in range(12) if k != i and weights[i, k]]
        others.move(i, H[i], -1)
        gram, pull = others.of(i, H)
        np.testing.assert_allclose(gram, sum(np.outer(H[k], H[k]) for k in rest), atol=1e-12)
        np.testing.assert_allclose(pull, sum(S[i, k] * H[k] for k in rest), atol=1e-12)
        others.move(i, H[i], 1)


def newton(H, i, supervision):
    """Row i after Newton steps along each of its numbers, the loss as a polynomial of a step."""
    H, points = H.copy(), np.linspace(-1, 1, 9)
    for j in range(H.shape[1]):
        ahead = np.zeros_like(H)
        ahead[i, j] = 1
        values = [loss(H + d * ahead, supervision) for d in points]
        along = np.polynomial.Polynomial.fit(points, values, 4).convert()
        slope, bend = along.deriv(1)(0), along.deriv(2)(0)
        d = -slope / bend if bend > 0 else -2 * np.sign(slope)
        d = np.clip(d, -1 - H[i, j], 1 - H[i, j])
        if along(d) < along(0):
            H[i, j] += d
    return H[i]


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_steps_are_newton_steps_of_the_loss(supervision, seed) -> None:
    H, others = start(12, 3, seed), similarity_codes._others(supervision)
    others.begin(H)
    for i in range(12):
        others.move(i, H[i], -1)
        moved = similarity_codes._row(H[i], *others.of(i, H), flip=False)
        np.testing.assert_allclose(moved, newton(H, i, supervision), atol=1e-9)
        others.move(i, H[i], 1)


# ---- codes ---------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("q", [1, 4, 16])
def test_the_loss_falls_sweep_by_sweep(supervision, q) -> None:
    entries = []
    codes = factorized(supervision, q, sweeps=6, progress=entries.append)
    H = start(12, q, seed=1234)
    others = similarity_codes._others(supervision)
    losses = [loss(H, supervision)]
    others.begin(H)
    rng = np.random.default_rng(0)
    for _ in range(6):
        similarity_codes._sweep(H, others, rng, flip=False)
        losses.append(loss(H, supervision))
        assert others.loss(H) == pytest.approx(losses[-1])
    assert np.all(np.diff(losses) <= 1e-9)
    assert losses[3] < losses[0]
    assert np.abs(H).max() <= 1
    assert [entry["iteration"] for entry in entries] == list(range(len(entries)))
    last = loss(codes, supervision) / others.known
    assert entries[-1]["error"] == pytest.approx(last, rel=1e-9)


@kinds
def test_no_bit_can_flip_for_the_better(supervision) -> None:
    codes = factorized(supervision, 6, sweeps=50)
    assert codes.dtype == np.float32
    assert set(np.unique(codes)) == {-1, 1}
    reached = loss(codes, supervision)
    for i, j in np.ndindex(codes.shape):
        flipped = codes.copy()
        flipped[i, j] *= -1
        assert loss(flipped, supervision) > reached - 1e-9


@pytest.mark.parametrize(("n", "q"), [(4, 1), (6, 1), (4, 2), (5, 2)])
def test_few_rows_mostly_get_the_best_codes_there_are(n, q) -> None:
    signs = np.array(list(itertools.product([-1, 1], repeat=n * q))).reshape(-1, n, q)
    products = signs @ signs.transpose(0, 2, 1) / q
    reached, best = [], []
    for seed in range(24):
        y = np.random.default_rng(seed).integers(3, size=n)
        supervision = [Classes(y), some_matrix(n, seed), some_pairs(n, 2 * n, seed)][seed % 3]
        S, weights = weighed(supervision)
        best.append((weights * np.square(S - products)).sum(axis=(1, 2)).min())
        reached.append(loss(factorized(supervision, q, seed=seed), supervision))
    assert np.isclose(reached, best).mean() > 0.85
    assert np.mean(reached) < 1.1 * np.mean(best)


def test_classes_and_their_matrix_give_the_same_codes() -> None:
    y = np.random.default_rng(0).integers(7, size=100)
    codes = factorized(Classes(y), 12, seed=5)
    np.testing.assert_array_equal(codes, factorized(Full(y[:, None] == y), 12, seed=5))


def test_tags_and_their_matrix_give_the_same_codes() -> None:
    tags = some_tags(60)
    codes = factorized(tags, 12, seed=5)
    np.testing.assert_array_equal(
        codes, factorized(Full(tags.similar(np.arange(60))[0]), 12, seed=5)
    )


@pytest.mark.parametrize(("classes", "bits"), [(10, 12), (100, 24)])
def test_codes_tell_classes_apart(classes, bits) -> None:
    y = np.random.default_rng(0).integers(classes, size=500)
    codes = factorized(Classes(y), bits)
    distances = -codes @ codes.T
    order = np.argsort(distances, axis=1, kind="stable")
    D = np.take_along_axis(distances, order, axis=1)
    assert mean_average_precision(order, y, y, D=D) > 0.95


def test_what_is_not_known_does_not_count(monkeypatch) -> None:
    pairs = some_pairs(30, 100)
    codes = factorized(pairs, 8)
    similar, known = pairs.similar(np.arange(30))
    monkeypatch.setattr(pairs, "similar", lambda _: (similar ^ ~known, known))
    np.testing.assert_array_equal(codes, factorized(pairs, 8))
    agree = (codes @ codes.T)[known & ~np.eye(30, dtype=np.bool_)]
    signs = np.where(similar, 1, -1)[known & ~np.eye(30, dtype=np.bool_)]
    assert (agree * signs > 0).mean() > 0.9


def test_seed_decides_the_codes() -> None:
    a, b, c = (factorized(KINDS[0], 8, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_no_sweeps_are_random_signs() -> None:
    H = start(12, 8, seed=3)
    np.testing.assert_array_equal(factorized(KINDS[0], 8, sweeps=0, seed=3), np.sign(H))


def test_one_row_will_do() -> None:
    assert factorized(Tags(np.array([[True, False]])), 5).shape == (1, 5)


def test_refusals(monkeypatch) -> None:
    with pytest.raises(InputError, match="bits of at least 1, got 0"):
        factorized(KINDS[0], 0)
    with pytest.raises(InputError, match="sweeps of at least 0, got -1"):
        factorized(KINDS[0], 8, sweeps=-1)
    with pytest.raises(KindError, match="bits to be an integer"):
        factorized(KINDS[0], 8.5)
    monkeypatch.setattr(similarity_codes, "_MOST_ROWS", 11)
    with pytest.raises(InputError, match="at most 11 rows without classes, got 12"):
        factorized(KINDS[2], 8)
    factorized(KINDS[1], 8)
