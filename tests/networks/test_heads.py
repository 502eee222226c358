"""Heads, alone and behind a backbone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from deepq.networks import (
    MLP,
    Bottleneck,
    DivideAndEncode,
    Embedding,
    Probabilities,
)

from .builders import pixels


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
