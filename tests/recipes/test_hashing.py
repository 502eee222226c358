"""Recipes of hashing: what they make, the labels that they take, what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from torch import nn

import deepq
from deepq import Pairs, Positives, objectives
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.encoders import Affine, Chain, Encoder, Sign
from deepq.encoders.kernel_hash import KernelHash
from deepq.encoders.network import NetworkEncoder
from deepq.quantizers import BinaryQuantizer

from .hashed import (
    CLASSES,
    RECIPES,
    SHAPE,
    XQ,
    YQ,
    D,
    X,
    Y,
    body,
    every,
    make,
    of_networks,
    quality,
    train,
)


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 128, (n, *SHAPE))
    x[np.arange(n), y] += 60
    return x.astype(np.uint8), y


OF_CLASSES = ("cnnh of classes", "orthohash", "csq")  # alone


# ---- what is made --------------------------------------------------------------------------------


@every
@pytest.mark.parametrize(("bits", "M", "nbits"), [(12, 2, 6), (16, 2, 8), (24, 3, 8)])
def test_codes_have_the_bits_that_are_asked_for(name, bits, M, nbits) -> None:
    index = make(name, bits)
    assert not index.is_trained
    assert (index.d, index.pq.M, index.pq.nbits) == (D, M, nbits)
    assert index.code_size == -(-bits // 8)
    assert index.metric_type == faiss.METRIC_L2
    assert type(index.quantizer) is BinaryQuantizer
    assert type(index.encoder.members[-1]) is Sign
    index.train(X, Y)
    assert index.is_trained
    index.add(X)
    distances, ids = index.search(XQ, len(X))
    codes, queries = (
        np.unpackbits(index.sa_encode(x), axis=1, bitorder="little")[:, :bits] for x in (X, XQ)
    )
    assert 0.05 < codes.mean() < 0.95
    hamming = (queries[:, None] != codes).sum(axis=2)
    np.testing.assert_array_equal(distances, 4 * np.take_along_axis(hamming, ids, axis=1))


@every
def test_images_are_hashed(name) -> None:
    x, y = pictures(300, 1)
    xq, yq = pictures(30, 2)
    options: dict[str, Any] = {"classes": 3} if name == "cnnh of classes" else {}
    options |= {"backbone": body(SHAPE)} if name == "ksh" else {}
    index = train(name, x, y, shape=SHAPE, bits=12, **options)
    assert index.encoder.input_shape == SHAPE
    assert quality(index, xq, yq, y) > 0.6  # 0.33 by chance
    last = make(name, 12, (8, 8, 3), **{**options, "layout": "HWC", "backbone": body(SHAPE)})
    last.train(x.transpose(0, 2, 3, 1), y)
    turned = xq.transpose(0, 2, 3, 1).reshape(30, -1)
    np.testing.assert_array_equal(last.sa_encode(turned), index.sa_encode(xq.reshape(30, -1)))


def head(index: Any) -> Any:
    return index.encoder.members[0].network.head


def test_parts_are_those_of_the_papers() -> None:
    cnnh, more = make("cnnh"), make("cnnh of classes")
    assert type(cnnh.objective) is type(more.objective) is objectives.CodeRegression
    assert (cnnh.objective.classes, more.objective.classes) == (None, CLASSES)
    assert (head(cnnh).d_out, head(more).d_out) == (16, 16 + CLASSES)
    assert head(cnnh).tanh
    taken = more.encoder.members[1].encode(np.arange(20, dtype=np.float32)[None])
    np.testing.assert_array_equal(taken, [np.arange(16)])
    dnnh, plain = make("dnnh", margin=2.5), make("dnnh undivided")
    assert type(dnnh.objective) is objectives.TripletRanking
    assert (dnnh.objective.margin, plain.objective.margin) == (2.5, 4.0)
    assert [type(head(index)).__name__ for index in (dnnh, plain)] == [
        "DivideAndEncode", "Bottleneck",
    ]  # fmt: skip
    dsh, bounded = make("dsh", margin=7, pull=0.5), make("dsh sigmoid")
    assert type(dsh.objective) is objectives.Contrastive
    assert [(i.objective.margin, i.objective.pull) for i in (dsh, bounded)] == [(7, 0.5), (None, 0)]
    assert (head(dsh).tanh, head(bounded).tanh) == (False, True)
    ftbe = make("ftbe", group=5)
    assert type(ftbe.objective) is objectives.InferredCodes
    assert ftbe.objective.group == 5
    ortho, csq = make("orthohash"), make("csq")
    assert type(ortho.objective) is objectives.OrthoHash
    assert type(csq.objective) is objectives.CentralSimilarity
    assert (head(ortho).batch_norm, head(csq).batch_norm) == (True, False)
    assert not any(head(index).tanh for index in (ftbe, ortho, csq))
    kernels: Any = make("ksh").encoder.members[0]
    assert (kernels.m, kernels.labelled, kernels.d_out) == (50, 200, 16)
    assert make("dsh", 12, nbits=3).pq.M == 4


@of_networks
def test_networks_that_start_from_nothing_are_classifiers_first(name) -> None:
    assert make(name, 4, backbone="mlp").objective.warm_up == 0.6
    assert make(name, 4, backbone=None).objective.warm_up == 0.6
    assert make(name).objective.warm_up == 0
    assert make(name, warm_up=0.3).objective.warm_up == 0.3


@pytest.mark.parametrize("name", ["cnnh of classes", "dsh", "ftbe", "orthohash", "csq"])
def test_networks_start_from_nothing(name) -> None:
    index = train(name, backbone=None)
    assert len(index.history) == 5
    assert quality(index) > 0.8


# ---- labels --------------------------------------------------------------------------------------

TAGS = np.eye(CLASSES, dtype=np.bool_)[Y] | np.eye(CLASSES, dtype=np.bool_)[(Y + 1) % CLASSES]
TAGS[::50] = False
QUERY_TAGS = np.eye(CLASSES, dtype=np.bool_)[YQ] | np.eye(CLASSES, dtype=np.bool_)[(YQ + 1) % 4]
FEW = np.random.default_rng(5).integers(len(X), size=(2, 2000))
FEW = FEW[:, FEW[0] != FEW[1]]
PAIRS = Pairs(*FEW, Y[FEW[0]] == Y[FEW[1]])
LOG = Positives(X[:200] + 0.1, (np.arange(200) * 8 + np.arange(200) % 4) % 400)


@every
def test_tags_are_learned(name) -> None:
    index = train(name, y=TAGS)
    random = TAGS[:, None] & TAGS
    assert quality(index, yq=QUERY_TAGS, y=TAGS) > random.any(axis=2).mean() + 0.1


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in OF_CLASSES])
def test_pairs_are_learned(name) -> None:
    assert quality(train(name, y=PAIRS)) > 0.7  # 0.26 by chance


@pytest.mark.parametrize("name", ["dnnh", "dnnh undivided", "dsh", "dsh sigmoid", "ftbe"])
def test_a_log_is_learned(name) -> None:
    assert quality(train(name, y=LOG, epochs=10)) > 0.5


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("labels", [PAIRS, LOG], ids=["pairs", "log"])
def test_what_tells_of_no_classes_is_refused(name, labels) -> None:
    index = make(name)
    with pytest.raises(InputError, match=r"expected labels of classes, or tags, .* got P"):
        index.train(X, labels)
    assert not index.is_trained


def test_bits_of_few_pairs_are_learned_of_the_rows_that_they_tell_of() -> None:
    few = np.random.default_rng(1).integers(len(X), size=(2, 400))
    few = few[:, few[0] != few[1]]
    assert quality(train("ftbe", y=Pairs(*few, Y[few[0]] == Y[few[1]]), epochs=8)) > 0.7


def test_classes_beyond_those_of_the_network_are_refused() -> None:
    index = make("cnnh of classes")
    with pytest.raises(InputError, match="expected labels of at most 4 classes, got 5"):
        index.train(X, np.arange(len(X)) % 5)
    assert not index.is_trained
    index.train(X, Y % 3)  # fewer are none the worse
    index.add(X)
    assert quality(index, yq=YQ % 3, y=Y % 3) > 0.7


def test_codes_go_with_the_rows_that_they_are_of() -> None:
    seen = []

    class Watching(objectives.Contrastive):
        def prepare(self, d: int, supervision: Any) -> None:
            super().prepare(d, supervision)
            self.supervision = supervision

        def forward(self, z: torch.Tensor, batch: Any) -> torch.Tensor:
            rows = batch.rows.numpy()
            np.testing.assert_array_equal(self.supervision.targets(rows), batch.targets)
            seen.extend(rows.tolist())
            return super().forward(z, batch)

    index = make("dsh", epochs=1)
    index.objective = Watching(warm_up=0.0)
    index.train(X, Y)
    assert sorted(seen) == list(range(320))  # the others are held out


def test_epochs_are_counted_after_the_classifier() -> None:
    begun = []

    class Watching(objectives.Contrastive):
        def begin_epoch(self, epoch: int, epochs: int, embeddings: Any) -> None:
            begun.append((epoch, epochs, embeddings()))

    index = make("dsh", epochs=5)
    index.objective = Watching(warm_up=0.4)
    index.train(X, Y)
    assert [call[:2] for call in begun] == [(0, 3), (1, 3), (2, 3)]
    assert {z.shape for *_, z in begun} == {(320, 16)}
    assert not np.array_equal(begun[0][2], begun[1][2])


# ---- KSH -----------------------------------------------------------------------------------------


def test_kernels_may_be_of_the_features_of_a_network() -> None:
    trained = train("dsh")
    backbone = trained.encoder.members[0].network.backbone
    before = copy.deepcopy(backbone.state_dict())
    index = train("ksh", backbone=backbone)
    inside = index.encoder.members[0].network
    for state in (backbone.state_dict(), inside.state_dict()):
        assert list(state) == list(before)
        for name, tensor in state.items():
            assert torch.equal(tensor, before[name])
    assert not inside.training
    assert make("ksh", backbone=backbone).encoder.members[0].is_fitted
    assert quality(index) > 0.9
    features = NetworkEncoder(backbone, D, fitted=True)
    of_features = train("ksh", x=features.encode(X), shape=features.d_out)
    np.testing.assert_array_equal(of_features.sa_encode(features.encode(XQ)), index.sa_encode(XQ))


def test_kernels_learn_from_labels_alone() -> None:
    index = make("ksh")
    with pytest.raises(InputError, match="expected labels for a kernel hash to learn from"):
        index.train(X)
    with pytest.raises(InputError, match="at least 50 training vectors, got 40"):
        index.train(X[:40], Y[:40])
    assert not index.is_trained


def test_a_mapped_file_of_images_is_hashed_by_kernels(tmp_path) -> None:
    x, y = pictures(300, 1)
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.uint8, "r", shape=x.shape)
    indexes = [make("ksh", shape=SHAPE, backbone=body(SHAPE)) for _ in range(2)]
    for index, rows in zip(indexes, (x, mapped), strict=True):
        index.train(rows, y)
    rows = x.reshape(300, -1)
    np.testing.assert_array_equal(indexes[0].sa_encode(rows), indexes[1].sa_encode(rows))


# ---- refusals ------------------------------------------------------------------------------------


@every
def test_arguments_are_checked(name) -> None:
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (InputError, {"bits": 0}),
        (InputError, {"bits": -8}),
        (KindError, {"bits": 8.5}),
        (InputError, {"nbits": 3}),
        (InputError, {"nbits": 16}),
        (DimensionError, {"shape": (2, 3)}),
        (InputError, {"shape": 0}),
        (DimensionError, {"backbone": nn.Linear(5, 5)}),
    ]
    if name == "ksh":
        refused += [
            (KindError, {"backbone": "convnet"}),
            (InputError, {"anchors": 0}),
            (InputError, {"labelled": 0}),
            (InputError, {"layout": "HWC"}),
            (InputError, {"shape": SHAPE}),
            (InputError, {"backbone": nn.Identity(), "layout": "WHC"}),
        ]
    else:
        refused += [
            (InputError, {"backbone": "vgg"}),
            (InputError, {"backbone": "convnet"}),
            (InputError, {"warm_up": 2}),
            (InputError, {"layout": "WHC"}),
        ]
    for error, options in refused:
        with pytest.raises(error, match=r"expected .*, got"):
            make(name, **options)
    with pytest.raises(KindError, match="expected a TrainConfig, got dict"):
        RECIPES[name](D, 16, training={"epochs": 3})
    with pytest.raises(TypeError, match="colour"):
        RECIPES[name](D, 16, backbone=body(), colour="red")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnnh", {"classes": 0}),
        ("dnnh", {"margin": -1}),
        ("dsh", {"margin": -1}),
        ("dsh", {"pull": -1}),
        ("ftbe", {"group": 0}),
    ],
)
def test_arguments_of_some_are_checked(name, options) -> None:
    with pytest.raises(InputError, match=rf"expected {next(iter(options))} .*, got"):
        make(name, **options)


def test_kernels_of_images_need_a_backbone() -> None:
    with pytest.raises(InputError, match=r"expected vectors, or a backbone, got images \(3,"):
        make("ksh", shape=SHAPE)
    with pytest.raises(InputError, match="expected a backbone for layout, mirrored, got none"):
        make("ksh", layout="HWC", mirrored=True)


class Halved(Encoder):
    """What differs from the median: a threshold that is learned behind a network."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d)
        self.medians = np.zeros(d, np.float32)

    def fit(self, x: Any, *_: Any, **__: Any) -> None:
        self.medians = np.median(x, axis=0).astype(np.float32)

    def encode(self, x: Any) -> Any:
        return x - self.medians


def test_what_stands_behind_a_network_learns_in_every_training() -> None:
    trained = make("dsh", epochs=1)
    chain = Chain([trained.encoder.members[0], Halved(16), Sign(16)])
    index = deepq.DeepQuantIndex(
        D, 2, 8, encoder=chain, quantizer=BinaryQuantizer(2), training=trained.training
    )
    for y in (Y, Y % 3):
        index.train(X, y)
        bits = np.unpackbits(index.sa_encode(X), axis=1)
        assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.05


def test_members_stand_in_order() -> None:
    def kinds(index: Any) -> list[type]:
        return [type(member) for member in index.encoder.members]

    assert kinds(make("ksh")) == [KernelHash, Sign]
    assert kinds(make("ksh", backbone=body())) == [NetworkEncoder, KernelHash, Sign]
    assert kinds(make("cnnh of classes")) == [NetworkEncoder, Affine, Sign]
    assert kinds(make("csq")) == kinds(train("csq", epochs=1)) == [NetworkEncoder, Sign]
