"""Recipes: the indexes they make, what they refuse, and what of them survives a file."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from torch import nn

import deepq
from deepq import networks, objectives, recipes
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.encoders import Chain, Rotation

SHAPE, CLASSES = (3, 8, 8), 3
QUICK = deepq.TrainConfig(epochs=6, batch_size=64)


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    x = rng.integers(0, 128, (n, *SHAPE))
    x[np.arange(n), y] += 60
    return x.astype(np.uint8), y


X, Y = pictures(300, 1)
XQ, YQ = pictures(30, 2)
METRIC_LEARNERS = {
    "dqn": recipes.dqn,
    "dqn_two_step": recipes.dqn_two_step,
    "dqn_ip": recipes.dqn_ip,
}
RECIPES = {
    **METRIC_LEARNERS,
    "class_codes": lambda shape, bits, **more: recipes.class_codes(shape, bits, CLASSES, **more),
}
every = pytest.mark.parametrize("name", RECIPES)


def backbone() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return networks.ConvNet(SHAPE, (8,))


def make(name: str, bits: int = 8, **options: Any) -> deepq.DeepQuantIndex:
    return RECIPES[name](
        SHAPE, bits, **{"nbits": 4, "backbone": backbone(), "training": QUICK, **options}
    )


@pytest.fixture(scope="module", params=RECIPES)
def filled(request: pytest.FixtureRequest) -> deepq.DeepQuantIndex:
    index = make(request.param)
    index.train(X, Y)
    index.add(X)
    return index


def assert_same(a: Any, b: Any) -> None:
    for ours, theirs in zip(a.search(XQ, 9), b.search(XQ, 9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---- what is made --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(("bits", "M", "nbits"), [(12, 2, 6), (24, 3, 8), (32, 4, 8), (48, 6, 8)])
def test_codes_have_the_shapes_of_the_paper(name, bits, M, nbits) -> None:
    index = make(name, bits, nbits=None)
    assert (index.pq.M, index.pq.nbits) == (M, nbits)
    assert index.code_size == -(-bits // 8)
    assert not index.is_trained
    assert index.d == 192
    assert index.pq.d % M == 0


def test_words_may_be_chosen() -> None:
    assert recipes.code_shape(32, 4) == (8, 4)
    assert recipes.code_shape(7) == (1, 7)
    assert recipes.code_shape(11) == (11, 1)
    for bits, nbits, words in ((12, 8, "divides 12 bits, got 8"), (0, None, "at least 1, got 0")):
        with pytest.raises(InputError, match=words):
            recipes.code_shape(bits, nbits)


def test_parts_are_those_of_the_paper() -> None:
    joint, steps, inner = (make(name) for name in METRIC_LEARNERS)
    assert isinstance(joint.objective, objectives.PairwiseCosine)
    assert joint.objective.quantization_weight > 0
    assert isinstance(steps.objective, objectives.PairwiseCosine)
    assert steps.objective.quantization_weight == 0
    assert isinstance(steps.encoder, Chain)
    assert isinstance(steps.encoder.members[1], Rotation)
    assert isinstance(inner.objective, objectives.InnerProduct)
    assert {i.metric_type for i in (joint, steps, inner)} == {faiss.METRIC_L2}
    by_inner_product = [make(name, metric=faiss.METRIC_INNER_PRODUCT) for name in METRIC_LEARNERS]
    assert {i.metric_type for i in by_inner_product} == {faiss.METRIC_INNER_PRODUCT}
    assert joint.encoder.d_out == 48
    assert make("dqn", width=6).encoder.d_out == 6
    assert make("dqn", quantization_weight=0.5).objective.quantization_weight == 0.5
    codes = make("class_codes")
    assert codes.metric_type == faiss.METRIC_INNER_PRODUCT
    assert codes.encoder.d_out == 4  # three classes in two words


def test_networks_that_start_from_nothing_are_classifiers_first() -> None:
    assert recipes.dqn((3, 10, 10), 8, nbits=4).objective.warm_up == 0.6
    assert make("dqn").objective.warm_up == 0
    assert make("dqn", warm_up=0.3).objective.warm_up == 0.3


@pytest.mark.parametrize(
    ("shape", "name", "cls"),
    [
        (SHAPE, None, networks.ConvNet),
        ((3, 10, 10), "resnet", networks.ResNet),
        (20, None, networks.MLP),
        ((20,), "mlp", networks.MLP),
    ],
)
def test_backbones_by_name(shape, name, cls) -> None:
    if name is None and shape == SHAPE:
        shape = (3, 10, 10)
    index = recipes.dqn(shape, 8, nbits=4, backbone=name)
    assert type(index.encoder.network.backbone) is cls
    assert index.encoder.input_shape == networks.as_shape(shape)


@every
def test_arguments_are_checked(name) -> None:
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (InputError, {"backbone": "vgg"}),
        (InputError, {"backbone": "mlp"}),
        (InputError, {"nbits": 3}),
        (InputError, {"bits": 0}),
        (KindError, {"bits": 8.5}),
        (KindError, {"training": {"epochs": 3}}),
        (InputError, {"layout": "WHC"}),
        (DimensionError, {"backbone": nn.Linear(5, 5)}),
    ]
    if name != "class_codes":
        refused += [(InputError, {"width": 7}), (InputError, {"warm_up": 2})]
    for error, options in refused:
        with pytest.raises(error, match=r"expected .*, got|must divide"):
            make(name, **options)
    with pytest.raises(InputError, match=r"expected a backbone for inputs of shape"):
        RECIPES[name](20, 8, backbone="convnet")
    with pytest.raises(TypeError, match="colour"):
        make(name, colour="red")


def test_the_seed_of_the_training_draws_the_network() -> None:
    state = torch.random.get_rng_state()

    def first(seed: int) -> torch.Tensor:
        index = recipes.dqn(12, 8, nbits=4, training=deepq.TrainConfig(seed=seed))
        return next(index.encoder.network.parameters()).detach()

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2**80))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_backbone_is_copied_and_what_it_was_prepared_with_stays() -> None:
    trained = make("dqn")
    trained.train(X, Y)
    body = trained.encoder.network.backbone
    before = copy.deepcopy(body.state_dict())
    index = make("dqn_ip", backbone=body)
    index.train(255 - X, Y)
    for name, tensor in body.state_dict().items():
        assert torch.equal(tensor, before[name])
    front = index.encoder.network.backbone.front
    assert torch.equal(front.filters.weight, before["front.filters.weight"])
    assert torch.equal(front.standardize.mean, before["front.standardize.mean"])


# ---- trained -------------------------------------------------------------------------------------


def test_trained_indexes_find_rows_of_the_class(filled) -> None:
    I = filled.search(XQ, len(X))[1]
    assert deepq.metrics.mean_average_precision(I, YQ, Y) > 0.7  # 0.33 by chance
    assert filled.history[0]["stage"] == "network"


def test_trained_indexes_go_round(filled, tmp_path) -> None:
    deepq.write_index(filled, tmp_path / "i")
    for again in (
        deepq.read_index(tmp_path / "i"),
        pickle.loads(pickle.dumps(filled)),
        copy.deepcopy(filled),
    ):
        assert_same(again, filled)
    again = deepq.read_index(tmp_path / "i")
    assert type(again.objective) is type(filled.objective)
    assert again.objective.state() == filled.objective.state()
    assert again.history == filled.history
    assert again.training == filled.training


def test_ids_around_a_trained_index(filled) -> None:
    index = copy.deepcopy(filled)
    index.reset()
    ids = np.arange(len(X)) * 7 + 100
    mapped = faiss.IndexIDMap2(index)
    rows, queries = (x.reshape(len(x), -1).astype(np.float32) for x in (X, XQ))
    mapped.add_with_ids(rows, ids)
    D, I = filled.search(XQ, len(X))
    scores = np.empty_like(D)
    np.put_along_axis(scores, I, D, axis=1)
    found, found_ids = mapped.search(queries, 9)
    np.testing.assert_allclose(found, D[:, :9], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal((found_ids - 100) % 7, 0)
    places = (found_ids - 100) // 7  # of equal scores faiss takes others
    np.testing.assert_allclose(np.take_along_axis(scores, places, 1), found, rtol=1e-4, atol=1e-5)


@every
def test_untrained_indexes_go_round(name, tmp_path) -> None:
    index = make(name)
    deepq.write_index(index, tmp_path / "i")
    want = copy.deepcopy(index)
    want.train(X, Y)
    want.add(X)
    for again in (deepq.read_index(tmp_path / "i"), pickle.loads(pickle.dumps(index))):
        assert not again.is_trained
        again.train(X, Y)
        again.add(X)
        assert_same(again, want)


def test_tags_train_class_codes() -> None:
    tags = np.eye(CLASSES, dtype=np.bool_)[Y]
    tags[:, 0] |= Y == 1
    index = make("class_codes")
    index.train(X, tags)
    index.add(X)
    I = index.search(XQ, len(X))[1]
    queries = np.eye(CLASSES, dtype=np.bool_)[YQ]
    queries[:, 0] |= YQ == 1
    assert deepq.metrics.mean_average_precision(I, queries, tags) > 0.7


def test_classes_beyond_those_of_the_network_are_refused() -> None:
    index = make("class_codes")
    with pytest.raises(InputError, match="expected labels of at most 3 classes, got 5"):
        index.train(X, np.arange(len(X)) % 5)
    assert not index.is_trained


# ---- in cells ------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(("coarse", "nlist"), [("kmeans", 6), ("imi", 64)])
def test_codes_lie_in_cells_where_these_are_asked_for(name, coarse, nlist) -> None:
    index = make(name, coarse=coarse, nlist=nlist)
    assert isinstance(index, deepq.DeepQuantIVFIndex)
    index.train(X, Y)
    index.add(X)
    index.nprobe = nlist
    assert index.quantizer.ntotal == index.nlist == nlist
    _, I = index.search(XQ, 10)
    assert (Y[I] == YQ[:, None]).mean() > 0.6
    stages = [entry["stage"] for entry in index.history]
    assert stages[-1] == "codebooks"  # of residuals, after the network
    again = make(name, coarse=coarse, nlist=nlist)
    again.train(X, Y)
    again.add(X)
    again.nprobe = nlist
    assert faiss.serialize_index(again).tobytes() == faiss.serialize_index(index).tobytes()


@pytest.mark.parametrize("options", [{"coarse": "kmeans"}, {"nlist": 6}])
def test_cells_are_named_and_numbered(options) -> None:
    with pytest.raises(InputError, match="expected both coarse and nlist"):
        make("dqn", **options)
