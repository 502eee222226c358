from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import deepq
from deepq import HashTableIndex, recipes
from deepq.quantizers import ProductQuantizer

RNG = np.random.default_rng(2)
CLASSES, D = 12, 16
CENTRES = RNG.standard_normal((CLASSES, D)) * 2
Y = np.repeat(np.arange(CLASSES), 40)
X = (CENTRES[Y] + RNG.standard_normal((len(Y), D))).astype(np.float32)
QUICK = deepq.TrainConfig(epochs=4, batch_size=48)


class Features(nn.Module):
    """A network of a user's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, 24)

    def forward(self, x):
        return self.layer(x).relu()


def index(**how) -> HashTableIndex:
    given = {"levels": 2, "width": 4, "embedding": 8, "training": QUICK, **how}
    if given.get("kept") == "codes":
        given["kept"] = ProductQuantizer(4, 4)
    return recipes.hierarchical(D, **given)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"codes": "batch"},
        {"loss": "triplet"},
        {"loss": "softmax"},
        {"levels": 1, "width": 12},
        {"sparsity": 2, "kept": "codes"},
        {"kept": "float16"},
    ],
    ids=str,
)
def test_it_learns_where_classes_are(how) -> None:
    made = index(**how)
    assert not made.is_trained
    made.train(X, Y)
    made.add(X)
    _, I = made.search(X, 5)
    hit = Y[np.maximum(I, 0)] == Y[:, None]
    assert hit[:, 1:].mean() > 0.8  # by chance 1 in 12
    assert made.candidates < 0.5
    buckets = made.bucket_ids(X)[:, 0]
    assert deepq.metrics.normalized_mutual_information(buckets, Y) > 0.6
    stages = [entry["stage"] for entry in made.history]
    assert stages.index("metric") < stages.index("buckets")
    assert stages.count("buckets") == 4


def test_labels_of_every_kind_that_make_classes() -> None:
    prints = set()
    for y in (Y, Y.astype(float), np.eye(CLASSES, dtype=bool)[Y], torch.from_numpy(Y)):
        made = index()
        made.train(X, y)
        prints.add(made.fingerprint)
    assert len(prints) == 1
    made = index()
    made.train(X, np.char.add("class ", Y.astype(str)))
    assert made.is_trained


def test_one_seed_makes_one_table() -> None:
    prints = set()
    for seed in (1, 1, 2):
        made = index(training=deepq.TrainConfig(epochs=2, batch_size=48, seed=seed))
        made.train(X, Y)
        prints.add(made.fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, None, "expected labels y"),
        (X, Y[:-1], "480 labels"),
        (X, np.zeros(len(X), int), "at least 2 classes"),
        (X, np.arange(len(X)), "at least 2 rows"),
        (X, np.ones((len(X), 2), bool), "one class a row"),
        (X, deepq.Pairs([0], [1]), "one class a row"),
        (X[:, :3], Y, "16"),
        (np.where(np.arange(D) == 2, np.inf, X), Y, "NaN or infinity"),
        (lambda: iter([X]), Y, "array"),
    ],
)
def test_what_it_cannot_learn_from(x, y, message) -> None:
    made = index()
    with pytest.raises((ValueError, TypeError), match=message):
        made.train(x, y)
    assert not made.is_trained


def test_a_class_of_one_row_is_left_out() -> None:
    y = Y.copy()
    y[0] = 99
    made = index()
    made.train(X, y)
    assert made.is_trained


def test_a_table_with_rows_is_not_trained_again() -> None:
    made = index()
    made.train(X, Y)
    made.add(X[:5])
    before = made.fingerprint
    with pytest.raises(deepq.StateError, match=r"reset\(\)"):
        made.train(X, Y)
    made.reset()
    made.train(X, Y)  # it goes on from where it is
    assert made.fingerprint != before


def test_a_missing_solver_is_named_and_nothing_changes(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ortools.graph.python.min_cost_flow", None)
    made = index()
    with pytest.raises(ImportError, match="OR-Tools"):
        made.train(X, Y)
    assert not made.is_trained


def test_a_checkpoint_is_gone_on_from(tmp_path, monkeypatch) -> None:
    from deepq.training.network import NetworkTraining

    whole = index()
    whole.train(X, Y)
    close, done = NetworkTraining._close, []

    def interrupted(self, *loss) -> None:
        close(self, *loss)
        done.append(self.epoch)
        if len(done) == 6:  # the second of the second network
            self._keep()
            raise RuntimeError("killed")

    path = tmp_path / "training"
    config = deepq.TrainConfig(epochs=4, batch_size=48, checkpoint=path)
    made = index(training=config)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkTraining, "_close", interrupted)
        with pytest.raises(RuntimeError, match="killed"):
            made.train(X, Y)
    assert not made.is_trained
    assert path.exists()
    assert path.with_name("training.hasher").exists()
    made.train(X, Y)
    assert made.fingerprint == whole.fingerprint


@pytest.mark.parametrize("network", [1, 2])
def test_ctrl_c(network, monkeypatch) -> None:
    from deepq.training.network import NetworkTraining

    close, done = NetworkTraining._close, []

    def interrupted(self, *loss) -> None:
        close(self, *loss)
        done.append(self.epoch)
        if len(done) == (2 if network == 1 else 6):
            raise KeyboardInterrupt

    monkeypatch.setattr(NetworkTraining, "_close", interrupted)
    made = index()
    with pytest.raises(KeyboardInterrupt):
        made.train(X, Y)
    assert made.is_trained == (network == 2)


def test_time_is_for_both() -> None:
    made = index(training=deepq.TrainConfig(epochs=100_000, batch_size=48, max_seconds=2.0))
    made.train(X, Y)
    assert {"metric"} <= {entry["stage"] for entry in made.history}
    assert made.is_trained


def test_a_network_of_a_users_own(tmp_path) -> None:
    made = index(backbone=Features())
    made.train(X, Y)
    made.add(X)
    path = tmp_path / "own.dpq"
    deepq.write_index(made, path)
    with pytest.raises(deepq.FormatError, match="hand the network back"):
        deepq.read_index(path)
    back = deepq.read_index(path, (made.embedder, made.hasher))
    np.testing.assert_array_equal(back.search(X[:9], 3)[1], made.search(X[:9], 3)[1])


def test_images_are_taken_as_they_are() -> None:
    images = RNG.integers(0, 256, (40, 3, 12, 12), dtype=np.uint8)
    images[20:] //= 4
    y = np.repeat([0, 1], 20)
    made = recipes.hierarchical(
        (3, 12, 12),
        levels=1,
        width=4,
        embedding=8,
        training=deepq.TrainConfig(epochs=1, batch_size=16),
    )
    made.train(images, y)
    made.add(images)
    assert made.search(images[:3], 2)[1].shape == (3, 2)
    assert made.bucket_ids(images.reshape(40, -1)).shape == (40, 1)


@pytest.mark.parametrize(
    "wrong", [{"loss": "cosine"}, {"codes": "never"}, {"width": 0}, {"sparsity": 9}]
)
def test_recipes_refuse(wrong) -> None:
    with pytest.raises(ValueError, match="expected"):
        index(**wrong)
