"""Objectives: each loss by explicit loops on a handful of points, and what they refuse."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepq import _losses, objectives  # noqa: E402
from deepq._checks import FormatError, InputError  # noqa: E402

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((6, 4))
Y = np.array([0, 1, 0, 2, 1, 0])
SIMILAR = Y[:, None] == Y
ALL = np.ones((6, 6), np.bool_)
SOME = np.triu(RNG.random((6, 6)) < 0.6)
SOME = SOME | SOME.T


def call(function, z, similar, known, *more) -> float:
    tensors = torch.from_numpy(z), torch.from_numpy(similar), torch.from_numpy(known)
    return float(function(*tensors, *more))


def pairs(known):
    return [(i, j) for i in range(6) for j in range(6) if i != j and known[i, j]]


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

    got = call(_losses.pairwise_cosine, Z, SIMILAR, known)
    assert got == pytest.approx(balanced(loss, known), rel=1e-9)


@pytest.mark.parametrize("known", [ALL, SOME])
def test_pairwise_inner_product(known) -> None:
    got = call(_losses.pairwise_inner_product, Z, SIMILAR, known)
    assert got == pytest.approx(balanced(lambda i, j, s: (s - Z[i] @ Z[j] / 4) ** 2, known))


@pytest.mark.parametrize("known", [ALL, SOME])
@pytest.mark.parametrize("margin", [1.0, 8.0])
def test_contrastive(known, margin) -> None:
    losses = []
    for i, j in pairs(known):
        d2 = sum((a - b) ** 2 for a, b in zip(Z[i], Z[j], strict=True))
        losses.append(d2 if SIMILAR[i, j] else max(margin - d2, 0))
    got = call(_losses.contrastive, Z, SIMILAR, known, margin)
    assert got == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("known", [ALL, SOME])
@pytest.mark.parametrize("margin", [0.5, 6.0])
def test_triplet(known, margin) -> None:
    losses = []
    d2 = np.square(Z[:, None] - Z).sum(axis=2)
    for i, j in pairs(known):
        others = [k for k in range(6) if known[i, k] and not SIMILAR[i, k]]
        if SIMILAR[i, j] and others:
            beyond = [d2[i, k] for k in others if d2[i, k] > d2[i, j]]
            rival = min(beyond) if beyond else max(d2[i, k] for k in others)
            losses.append(max(margin + d2[i, j] - rival, 0))
    got = call(_losses.triplet, Z, SIMILAR, known, margin)
    assert got == pytest.approx(np.mean(losses))


def test_triplets_of_one_class_cost_nothing() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    same = torch.ones(4, 4, dtype=torch.bool)
    loss = _losses.triplet(z, same, same, 1.0)
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
    assert float(_losses.cross_entropy(a, b)) == pytest.approx(np.mean(soft))
    assert float(_losses.binary_cross_entropy(a, b)) == pytest.approx(np.mean(binary))


def test_quantization() -> None:
    decoded = RNG.standard_normal((6, 4))
    want = np.mean([sum((a - b) ** 2) for a, b in zip(Z, decoded, strict=True)])
    got = _losses.quantization(torch.from_numpy(Z), torch.from_numpy(decoded))
    assert float(got) == pytest.approx(want)


def test_rows_that_are_equal_have_finite_gradients() -> None:
    z = torch.zeros(4, 3, requires_grad=True)
    similar = torch.eye(4, dtype=torch.bool)
    known = torch.ones(4, 4, dtype=torch.bool)
    loss = sum(
        (
            _losses.pairwise_cosine(z, similar, known),
            _losses.contrastive(z, similar, known, 1.0),
            _losses.triplet(z, similar, known, 1.0),
        )
    )
    loss.backward()
    assert torch.isfinite(z.grad).all()


# ---- objectives ----------------------------------------------------------------------------------


def batch(several: bool = False):
    targets = torch.eye(3)[torch.from_numpy(Y)]
    return SimpleNamespace(
        similar=torch.from_numpy(SIMILAR),
        known=torch.from_numpy(ALL),
        targets=targets,
        several=several,
    )


def test_objectives_are_their_functions() -> None:
    z, b = torch.from_numpy(Z), batch()
    pair = z, b.similar, b.known
    cases = [
        (objectives.PairwiseCosine(), _losses.pairwise_cosine(*pair)),
        (objectives.InnerProduct(), _losses.pairwise_inner_product(*pair)),
        (objectives.Contrastive(), _losses.contrastive(*pair, 8.0)),
        (objectives.Contrastive(3.0), _losses.contrastive(*pair, 3.0)),
        (objectives.TripletRanking(2.0), _losses.triplet(*pair, 2.0)),
    ]
    for objective, want in cases:
        assert objective(z, b).item() == pytest.approx(want.item())


@pytest.mark.parametrize("several", [False, True])
def test_a_classifier_is_linear(several) -> None:
    objective = objectives.Classification(smoothing=0.3)
    objective.prepare(4, SimpleNamespace(classes=3))
    z, b = torch.from_numpy(Z).float(), batch(several)
    logits = z @ objective.classifier.weight.T + objective.classifier.bias
    if several:
        want = _losses.binary_cross_entropy(logits, b.targets)
    else:
        want = _losses.cross_entropy(logits, 0.7 * b.targets + 0.1)
    assert objective(z, b).item() == pytest.approx(want.item())


def test_cosine_softmax_is_that_of_cosines() -> None:
    objective = objectives.CosineSoftmax(scale=3.0, smoothing=0.0)
    objective.prepare(4, SimpleNamespace(classes=3))
    w = objective.centres.detach().numpy()
    want = []
    for row, y in zip(Z, Y, strict=True):
        cosines = [row @ v / math.sqrt((row @ row) * (v @ v)) for v in w]
        want.append(-3 * cosines[y] + math.log(sum(math.exp(3 * c) for c in cosines)))
    got = objective(torch.from_numpy(Z).float(), batch())
    assert got.item() == pytest.approx(np.mean(want), rel=1e-5)


def test_likelihood_is_that_of_the_probabilities() -> None:
    p = torch.softmax(torch.from_numpy(Z[:, :3]), dim=1)
    padded = torch.nn.functional.pad(p, (0, 2))
    want = -np.mean([math.log(p[i, y]) for i, y in enumerate(Y)])
    assert float(objectives.Likelihood(smoothing=0.0)(padded, batch())) == pytest.approx(want)


def test_objectives_are_made_of_their_state() -> None:
    for cls in objectives.OBJECTIVES.values():
        objective = cls(quantization_weight=0.25)
        state = objectives.objective_state(objective)
        again = objectives.make_objective(state)
        assert type(again) is cls
        assert again.arguments == objective.arguments
    for state in ({"type": "Nothing"}, {}, {"type": "Contrastive", "margins": 1}):
        with pytest.raises(FormatError, match="expected the state of an objective, got"):
            objectives.make_objective(state)


def test_an_objective_of_another_class_has_no_state() -> None:
    class PairwiseCosine(objectives.Objective):
        pass

    assert objectives.objective_state(PairwiseCosine()) is None


@pytest.mark.parametrize("settings", [{"quantization_weight": -1}, {"warm_up": 1.5}])
def test_settings_out_of_range(settings) -> None:
    with pytest.raises(InputError, match=r"expected \w+ from 0 to .*, got"):
        objectives.PairwiseCosine(**settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: objectives.Contrastive(-1), "expected margin from 0 to inf, got -1"),
        (lambda: objectives.TripletRanking(-1), "expected margin from 0 to inf, got -1"),
        (lambda: objectives.Classification(smoothing=2), "expected smoothing from 0 to 1, got 2"),
        (lambda: objectives.Likelihood(smoothing=2), "expected smoothing from 0 to 1, got 2"),
        (lambda: objectives.Likelihood(classes=0), "expected classes of at least 1, got 0"),
        (
            lambda: objectives.Likelihood().prepare(4, SimpleNamespace(classes=5)),
            "of at most 4 classes, got 5",
        ),
        (
            lambda: objectives.Likelihood(classes=3).prepare(4, SimpleNamespace(classes=4)),
            "of at most 3 classes, got 4",
        ),
    ],
)
def test_numbers_out_of_range(make, words) -> None:
    with pytest.raises(InputError, match=words):
        make()
