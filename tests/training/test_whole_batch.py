"""Layers of whole batches are torch's own where there is one share; more of them: `test_peers`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepq.training import whole_batch
from deepq.training.peers import Peers
from deepq.training.whole_batch import of_whole_batches


class Lone(Peers):
    """One worker that does as if there were others."""

    alone = False


@pytest.fixture
def peers(monkeypatch) -> Peers:
    monkeypatch.setattr(whole_batch, "_summed", lambda x: x)
    return Lone(torch.device("cpu"))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(4), (9, 4)),
        (nn.BatchNorm1d(4, momentum=None), (9, 4, 5)),
        (nn.BatchNorm2d(4, eps=0.1), (9, 4, 3, 5)),
        (nn.BatchNorm2d(4, affine=False), (9, 4, 3, 5)),
        (nn.BatchNorm2d(4, track_running_stats=False), (9, 4, 3, 5)),
        (nn.BatchNorm3d(4), (9, 4, 2, 3, 2)),
    ],
)
def test_batch_normalization(layer, shape, peers) -> None:
    other = copy.deepcopy(layer)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        x = 3 * torch.randn(shape, generator=generator) + 1
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        with of_whole_batches(other, peers, len(x)):
            ours = other(b)
        right = layer(a)
        torch.testing.assert_close(ours, right)
        right.sin().sum().backward()
        ours.sin().sum().backward()
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(other)
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor)
    with pytest.raises(ValueError, match="expected"), of_whole_batches(other, peers, 9):
        other(torch.ones(9))


def test_bfloat16_stays_what_it_is(peers) -> None:
    layer = nn.BatchNorm1d(2)
    with of_whole_batches(layer, peers, 3):
        y = layer(torch.eye(3, 2, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout(0.3), (6, 5)),
        (nn.Dropout1d(), (6, 5, 3)),
        (nn.Dropout2d(0.4), (6, 5, 3, 2)),
        (nn.Dropout3d(0.4), (6, 5, 3, 2, 2)),
    ],
)
def test_dropout_drops_the_same(layer, shape, peers) -> None:
    x = torch.rand(shape)
    torch.manual_seed(3)
    right, after = layer(x), torch.rand(1)
    torch.manual_seed(3)
    with of_whole_batches(layer, peers, len(x)):
        torch.testing.assert_close(layer(x), right)
    assert torch.rand(1) == after


def test_layers_that_are_not_trained_or_are_others_stay(peers) -> None:
    class Own(nn.BatchNorm1d):
        """What a subclass does, nobody knows."""

    net = nn.Sequential(Own(2), nn.BatchNorm1d(2).eval(), nn.Dropout().eval(), nn.LayerNorm(2))
    with of_whole_batches(net, peers, 4):
        assert not any("forward" in vars(module) for module in net)
