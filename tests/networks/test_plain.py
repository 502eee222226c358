"""Networks as plain data, and faulty plans."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from deepq import networks
from deepq._common.errors import FormatError, KindError
from deepq.networks import (
    MLP,
    Bottleneck,
    Embedding,
)

from .builders import MAKE, inputs


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
        {"type": "Embedding", "backbone": "os.getcwd", "head": {"type": "Bottleneck"}},
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
