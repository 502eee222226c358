"""Objectives: each loss by explicit loops on a handful of points, and what they refuse."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepq import objectives  # noqa: E402
from deepq._common.errors import FormatError, InputError  # noqa: E402
from deepq.labels import class_codes, triplet_codes  # noqa: E402
from deepq.labels.class_codes import distant_codes  # noqa: E402
from deepq.labels.similarity_codes import factorized  # noqa: E402
from deepq.labels.supervision import Classes, Pairs, Positives, Tags  # noqa: E402
from deepq.objectives import losses  # noqa: E402

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
    got = call(losses.triplet, Z, SIMILAR, known, margin)
    assert got == pytest.approx(np.mean(found))


def test_triplets_of_one_class_cost_nothing() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    same = torch.ones(4, 4, dtype=torch.bool)
    loss = losses.triplet(z, same, same, 1.0)
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
            losses.triplet(z, similar, known, 1.0),
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
        (objectives.PairwiseCosine(), losses.pairwise_cosine(*pair)),
        (objectives.InnerProduct(), losses.pairwise_inner_product(*pair)),
        (objectives.Contrastive(), losses.contrastive(*pair, 8.0)),
        (objectives.Contrastive(3.0), losses.contrastive(*pair, 3.0)),
        (
            objectives.Contrastive(3.0, pull=0.3),
            losses.contrastive(*pair, 3.0) + 0.3 * losses.pull_to_signs(z),
        ),
        (objectives.TripletRanking(2.0), losses.triplet(*pair, 2.0)),
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


# ---- objectives of codes -------------------------------------------------------------------------

TAGS = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]], np.bool_)
ROWS = np.array([4, 0, 5, 2])  # of a batch
PAIRS = Pairs([0, 0, 1, 3, 2, 4], [2, 1, 4, 5, 3, 5], [1, 0, 1, 0, 0, 0])
LOG = Positives(np.zeros((2, 4)), [1, 3]).after(4)  # rows 4 and 5 are the queries


def prepared(objective: Any, d: int, supervision: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.prepare(d, supervision)
    return objective


def rows_of(supervision: Any) -> Any:
    """A batch of some rows."""
    targets = supervision.targets(ROWS)
    targets = None if targets is None else torch.from_numpy(targets)
    return SimpleNamespace(rows=torch.from_numpy(ROWS), targets=targets)


def bit_loss(z: Any, codes: Any) -> float:
    """Mean of -log sigmoid(z code) over all numbers."""
    pairs = zip(np.ravel(z), np.ravel(codes), strict=True)
    return float(np.mean([math.log(1 + math.exp(-a * b)) for a, b in pairs]))


@pytest.mark.parametrize("supervision", [Classes(Y), Tags(TAGS), PAIRS, LOG])
def test_codes_are_regressed_row_by_row(supervision) -> None:
    objective = prepared(objectives.CodeRegression(), 4, supervision, seed=3)
    torch.manual_seed(3)
    codes = factorized(supervision, 4, seed=int(torch.randint(1 << 62, (1,))))
    want = [(Z[a, b] - codes[row, b]) ** 2 for a, row in enumerate(ROWS) for b in range(4)]
    got = objective(torch.from_numpy(Z[:4]), rows_of(supervision))
    assert got.item() == pytest.approx(np.mean(want))


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


# ---- codes of classes ----------------------------------------------------------------------------


def apart(codes: Any) -> list[int]:
    """Hamming distances of all pairs of codes."""
    n = len(codes)
    return [int(sum(codes[a] != codes[b])) for a in range(n) for b in range(a)]


@pytest.mark.parametrize(("bits", "classes"), [(1, 2), (8, 3), (8, 16), (32, 10), (64, 128)])
def test_codes_are_rows_of_a_hadamard_matrix_and_their_opposites(bits, classes) -> None:
    codes = distant_codes(classes, bits, 0)
    assert codes.dtype == np.float32
    assert codes.shape == (classes, bits)
    assert set(np.unique(codes)) <= {-1, 1}
    assert set(apart(codes)) <= {bits // 2, bits}
    assert apart(codes).count(bits) == max(0, classes - bits)


@pytest.mark.parametrize(("bits", "classes"), [(12, 2), (6, 3), (12, 10), (48, 10), (4, 9)])
def test_other_codes_are_the_best_of_many_draws(bits, classes, monkeypatch) -> None:
    monkeypatch.setattr(class_codes, "_DRAWS", 30)
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, 2, (classes, bits)) * 2 - 1 for _ in range(30)]
    codes = distant_codes(classes, bits, 7)
    assert codes.dtype == np.float32
    np.testing.assert_array_equal(codes, max(draws, key=lambda codes: min(apart(codes))))
    np.testing.assert_array_equal(codes, distant_codes(classes, bits, 7))
    assert not np.array_equal(codes, distant_codes(classes, bits, 8))


@pytest.mark.parametrize(("bits", "classes"), [(12, 10), (24, 20), (48, 10), (8, 30)])
def test_codes_that_are_drawn_are_far_apart(bits, classes) -> None:
    draw = np.random.default_rng(0).integers(0, 2, (classes, bits))
    least = min(apart(distant_codes(classes, bits, 0)))
    assert least >= max(1, min(apart(draw)) + 1)
    assert len(np.unique(distant_codes(classes, bits, 0), axis=0)) == classes


def test_of_many_classes_few_codes_are_drawn(monkeypatch) -> None:
    monkeypatch.setattr(class_codes, "_MOST_PAIRS", 3 * 20**2)
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, 2, (20, 12)) * 2 - 1 for _ in range(3)]
    best = max(draws, key=lambda codes: min(apart(codes)))
    np.testing.assert_array_equal(distant_codes(20, 12, 7), best)
    assert distant_codes(40, 12, 7).shape == (40, 12)  # a draw in any case


def test_one_class_has_a_code() -> None:
    assert distant_codes(1, 6, 0).shape == (1, 6)


# ---- bits that are inferred ----------------------------------------------------------------------

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
