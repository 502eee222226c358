"""The optimizer: against torch's own, and by the properties of its steps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepq.training.optimizers import Muon, orthogonalized


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (20, 50), (50, 20), (1, 30), (30, 1)])
def test_orthogonalized_matrices(shape):
    matrix = normal(*shape)
    result = orthogonalized(matrix)
    assert result.shape == shape
    U, S, V = torch.linalg.svd(matrix, full_matrices=False)
    values = (U.T @ result @ V.T).diagonal()
    torch.testing.assert_close(U @ values.diag() @ V, result, atol=1e-4, rtol=1e-4)
    assert (values[S.max() / 20 < S] > 0.5).all()
    assert (values < 1.4).all()


def test_orthogonalized_zeros_are_zeros():
    assert not orthogonalized(torch.zeros(3, 5)).any()


def steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: range) -> None:
    for seed in seeds:
        for p in parameters:
            p.grad = normal(*p.shape, seed=seed) * 0.1
        optimizer.step()


def test_a_matrix_in_parts_moves_as_its_parts_do():
    whole = nn.Parameter(normal(12, 20))
    parts = [nn.Parameter(part.clone()) for part in whole.detach().view(3, 4, 20)]
    gradient = normal(12, 20, seed=1)
    whole.grad = gradient
    for part, its in zip(parts, gradient.view(3, 4, 20), strict=True):
        part.grad = its.clone()
    Muon([{"params": [whole], "muon": True, "parts": 3}], lr=0.1).step()
    Muon([{"params": parts, "muon": True}], lr=0.1).step()
    torch.testing.assert_close(whole.detach(), torch.cat([part.detach() for part in parts]))


def test_what_is_no_matrix_moves_as_by_adamw():
    ours, theirs = ([nn.Parameter(normal(7)), nn.Parameter(normal(4, 3))] for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    steps(Muon([{"params": ours}], **options), ours, range(6))
    steps(torch.optim.AdamW(theirs, betas=(0.9, 0.99), **options), theirs, range(6))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12), (24, 3, 3, 3)])
def test_steps_of_matrices_have_the_same_size_whatever_the_gradient(shape):
    for scale in (1e-3, 1.0):
        p = nn.Parameter(torch.zeros(shape))
        p.grad = normal(*shape) * scale
        Muon([{"params": [p], "muon": True}], lr=0.5).step()
        assert p.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.3)


def test_filters_are_matrices_and_memory_layout_does_not_matter():
    flat, filters = nn.Parameter(normal(8, 27)), nn.Parameter(normal(8, 27).view(8, 3, 3, 3))
    last = nn.Parameter(filters.detach().clone(memory_format=torch.channels_last))
    groups = [{"params": [flat, filters, last], "muon": True}]
    optimizer = Muon(groups, weight_decay=0.1)
    for seed in range(3):
        flat.grad = normal(8, 27, seed=seed)
        filters.grad = flat.grad.view(8, 3, 3, 3)
        last.grad = filters.grad.clone(memory_format=torch.channels_last)
        optimizer.step()
    torch.testing.assert_close(flat, filters.view(8, 27))
    torch.testing.assert_close(filters, last)


def test_decay_takes_a_part_and_parameters_without_a_gradient_stay():
    p, resting = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))
    p.grad = torch.zeros(4, 4)
    groups = [{"params": [p], "muon": True, "weight_decay": 0.5}, {"params": [resting]}]
    Muon(groups, lr=0.1).step()
    torch.testing.assert_close(p, torch.full((4, 4), 1 - 0.05))
    assert torch.equal(resting, torch.ones(4))


def test_a_state_dict_goes_on_as_before():
    def made() -> tuple[list[nn.Parameter], Muon]:
        matrix, vector = nn.Parameter(normal(6, 5)), nn.Parameter(normal(5))
        groups = [{"params": [matrix], "muon": True, "lr": 0.02}, {"params": [vector]}]
        return [matrix, vector], Muon(groups, lr=0.01, weight_decay=0.1)

    parameters, optimizer = made()
    steps(optimizer, parameters, range(3))
    others, resumed = made()
    for a, b in zip(others, parameters, strict=True):
        a.data.copy_(b)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(optimizer, parameters, range(3, 6))
    steps(resumed, others, range(3, 6))
    for a, b in zip(others, parameters, strict=True):
        assert torch.equal(a, b)
