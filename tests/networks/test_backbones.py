"""The networks: shapes, preparation, names of pre-trained weights, plans and weights as data."""

from __future__ import annotations

import json
import math

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

IMAGE = (3, 12, 10)


def pixels(n: int = 6, shape: tuple[int, ...] = IMAGE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), generator=generator).float()


MAKE = {
    "MLP": lambda: MLP(20, (16, 8), 0.1),
    "MLP without layers": lambda: MLP((20,), ()),
    "ConvNet": lambda: ConvNet(IMAGE, (4, 6)),
    "ResNet": lambda: ResNet(IMAGE, 14, (4, 6, 8)),
    "Bottleneck": lambda: Bottleneck(20, 6, on_pretrained=True),
    "Bottleneck with norm": lambda: Bottleneck(20, 6, batch_norm=True),
    "DivideAndEncode": lambda: DivideAndEncode(20, 6, 5, 0.1),
    "Probabilities": lambda: Probabilities(20, 5, 8, 0.5),
    "Embedding": lambda: Embedding(ConvNet(IMAGE, (4,)), Bottleneck(4, 6, tanh=False)),
}


def inputs(name: str, n: int = 6) -> torch.Tensor:
    images = ("ConvNet", "ResNet", "Embedding")
    return pixels(n, IMAGE if name in images else (20,))


@pytest.fixture(params=MAKE)
def name(request):
    torch.manual_seed(0)
    return request.param


# ---- shapes and numbers --------------------------------------------------------------------------


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


def test_heads():
    x = pixels(4, (20,)) / 100
    bottleneck = Bottleneck(20, 6)
    torch.testing.assert_close(bottleneck(x), torch.tanh(bottleneck.fcb(x)))
    assert bottleneck.rates == {}
    paper = Bottleneck(2000, 50, on_pretrained=True)
    assert paper.fcb.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not paper.fcb.bias.any()
    assert paper.rates == {"fcb.weight": 10.0, "fcb.bias": 20.0}

    head = Probabilities(20, 5, 8)
    z = head(x)
    torch.testing.assert_close(z[:, :5].sum(1), torch.ones(4))
    assert not z[:, 5:].any()
    head.temperature.fill_(0.25)
    torch.testing.assert_close(head(x)[:, :5], (head.logits(x) * 4).softmax(1))
    assert Probabilities(20, 5).d_out == 5


def test_a_bottleneck_may_be_normalized_over_batches():
    head, x = Bottleneck(20, 6, tanh=False, batch_norm=True).train(), pixels(50, (20,))
    z = head(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(6), rtol=1e-3, atol=0)
    bounded = Bottleneck(20, 6, batch_norm=True).train()
    bounded.load_state_dict(head.state_dict())
    torch.testing.assert_close(bounded(x), z.tanh())
    assert not hasattr(Bottleneck(20, 6), "norm")


def divided(epsilon: float, part: int = 5) -> DivideAndEncode:
    """One whose sigmoids spread over 0 to 1."""
    torch.manual_seed(0)
    head = DivideAndEncode(20, 6, part, epsilon)
    with torch.no_grad():
        head.weight.mul_(4)
        head.bias.normal_()
    return head


ROWS = torch.randn(40, 20, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3, 0.5])
def test_divided_numbers_go_through_a_threshold(epsilon):
    head, want, middle = divided(epsilon), [], 0
    weight, bias = head.features.weight.tolist(), head.features.bias.tolist()
    for x in ROWS.tolist():
        for b in range(6):
            total = head.bias[b].item()
            for j in range(5):
                row = weight[5 * b + j]
                feature = bias[5 * b + j] + sum(p * q for p, q in zip(row, x, strict=True))
                total += head.weight[b, j].item() * max(feature, 0)
            s = 1 / (1 + math.exp(-total))
            low, high = s < 0.5 - epsilon, s > 0.5 + epsilon
            middle += not (low or high)
            want.append(2 * (0 if low else 1 if high else s) - 1)
    z = head(ROWS)
    np.testing.assert_allclose(z.detach().ravel(), want, atol=1e-5)
    assert z.abs().max() <= 1
    assert middle in {0.0: [0], 0.5: [240]}.get(epsilon, range(20, 220))
    assert (z.abs() == 1).sum() == 240 - middle


def test_divided_numbers_stay_between_minus_1_and_1():
    for epsilon in (0.1, 0.5):
        z = divided(epsilon)(1e4 * ROWS)
        assert {-1.0, 1.0} <= set(z.unique().tolist())
        assert z.abs().max() <= 1


def test_each_divided_number_has_features_of_its_own():
    head = divided(0.5)
    for b in range(6):
        head.zero_grad()
        head(ROWS)[:, b].sum().backward()
        own = slice(5 * b, 5 * b + 5)
        for gradient, of in [
            (head.features.weight.grad, own),
            (head.features.bias.grad, own),
            (head.weight.grad, slice(b, b + 1)),
            (head.bias.grad, slice(b, b + 1)),
        ]:
            assert gradient[of].any()
            rest = gradient.clone()
            rest[of] = 0
            assert not rest.any()


