"""Training with labels: what reaches the network, and what comes of it."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np
import pytest
import torch

import deepq
from deepq import NetworkEncoder, Pairs, Positives, objectives
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.encoders import Affine, Chain, Normalize, Rotation
from deepq.labels.supervision import as_supervision
from deepq.objectives import losses
from deepq.training import network as training

from .classes import (
    CLASSES,
    IMAGES,
    KINDS,
    LABELS,
    NBITS,
    TAGS,
    XQ,
    YQ,
    D,
    M,
    X,
    Y,
    assert_same,
    convnet,
    epochs,
    network,
    quality,
    settings,
    train,
    untrained,
    weights,
)

# ---- what it gives -------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", LABELS)
def test_every_kind_of_labels_beats_no_labels(labels) -> None:
    index = train(y=LABELS[labels], epochs=8)
    plain = deepq.DeepQuantIndex(D, M, NBITS, training=settings())
    plain.train(X)
    if labels == "tags":
        y = TAGS
        yq = (
            np.eye(CLASSES, dtype=np.bool_)[YQ]
            | np.eye(CLASSES, dtype=np.bool_)[(YQ * 7 + 1) % CLASSES]
        )
        assert quality(index, y=y, yq=yq) > quality(plain, y=y, yq=yq)
        return
    assert quality(index) > quality(plain) + 0.03
    assert quality(index) > 0.5  # 0.25 by chance


@pytest.mark.parametrize(
    "objective",
    [
        objectives.PairwiseCosine(warm_up=0.0),
        objectives.InnerProduct(warm_up=0.0),
        objectives.Contrastive(warm_up=0.0),
        objectives.TripletRanking(warm_up=0.0),
        objectives.Classification(0.05),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_every_objective_beats_chance_by_itself(objective) -> None:
    index = train(objective=objective, epochs=8)
    assert quality(index) > 0.5


def test_lambda_draws_embeddings_to_codewords() -> None:
    def error(weight: float) -> tuple[float, float]:
        index = train(objective=objectives.PairwiseCosine(weight, warm_up=0.0), epochs=10)
        z, quantizer = index.encoder.encode(XQ), index.quantizer
        distance = np.square(z - quantizer.gather(quantizer.assign(z))).sum(1).mean()
        return float(distance), float(distance / z.var(axis=0).sum())

    free, little, much = error(0.0), error(0.1), error(0.5)
    assert much[0] < 0.7 * little[0] < 0.7 * free[0]
    assert little[1] < free[1]  # not because embeddings are shorter alone


def test_codebooks_follow_the_network(monkeypatch) -> None:
    seen = []
    real = training.NetworkTraining._refresh

    def refresh(self: Any) -> Any:
        words = real(self)
        seen.append(self.quantizer.codebooks.copy())
        return words

    monkeypatch.setattr(training.NetworkTraining, "_refresh", refresh)
    train()
    assert len(seen) == 2  # of 4 epochs two are of the classifier
    assert not np.array_equal(*seen)
    seen.clear()
    train(objective=objectives.PairwiseCosine(0.0))
    assert not seen


@pytest.mark.parametrize("part", ["objective", "quantization"])
def test_gradients_of_both_parts_reach_the_first_layer(part) -> None:
    index = train(objective=objectives.PairwiseCosine(0.1, warm_up=0.0), epochs=1)
    encoder: Any = index.encoder
    rows = np.arange(64)
    encoder.network.train()
    z = encoder.network(encoder.images(torch.from_numpy(X[rows])))
    if part == "objective":
        similar, known = map(torch.from_numpy, as_supervision(Y, len(Y)).similar(rows))
        loss = losses.pairwise_cosine(z, similar, known)
    else:
        words = index.quantizer.gather(index.quantizer.assign(z.detach().numpy()))
        loss = losses.quantization(z, torch.from_numpy(words))
    loss.backward()
    first = next(p for p in encoder.network.parameters() if p.requires_grad)
    assert first.grad is not None
    assert float(first.grad.abs().min(dim=1).values.max()) > 0


def test_parts_before_and_after_the_network_stay() -> None:
    encoder = Chain([Affine(np.eye(D) * 2), NetworkEncoder(network(), D), Rotation(8)])
    index = train(encoder=encoder)
    assert [type(m).__name__ for m in index.encoder.members] == [
        "Affine", "NetworkEncoder", "Rotation",
    ]  # fmt: skip
    assert index.encoder.is_fitted
    assert quality(index) > 0.5
    cosine = train(metric="cosine")
    assert isinstance(cosine.encoder.members[-1], Normalize)
    assert quality(cosine) > 0.5


# ---- repeatable, and without traces --------------------------------------------------------------


@pytest.mark.parametrize("labels", LABELS)
def test_a_seed_decides_to_the_bit(labels) -> None:
    first = train(y=LABELS[labels], seed=5, epochs=2)
    again = train(y=LABELS[labels], seed=5, epochs=2)
    assert_same(first, again)
    assert first.history == again.history
    other = train(y=LABELS[labels], seed=2**70, epochs=2)
    assert not np.array_equal(first.codebooks, other.codebooks)


def test_global_state_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    index = train(x=IMAGES.reshape(300, -1), y=KINDS, encoder=convnet().encoder, epochs=2)
    after = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert not index.encoder.network.training


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_taken_whatever_the_mode(mode) -> None:
    index = untrained(epochs=2)
    with mode():
        made_inside = untrained(epochs=2)
        index.train(X, Y)
        made_inside.train(X, Y)
        assert not torch.is_grad_enabled()
    assert_same(index, train(epochs=2))
    assert_same(made_inside, index)
    index.reset()
    index.train(X, Y)


def test_the_users_parts_are_left_alone() -> None:
    given, objective = network(), objectives.Classification()
    before = copy.deepcopy(given.state_dict())
    index = untrained(encoder=NetworkEncoder(given, D), objective=objective)
    x, y = X.copy(), Y.copy()
    index.train(x, y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert not hasattr(objective, "classifier")
    for name, tensor in given.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_images_are_changed_in_training_only(monkeypatch) -> None:
    calls = []
    real = training.augmented
    monkeypatch.setattr(training, "augmented", lambda *args: calls.append(1) or real(*args))
    index = convnet(epochs=2, objective=objectives.PairwiseCosine(0.1, warm_up=0.0))
    index.train(IMAGES, KINDS)
    steps = len(calls)
    assert steps == 2 * round(240 / 64)
    index.add(IMAGES)
    index.search(IMAGES[:3], 2)
    assert len(calls) == steps
    plain = convnet(epochs=2, augment=False)
    plain.train(IMAGES, KINDS)
    assert len(calls) == steps


def test_any_shape_of_image_can_be_changed() -> None:
    images = torch.rand(5, 1, 40, 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        changed, targets = training.augmented(images, torch.eye(5), True, generator)
        assert changed.shape == images.shape
        assert targets is not None
        torch.testing.assert_close(targets.sum(1), torch.ones(5))


def test_a_decoder_may_follow() -> None:
    index = untrained(epochs=2)
    index.rerank = 5
    with torch.no_grad():
        index.train(X, Y)
    assert index.history[-1]["stage"] in ("decoder, judged", "codebooks")
    assert quality(index) > 0.4


def test_a_trained_index_is_trained_on() -> None:
    index = train(epochs=2)
    once = copy.deepcopy(weights(index))
    index.train(X, Y)
    assert not torch.equal(once["head.fcb.weight"], weights(index)["head.fcb.weight"])
    name = "backbone.standardize.mean"
    assert torch.equal(once[name], weights(index)[name])


def test_queries_may_be_images() -> None:
    log = Positives(IMAGES[:60], np.arange(60))
    index = convnet(epochs=2)
    index.train(IMAGES, log)
    mixed = convnet(epochs=2)
    mixed.train(IMAGES, Positives(IMAGES[:60].astype(np.float32), np.arange(60)))
    assert_same(index, mixed)


def test_half_precision_learns_too() -> None:
    assert quality(train(precision="bfloat16", epochs=8)) > 0.5


# ---- where rows come from ------------------------------------------------------------------------


class Items(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(IMAGES[i]), int(KINDS[i])


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(zip(IMAGES, KINDS, strict=True))


@pytest.mark.parametrize(
    "source", [Items, Stream, lambda: torch.utils.data.DataLoader(Items(), batch_size=50)]
)
def test_torch_data_is_as_good_as_arrays(source) -> None:
    want = convnet(epochs=2)
    want.train(IMAGES, KINDS)
    index = convnet(epochs=2)
    state = torch.random.get_rng_state()
    index.train(source())
    assert torch.equal(state, torch.random.get_rng_state())
    assert_same(index, want)


def test_a_mapped_file_is_read_in_parts(tmp_path, monkeypatch) -> None:
    most = []
    real = training.Inputs.take
    monkeypatch.setattr("deepq.training.rows._READ_ROWS", 50)
    monkeypatch.setattr(
        training.Inputs, "take", lambda self, rows: most.append(len(rows)) or real(self, rows)
    )
    IMAGES.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.uint8, "r", shape=IMAGES.shape)
    want, index = convnet(epochs=2), convnet(epochs=2)
    want.train(IMAGES, KINDS)
    most.clear()
    index.train(mapped, KINDS)
    assert_same(index, want)
    assert max(most[2:]) <= 64  # before: samples for the range, and to prepare the network with


def test_a_mapped_file_is_checked(tmp_path) -> None:
    x = X.copy()
    x[77, 3] = np.nan
    x.tofile(tmp_path / "x")
    index = untrained()
    with pytest.raises(InputError, match=r"expected finite numbers in training vectors, got NaN"):
        index.train(np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape), Y)
    assert not index.is_trained


def test_tensors_are_arrays() -> None:
    index = untrained(epochs=2)
    index.train(torch.from_numpy(X), torch.from_numpy(Y))
    assert_same(index, train(epochs=2))


def test_a_sample_of_queries_and_polysemous_codes_go_with_labels() -> None:
    index = untrained(epochs=2)
    index.do_polysemous_training = True
    index.train(X, Y, xq_train=XQ)
    assert index.is_trained
    np.testing.assert_array_equal(
        weights(index)["head.fcb.weight"], weights(train(epochs=2))["head.fcb.weight"]
    )


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(20, 512), (65, 64), (100, 2), (97, 33)])
def test_batches_are_never_of_one_row(n, size, monkeypatch) -> None:
    sizes = []
    real = training.NetworkTraining._step
    monkeypatch.setattr(
        training.NetworkTraining, "_step",
        lambda self, rows, *rest: sizes.append(len(rows)) or real(self, rows, *rest),
    )  # fmt: skip
    train(X[:n], Y[:n], batch_size=size, epochs=1)
    assert min(sizes) >= 2


def test_classes_may_be_rare_and_tags_missing() -> None:
    y = Y.copy()
    y[:3] = [100, 200, -7]
    assert train(y=y).is_trained
    tags = TAGS.copy()
    tags[:500] = False
    assert np.isfinite([entry["mAP"] for entry in epochs(train(y=tags))]).all()


@pytest.mark.parametrize("objective", [objectives.Classification(), objectives.Likelihood()])
def test_an_objective_that_needs_classes_is_refused_without(objective) -> None:
    index = untrained(objective=objective)
    with pytest.raises(InputError, match=r"expected labels of classes, .*, got Pairs"):
        index.train(X, LABELS["pairs"])
    assert not index.is_trained


def test_labels_of_too_many_classes_are_refused() -> None:
    index = untrained(objective=objectives.Likelihood(classes=3))
    with pytest.raises(InputError, match="expected labels of at most 3 classes, got 4"):
        index.train(X, Y)


REFUSED: dict[str, Any] = {
    "too few labels": (X, Y[:-1], DimensionError),
    "one class": (X, np.zeros(len(X), int), InputError),
    "objects": (X, np.array([object()] * len(X)), KindError),
    "pairs of other rows": (X, Pairs([0], [600]), InputError),
    "queries of another length": (X, Positives(np.zeros((2, 5)), [0, 1]), DimensionError),
    "NaN in queries": (X, Positives(np.full((2, D), np.nan), [0, 1]), InputError),
    "a stream": (lambda: iter([X]), Y, KindError),
    "few rows": (X[:10], Y[:10], InputError),
    "labels twice": (torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), Y,
                     InputError),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_leave_the_index_unchanged(name) -> None:
    x, y, error = REFUSED[name]
    fresh, filled = untrained(), train(epochs=1)
    before = faiss.serialize_index(filled)
    for index in (fresh, filled):
        with pytest.raises(error, match=r"expected .*, got"):
            index.train(x, y)
    assert not fresh.is_trained
    np.testing.assert_array_equal(faiss.serialize_index(filled), before)


def test_an_index_without_a_network_has_nothing_to_train_with_labels() -> None:
    index = deepq.DeepQuantIndex(D, M, NBITS)
    with pytest.raises(InputError, match=r"expected an index with one network .* got 0"):
        index.train(X, Y)
    frozen = network().requires_grad_(False)
    index = untrained(encoder=NetworkEncoder(frozen, D))
    with pytest.raises(InputError, match="expected a network with parameters to train, got none"):
        index.train(X, Y)
    with pytest.raises(InputError, match="expected a batch_size of at least 2"):
        untrained(batch_size=1).train(X, Y)


class Diverging(objectives.Objective):
    """Is not a number from the n-th step on."""

    def __init__(self, steps: int) -> None:
        super().__init__(0.0, warm_up=0.0)
        self.steps = steps

    def forward(self, z: torch.Tensor, batch: Any) -> torch.Tensor:  # noqa: ARG002
        self.steps -= 1
        return z.square().sum() * (torch.nan if self.steps < 0 else 1)


@pytest.mark.parametrize("steps", [0, 20])
def test_a_loss_that_is_no_number_ends_the_training(steps) -> None:
    index = untrained(objective=Diverging(steps))
    before = copy.deepcopy(weights(index))
    with pytest.raises(InputError, match=r"expected a finite loss .* got nan in epoch \d"):
        index.train(X, Y)
    assert not index.is_trained
    assert index.history == []
    for name, tensor in weights(index).items():
        assert torch.equal(tensor, before[name])


# ---- copies, and objectives of one's own ---------------------------------------------------------


def test_copies_keep_an_objective_of_a_foreign_class_and_files_do_not(tmp_path, caplog) -> None:
    index = untrained(objective=Diverging(10**6), epochs=1)
    index.train(X, Y)
    assert copy.deepcopy(index).objective.steps == 10**6
    deepq.write_index(index, tmp_path / "i")
    assert "the objective is of a class of your own, Diverging" in caplog.text
    assert deepq.read_index(tmp_path / "i").objective is None


def test_codebooks_know_changed_images() -> None:
    learned = []

    class Seen(objectives.PairwiseCosine):
        pass

    def rows(**options: Any) -> int:
        learned.clear()
        index = convnet(objective=Seen(), epochs=1, **options)
        with pytest.MonkeyPatch.context() as patch:
            train = deepq.quantizers.ProductQuantizer.train
            patch.setattr(
                deepq.quantizers.ProductQuantizer,
                "train",
                lambda self, z, **more: learned.append(z.copy()) or train(self, z, **more),
            )
            index.train(IMAGES, KINDS)
        own = index.encoder.encode(IMAGES.reshape(300, -1))
        np.testing.assert_allclose(learned[-1][:300], own, rtol=1e-5, atol=1e-6)
        return len(learned[-1])

    assert rows(augment=False) == 300
    assert rows() == 4 * 300
    changed = learned[-1][300:]
    assert not (changed[:, None] == learned[-1][:300]).all(axis=2).any()
