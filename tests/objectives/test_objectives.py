"""Objectives are their losses; their state; numbers out of range."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepq import objectives
from deepq._common.errors import FormatError, InputError
from deepq.objectives import losses

from .builders import ALL, SIMILAR, Y, Z


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
        (objectives.PairwiseCosine(), losses.pairwise_cosine(*pair)),
        (objectives.InnerProduct(), losses.pairwise_inner_product(*pair)),
        (objectives.Contrastive(), losses.contrastive(*pair, 8.0)),
        (objectives.Contrastive(3.0), losses.contrastive(*pair, 3.0)),
        (
            objectives.Contrastive(3.0, pull=0.3),
            losses.contrastive(*pair, 3.0) + 0.3 * losses.pull_to_signs(z),
        ),
        (
            objectives.TripletRanking(2.0),
            losses.triplet(losses.squared_distances(z), *pair[1:], 2.0),
        ),
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
        want = losses.binary_cross_entropy(logits, b.targets)
    else:
        want = losses.cross_entropy(logits, 0.7 * b.targets + 0.1)
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
        assert again.state() == objective.state()
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
        (lambda: objectives.Contrastive(pull=-1), "expected pull from 0 to inf, got -1"),
        (lambda: objectives.OrthoHash(scale=-1), "expected scale from 0 to inf, got -1"),
        (lambda: objectives.OrthoHash(margin=3), "expected margin from 0 to 2, got 3"),
        (lambda: objectives.CentralSimilarity(pull=-1), "expected pull from 0 to inf, got -1"),
        (lambda: objectives.InferredCodes(group=0), "expected group of at least 1, got 0"),
        (lambda: objectives.InferredCodes(triplets=0), "expected triplets of at least 1, got 0"),
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
