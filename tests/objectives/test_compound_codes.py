from __future__ import annotations

import numpy as np
import pytest
import torch

from deepq import objectives
from deepq._common.errors import DimensionError, InputError
from deepq.labels.compound_codes import compound_codes
from deepq.labels.supervision import Classes, Tags
from deepq.objectives import losses

from .builders import ALL, RNG, SIMILAR, TAGS, Y, call, prepared

F = RNG.standard_normal((6, 2 * 3))
LEVELS = F.reshape(6, 2, 3)


class Batch:
    """All rows of `Y`."""

    targets = torch.from_numpy(Classes(Y).targets(np.arange(6)))
    known = torch.from_numpy(ALL)


def value(objective) -> float:
    return float(objective(torch.from_numpy(F).float(), Batch()))


def words(codes) -> np.ndarray:
    """Codes of rows (6, levels, width) from those of classes."""
    return codes[Y].astype(float)


def means(scores) -> np.ndarray:
    return np.array([scores[c == Y].mean(axis=0) for c in range(3)])


def n_pair(similarity, same) -> float:
    found = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        positive = [j for j in others if same[i, j]]
        if positive:
            total = sum(np.exp(similarity[i, j]) for j in others)
            logs = [np.log(np.exp(similarity[i, j]) / total) for j in positive]
            found.append(-np.mean(logs))
    return float(np.mean(found))


def test_n_pair_by_hand() -> None:
    z = RNG.standard_normal((6, 4))
    want = n_pair(z @ z.T, SIMILAR)
    assert call(losses.n_pair, z @ z.T, SIMILAR, ALL) == pytest.approx(want)
    objective = objectives.NPair(0.5)
    got = float(objective(torch.from_numpy(z), _batch()))
    assert got == pytest.approx(want + 0.25 * np.square(z).sum(axis=1).mean())


def _batch():
    class Pairs:
        similar, known = torch.from_numpy(SIMILAR), torch.from_numpy(ALL)

    return Pairs


def test_rows_without_a_positive_do_not_count() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    loss = losses.n_pair(z @ z.T, torch.eye(4, dtype=torch.bool), torch.ones(4, 4).bool())
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


@pytest.mark.parametrize("codes", ["batch", "epoch"])
@pytest.mark.parametrize("sparsity", [1, 2])
def test_n_pair_of_the_words_of_either(codes, sparsity) -> None:
    objective = objectives.CompoundCodes(
        2, 3, sparsity, "npair", regularization=0.4, crowding=0.2, codes=codes
    )
    objective = prepared(objective, 6, Classes(Y))
    objective.begin_epoch(0, 1, lambda: F.astype(np.float32))
    h = words(compound_codes(means(LEVELS.astype(np.float32)), sparsity, 0.2))
    want = 0.0
    for level in range(2):
        f, own = LEVELS[:, level], h[:, level]
        similarity, same = np.zeros((6, 6)), np.zeros((6, 6), bool)
        for i in range(6):
            for j in range(6):
                either = (own[i] + own[j]) > 0
                similarity[i, j] = (f[i] * f[j])[either].sum()
                same[i, j] = (own[i] == own[j]).all()
        want += n_pair(similarity, same) + 0.2 * np.square(f).sum(axis=1).mean()
    assert value(objective) == pytest.approx(want, rel=1e-5)


def test_triplets_of_l1_distances_in_the_words_of_either() -> None:
    objective = prepared(
        objectives.CompoundCodes(2, 3, loss="triplet", margin=0.5, crowding=0.2), 6, Classes(Y)
    )
    unit = LEVELS / np.linalg.norm(LEVELS, axis=2, keepdims=True)
    objective.begin_epoch(0, 1, lambda: F.astype(np.float32))
    h = words(compound_codes(means(unit.astype(np.float32)), 1, 0.2))
    want = 0.0
    for level in range(2):
        f, own = unit[:, level], h[:, level]
        either = (own[:, None] + own) > 0
        d = (np.abs(f[:, None] - f) * either).sum(axis=2)
        same = (own[:, None] == own).all(axis=2)
        want += call(losses.triplet, d, same, ALL, 0.5)
    assert value(objective) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("sparsity", [1, 2])
def test_softmax_of_the_buckets_of_classes(sparsity) -> None:
    """Two of three classes share a bucket: together they are right for each other's rows."""
    objective = prepared(objectives.CompoundCodes(2, 3, sparsity, loss="softmax"), 6, Classes(Y))
    codes = np.array([[0, 0], [2, 1], [0, 0]])
    for c, words_of_c in enumerate(codes):
        for level, word in enumerate(words_of_c):
            objective.codes_of_classes[c, level, word] = 1
            objective.codes_of_classes[c, level, (word + 1) % 3] = float(level and sparsity == 2)
    buckets = [[0, 0], [2, 1]]
    sums = np.zeros((6, 2))
    for number, (first, second) in enumerate(buckets):
        last = [second] if sparsity == 1 else [second, (second + 1) % 3]
        sums[:, number] = LEVELS[:, 0, first] + LEVELS[:, 1, last].mean(axis=1)
    right = np.where(Y == 1, 1, 0)
    logs = sums - np.log(np.exp(sums).sum(axis=1, keepdims=True))
    want = -np.mean([logs[i, right[i]] for i in range(6)])
    assert value(objective) == pytest.approx(want, rel=1e-5)


def test_crowding_is_that_of_64_classes() -> None:
    """Of 640 classes with equal scores each word has ten times as many, at the same price."""
    y = np.repeat(np.arange(640), 2)
    objective = prepared(objectives.CompoundCodes(1, 8, loss="npair", crowding=0.5), 8, Classes(y))
    scores = np.zeros((1280, 8), np.float32)
    scores[:, 0] = 3.0  # nobody leaves the first word while it costs less than this
    objective.begin_epoch(0, 1, lambda: scores)
    sizes = objective.codes_of_classes[:, 0].sum(0)
    want = compound_codes(scores[::2, None], 1, 0.05).sum(axis=0)[0]
    np.testing.assert_array_equal(sizes, want)


def test_it_says_what_it_takes() -> None:
    with pytest.raises(DimensionError, match="2 x 3 scores, got 5"):
        prepared(objectives.CompoundCodes(2, 3), 5, Classes(Y))
    with pytest.raises(InputError, match="one class a row"):
        prepared(objectives.CompoundCodes(2, 3), 6, Tags(TAGS))
    for wrong in (
        {"sparsity": 4},
        {"loss": "cosine"},
        {"codes": "never"},
        {"rows_per_class": 1},
        {"levels": 0},
        {"margin": -1},
    ):
        with pytest.raises(ValueError, match="expected"):
            objectives.CompoundCodes(**{"levels": 2, "width": 3, **wrong})


def test_it_is_plain_data() -> None:
    objective = objectives.CompoundCodes(2, 5, 3, "triplet", crowding=1.0, codes="batch")
    state = objectives.objective_state(objective)
    assert objectives.objective_state(objectives.make_objective(state)) == state