def test_gradients_pass_the_threshold_unchanged():
    found = []
    for epsilon in (0.5, 0.1, 0.0):
        head, x = divided(epsilon), ROWS.clone().requires_grad_()
        weights = torch.linspace(-1, 1, 6)
        (head(x) * weights).sum().backward()
        found.append([x.grad, *(p.grad for p in head.parameters())])
    for others in found[1:]:
        for ours, theirs in zip(found[0], others, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert found[0][0].any(1).all()


def test_an_embedding_is_a_backbone_and_a_head():
    backbone, head = MLP(20, (16,)).eval(), Bottleneck(16, 6, on_pretrained=True)
    both, x = Embedding(backbone, head), pixels(5, (20,))
    both.prepare(x)
    assert backbone.standardize.mean.any()
    torch.testing.assert_close(both(x), head(backbone(x)))
    assert both.rates == {"head.fcb.weight": 10.0, "head.fcb.bias": 20.0}
    Embedding(nn.Flatten(), head).prepare(x)  # which takes no preparation


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


# ---- AlexNet -------------------------------------------------------------------------------------


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


# ---- as plain data -------------------------------------------------------------------------------


def test_plan_and_weights_make_the_same_network(name):
    network, x = MAKE[name](), inputs(name)
    if hasattr(network, "prepare"):
        network.prepare(x)
    if name == "Probabilities":
        network.temperature.fill_(0.3)
    network.train()(x)
    plan = json.loads(json.dumps(networks.plan_of(network)))
    weights, state = networks.weights_of(network), torch.random.get_rng_state()
    again = networks.restore(plan, weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(again) is type(network)
    assert torch.equal(again.eval()(x), network.eval()(x))
    assert networks.plan_of(again) == networks.plan_of(network)
    assert {n: p.requires_grad for n, p in again.named_parameters()} == {
        n: p.requires_grad for n, p in network.named_parameters()
    }
    assert not any(t.is_meta for t in again.state_dict().values())
    fresh = networks.make(plan)
    networks.set_weights(fresh, weights)
    assert torch.equal(fresh.eval()(x), network.eval()(x))


def test_weights_are_copies_without_counts():
    network = MLP(4, (3,))
    weights = networks.weights_of(network)
    assert not [key for key in weights if "num_batches" in key]
    assert {w.dtype for w in weights.values()} == {np.dtype(np.float32)}
    weights["layers.0.weight"][:] = 7
    assert not (network.layers[0].weight == 7).any()


def test_networks_of_other_classes_have_no_plan():
    class MLP(nn.Module):
        """One of the same name."""

    assert networks.plan_of(MLP()) is None
    assert networks.plan_of(nn.Linear(2, 3)) is None
    assert networks.plan_of(Embedding(nn.Flatten(), Bottleneck(4, 2))) is None
    assert networks.plan_of(type("MLP", (networks.MLP,), {})(4)) is None


def test_numbers_that_float32_does_not_hold_are_refused():
    module = nn.Linear(2, 2).double()
    nn.init.constant_(module.weight, 1 / 3)
    with pytest.raises(KindError, match="float64"):
        networks.weights_of(module)
    with torch.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(-3)
    weights = networks.weights_of(module)
    again = nn.Linear(2, 2).double()
    networks.set_weights(again, weights)
    assert torch.equal(again.weight, module.weight)
    module.register_buffer("steps", torch.tensor(3))
    assert networks.weights_of(module)["steps"] == 3
    module.register_buffer("steps", torch.tensor(1 << 40 | 1))
    with pytest.raises(KindError, match="int64"):
        networks.weights_of(module)
    module.register_buffer("steps", torch.tensor(1j))
    with pytest.raises(KindError, match="real"):
        networks.weights_of(module)


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"type": "Linear", "in_features": 3, "out_features": 4},
        {"type": "MLP"},
        {"type": "MLP", "input_shape": [3], "more": 1},
        {"type": "MLP", "input_shape": [1 << 50]},
        {"type": "MLP", "input_shape": [4], "hidden": [1] * 5000},
        {"type": "ResNet", "input_shape": [3, 9, 9], "depth": 6 * 10**9 + 2},
        {"type": "ConvNet", "input_shape": [3, 9, 9], "widths": "ab"},
        {"type": "Embedding", "backbone": "os.system", "head": {"type": "Bottleneck"}},
        {"type": ["MLP"]},
        "MLP",
        None,
    ],
)
def test_faulty_plans_are_refused(plan):
    with pytest.raises(FormatError, match="plan of a network"):
        networks.make(plan)


def test_weights_of_another_network_are_refused_before_memory_is_taken():
    plan = {"type": "MLP", "input_shape": [1 << 18], "hidden": [1 << 18] * 3, "dropout": 0.0}
    assert math.prod([1 << 18, 1 << 18]) * 4 > 1 << 37
    weights = networks.weights_of(MLP(1, (1, 1, 1)))
    with pytest.raises(FormatError, match="of shape"):
        networks.restore(plan, weights)
    for wrong in (None, [], {}, {**weights, "more": np.zeros(3)}, dict.fromkeys(weights)):
        with pytest.raises(FormatError, match="expected"):
            networks.set_weights(MLP(1, (1, 1, 1)), wrong)
