"""Layers that look at a whole batch, while each worker has a share of it.

`of_whole_batches` lets batch normalization count all rows of a batch, and dropout draw for all
of them, so that a share comes out as it would in the whole batch on one worker. torch's own
`SyncBatchNorm` does the former on GPUs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deepq.training.peers import Peers

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def of_whole_batches(network: nn.Module, peers: Peers, n: int) -> Iterator[None]:
    """Let the layers of a network that is trained work so in here, on shares of n rows.

    These are torch's BatchNorm and Dropout of 1 to 3 dimensions. Other layers, and functions, that
    look at several rows or draw see a share alone.
    """
    changed: list[tuple[nn.Module, Callable[..., Tensor]]] = []
    if not peers.alone:
        for module in network.modules():
            if module.training and type(module) in _BATCH_NORMS:
                changed.append((module, partial(_normalized, module, n)))
            elif module.training and type(module) in _DROPOUTS:
                changed.append((module, partial(_dropped, module, peers, n)))
    for module, forward in changed:
        module.forward = forward
    try:
        yield
    finally:
        for module, _ in changed:
            del module.forward


class _Sum(torch.autograd.Function):
    """The sum of a tensor of all workers; so the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        x = x.contiguous().clone()
        torch.distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradient)


def _normalized(module: Any, n: int, x: Tensor) -> Tensor:
    """Normalize a share by the mean and variance of the whole batch, as `nn.BatchNorm` does.

    Ioffe & Szegedy, "Batch normalization", ICML 2015, algorithm 1. The running variance is the
    unbiased one, which is torch's convention.
    """
    module._check_input_dim(x)
    axes = [0, *range(2, x.dim())]
    shape = [1, -1, *(1 for _ in axes[1:])]
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    count = n * (x[0].numel() // x.shape[1])
    mean = _summed(wide.sum(axes)) / count
    apart = wide - mean.view(shape)
    variance = _summed(apart.square().sum(axes)) / count
    if module.track_running_stats and module.running_mean is not None:
        with torch.no_grad():
            module.num_batches_tracked += 1
            part = module.momentum
            part = 1.0 / float(module.num_batches_tracked) if part is None else part
            module.running_mean.lerp_(mean, part)
            module.running_var.lerp_(variance * (count / max(1, count - 1)), part)
    y = apart * (variance + module.eps).rsqrt().view(shape)
    if module.affine:
        y = y * module.weight.view(shape) + module.bias.view(shape)
    found: Tensor = y.to(x.dtype)
    return found


def _summed(x: Tensor) -> Tensor:
    found: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return found


def _dropped(module: Any, peers: Peers, n: int, x: Tensor) -> Tensor:
    """Drop numbers of a share as they are dropped in the whole batch: each worker draws for all."""
    kept: Tensor = type(module)(module.p)(x.new_ones(n, *x.shape[1:]))
    return x * kept[peers.share(n)]
