"""Backbones: shapes and numbers, and AlexNet with weights of torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepq import networks
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq.networks import (
    MLP,
    AlexNet,
    Bottleneck,
    ConvNet,
    DivideAndEncode,
    Embedding,
    Probabilities,
    ResNet,
    Standardize,
)

from .builders import IMAGE, MAKE, inputs, pixels


def test_as_shape():
    assert networks.as_shape(7) == (7,)
    assert networks.as_shape([np.int64(7)]) == (7,)
    assert networks.as_shape((3, 4, 5)) == (3, 4, 5)
    for wrong in ((), (2, 3), (1, 2, 3, 4)):
        with pytest.raises(DimensionError, match="of 3 numbers"):
            networks.as_shape(wrong)
    for wrong in (0, (3, 0, 2), (1 << 13, 1 << 13, 1), 1 << 60):
        with pytest.raises(InputError, match=r"at (least|most)"):
            networks.as_shape(wrong)
    for wrong in (None, 1.5, "ab"):
        with pytest.raises(KindError):
            networks.as_shape(wrong)


def test_every_network_learns_and_forgets_nothing_in_evaluation(name):
    network, x = MAKE[name](), inputs(name)
    if hasattr(network, "prepare"):
        network.prepare(x)
    z = network.train()(x)
    assert z.shape[0] == 6
    assert z.shape[1] == getattr(network, "d_out", z.shape[1])
    z.square().sum().backward() if z.requires_grad else None
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    network.eval()
    before = networks.weights_of(network)
    torch.testing.assert_close(network(x)[:2], network(x[:2]), rtol=1e-4, atol=1e-5)
    for key, value in networks.weights_of(network).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("shape", [(5,), (3, 4, 6)])
def test_standardize(shape):
    layer, x = Standardize(shape[0]), pixels(50, shape)
    x[:, 0] = 7  # no deviation
    torch.testing.assert_close(layer(x), x)
    layer.prepare(x)
    z = layer(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(shape[0]), atol=1e-4, rtol=0)
    if len(shape) == 3:
        torch.testing.assert_close(z[1:].std(1, correction=0), torch.ones(shape[0] - 1))
    else:
        assert z.var(1, correction=0).mean().item() == pytest.approx(1)
    assert not z[0].any()


def test_whitening_makes_patches_independent():
    network = ConvNet((3, 9, 9), (4,))
    x = pixels(200, (3, 9, 9)).cumsum(3)  # neighbours are alike
    network.prepare(x)
    front = network.front
    z = front.filters(front.standardize(x)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z[:12], -z[12:], rtol=1e-4, atol=1e-4)
    correlations = z[:12].double().cov()
    expected = correlations.diagonal()
    torch.testing.assert_close(correlations, expected.diag(), rtol=0, atol=1e-3)
    assert (expected < 1.001).all()
    assert (expected > 0.5).all()
    assert not front.filters.weight.requires_grad


def test_depth_of_residual_networks():
    for depth, blocks in ((8, 3), (14, 6), (20, 9)):
        network = ResNet(IMAGE, depth, (4, 4, 8))
        layers = [m for m in network.groups.modules() if isinstance(m, nn.Conv2d)]
        assert sum(m.kernel_size == (3, 3) for m in layers) == depth - 1  # and a head behind them
        assert sum(type(m).__name__ == "_Residual" for m in network.modules()) == blocks
    for wrong in (2, 9, 1208, 0):
        with pytest.raises(InputError, match="depth"):
            ResNet(IMAGE, wrong)
    assert ResNet(IMAGE, 10, (4, 4)).d_out == 4


def test_a_residual_block_adds():
    network = ResNet(IMAGE, 8, (4, 4, 4)).eval()
    block = network.groups[4]
    x = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(block(x), (block.body(x) + x).relu())


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: MLP((2, 3)), DimensionError),
        (lambda: MLP(4, 5), KindError),
        (lambda: MLP(4, (0,)), InputError),
        (lambda: MLP(4, (1 << 40,)), InputError),
        (lambda: MLP(4, (3,), 1.0), InputError),
        (lambda: ConvNet(20), DimensionError),
        (lambda: ConvNet((3, 8, 8)), DimensionError),
        (lambda: ResNet((3, 2, 2), 8), DimensionError),
        (lambda: ResNet(IMAGE, 8, ()), InputError),
        (lambda: Bottleneck(0, 3), InputError),
        (lambda: DivideAndEncode(4, 5, 0), InputError),
        (lambda: DivideAndEncode(4, 5, epsilon=0.6), InputError),
        (lambda: DivideAndEncode(4, 1 << 17, 1 << 17), InputError),
        (lambda: Probabilities(4, 5, 3), InputError),
        (lambda: Probabilities(4, 5, temperature=0), InputError),
        (lambda: Embedding(nn.Flatten(), "head"), KindError),
    ],
)
def test_arguments_out_of_range_are_refused(make, error):
    with pytest.raises(error, match="expected"):
        make()


@pytest.fixture(scope="module")
def alexnet():
    return AlexNet((3, 40, 30)).eval()


# As torchvision 0.27 lists them.
TORCHVISION = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def pretrained() -> dict[str, torch.Tensor]:
    """Small numbers in one row, repeated without memory."""
    weights = {}
    for i, (layer, shape) in enumerate(TORCHVISION.items()):
        row = torch.linspace(-0.01, 0.01 + i / 1000, shape[-1])
        weights[f"{layer}.weight"] = row.expand(shape)
        weights[f"{layer}.bias"] = torch.full((1,), i / 10).expand(shape[0])
    return weights


def test_alexnet_takes_the_weights_of_torchvision(alexnet):
    given = pretrained()
    alexnet.load_pretrained(given)
    own = dict(alexnet.named_parameters())
    assert len(own) == 14
    assert own.keys() == given.keys() - {"classifier.6.weight", "classifier.6.bias"}
    for key in ("features.0.weight", "features.10.bias", "classifier.4.weight"):
        assert torch.equal(own[key], given[key])
    alexnet.load_pretrained({k: v for k, v in given.items() if "classifier.6" not in k})
    assert alexnet.rates == {key: 2.0 for key in own if key.endswith("bias")}
    with torch.inference_mode():
        features = alexnet(pixels(2, (3, 40, 30)))
        large = nn.functional.interpolate(pixels(2, (3, 40, 30)), (224, 224), mode="bilinear")
        same = alexnet(large)
    assert features.shape == (2, alexnet.d_out)
    torch.testing.assert_close(features, same, rtol=1e-3, atol=1e-3)
    assert (features >= 0).all()  # after the rectifier of fc7


def test_alexnet_refuses_other_weights(alexnet):
    given = pretrained()
    for wrong, text in [
        ({"features.0.weight": torch.zeros(96, 3, 11, 11)}, r"features.0.weight of shape \(64"),
        ({"layer1.0.conv1.weight": torch.zeros(3)}, "got layer1.0.conv1.weight"),
    ]:
        with pytest.raises(FormatError, match=text):
            alexnet.load_pretrained({**given, **wrong})
    del given["classifier.1.bias"]
    with pytest.raises(FormatError, match=r"expected weights classifier.1.bias"):
        alexnet.load_pretrained(given)
    with torch.device("meta"), pytest.raises(DimensionError, match="3 channels"):
        AlexNet((1, 224, 224))


def test_alexnet_standardizes_as_torchvision_does(alexnet):
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = pixels(2, (3, 4, 4))
    expected = (x / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    torch.testing.assert_close(alexnet.standardize(x), expected)
    assert networks.plan_of(alexnet) == {"type": "AlexNet", "input_shape": [3, 40, 30]}


@pytest.mark.parametrize("unit", [1e-30, 1e-12, 1e-6, 1.0, 1e12])
@pytest.mark.parametrize("shape", [(6,), (3, 4, 4)])
def test_numbers_are_standardized_in_any_unit(unit, shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, *shape, generator=generator) * 2 + 1
    layer = Standardize(shape[0])
    layer.prepare(x * unit)
    z = layer(x * unit)
    assert abs(float(z.std()) - 1) < 0.02
    assert abs(float(z.mean())) < 1e-4


def test_a_column_that_only_rounding_moves_is_not_scaled():
    x = torch.full((400, 2), 1e6)
    x[1::2, 1] = torch.nextafter(x[0, 1], torch.tensor(torch.inf))
    layer = Standardize(2)
    layer.prepare(x)
    assert layer.scale.tolist() == [1, 1]
