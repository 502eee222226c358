"""The optimizer that networks are trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that drives singular values to 1
_ITERATIONS = 5
_MATRIX = 128  # rows and columns from which a matrix counts as one


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return a matrix (m, n), or several, of about the same singular vectors and values near 1.

    They are between 0.6 and 1.3 or so, where they were not much smaller than the largest. The
    iteration is Newton and Schulz's with the coefficients of Jordan et al., "Muon: an optimizer for
    hidden layers in neural networks", 2024.
    """
    a, b, c = _COEFFICIENTS
    X: Tensor = matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if tall := X.shape[-2] > X.shape[-1]:
        X = X.mT
    for _ in range(_ITERATIONS):
        gram = X @ X.mT
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal for matrices; AdamW for everything else.

    Parameters
    ----------
    groups : iterable of dict
        Parameter groups; "muon" says which of the two a group is for, "parts" into how many its
        matrices are cut by rows first, each for itself, and "lr" and "weight_decay" may differ,
        too. Filters (o, i, h, w) count as matrices (o, i * h * w). An orthogonal step
        is scaled to a root mean square of 0.2, which is about that of AdamW (Liu et al., "Muon is
        scalable for LLM training", 2025), so that both take the same rates.
    lr : float
        Learning rate.
    weight_decay : float
        Share of a parameter that each step takes away, times the rate.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "muon": False, "parts": 1}
        super().__init__(groups, {**defaults, "momentum": 0.9, "second": 0.99})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Move the parameters that have a gradient."""
        for group in self.param_groups:
            move = self._muon if group["muon"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(move(p, p.grad, group), alpha=-group["lr"])

    def _muon(self, p: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the momentum, looked ahead as by Nesterov, made orthogonal."""
        mean = self._moment(p, "mean")
        mean.lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"]).flatten(1)
        if group["parts"] > 1:
            ahead = ahead.reshape(group["parts"], -1, ahead.shape[1])
        scale = 0.2 * max(ahead.shape[-2:]) ** 0.5
        return orthogonalized(ahead).mul(scale).reshape(p.shape)

    def _adam(self, p: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the step of Kingma & Ba, "Adam", ICLR 2015, algorithm 1, without its rate."""
        mean, square = self._moment(p, "mean"), self._moment(p, "square")
        steps = self.state[p]["steps"] = self.state[p].get("steps", 0) + 1
        first, second = group["momentum"], group["second"]
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        scale = (square / (1 - second**steps)).sqrt_().add_(1e-8)
        step: Tensor = mean / (1 - first**steps) / scale
        return step

    def _moment(self, p: nn.Parameter, name: str) -> Tensor:
        if name not in self.state[p]:
            self.state[p][name] = torch.zeros_like(p)
        moment: Tensor = self.state[p][name]
        return moment


def grouped(
    parameters: Iterable[tuple[str, nn.Parameter]],
    rates: Mapping[str, float],
    weight_decay: float,
    parts: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for `Muon`: matrices apart from other numbers, and each with its rate.

    Parameters
    ----------
    parameters : iterable of (str, Parameter)
        Parameters by name; those that take no gradient are left out.
    rates : dict of str to float
        Factors of the learning rate, by the beginning of a name; the longest that fits counts.
    weight_decay : float
        Decay of matrices; other numbers have none.
    parts : dict of str to int, optional
        Matrices, by name, that are several below each other.
    """
    groups: dict[tuple[bool, float, int], list[nn.Parameter]] = {}
    for name, p in parameters:
        if p.requires_grad:
            prefixes = [prefix for prefix in rates if name.startswith(prefix)]
            rate = rates[max(prefixes, key=len)] if prefixes else 1.0
            matrix = p.dim() == 4 or (p.dim() == 2 and min(p.shape) >= _MATRIX)
            count = (parts or {}).get(name, 1) if matrix else 1
            groups.setdefault((matrix, rate, count), []).append(p)
    return [
        {
            "params": group,
            "muon": matrix,
            "parts": count,
            "rate": rate,
            "weight_decay": weight_decay if matrix else 0.0,
        }
        for (matrix, rate, count), group in groups.items()
    ]
