"""Networks as plain data: `plan_of` and `weights_of` describe a module; `restore` makes it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepq._common.errors import FormatError, KindError
from deepq._common.types import Floats
from deepq.networks.backbones import (
    MLP,
    AlexNet,
    ConvNet,
    ResNet,
    require_same,
)
from deepq.networks.embedding import Embedding
from deepq.networks.heads import Bottleneck, DivideAndEncode, Probabilities

_KNOWN: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (
        *(MLP, ConvNet, ResNet, AlexNet),
        *(Bottleneck, DivideAndEncode, Probabilities),
        Embedding,
    )
}


def plan_of(module: nn.Module) -> dict[str, Any] | None:
    """Class and arguments of a module of this room, as JSON values; None for any other.

    A backbone or head of another class makes an `Embedding` another, too.
    """
    cls = type(module)
    if _KNOWN.get(cls.__name__) is not cls:
        return None
    plan: dict[str, Any] = {"type": cls.__name__}
    for name in inspect.signature(cls).parameters:
        value = getattr(module, name)
        if isinstance(value, nn.Module):
            value = plan_of(value)
            if value is None:
                return None
        elif isinstance(value, Tensor):
            value = value.item()
        plan[name] = list(value) if isinstance(value, tuple) else value
    return plan


def make(plan: Mapping[str, Any]) -> nn.Module:
    """Make a module, not trained, of what `plan_of` gave. Raises FormatError for anything else."""
    try:
        rest = dict(plan)
        name = rest.pop("type")
        if name not in _KNOWN:
            raise FormatError(f"a class {name!r}")
        parts = {key: make(v) if isinstance(v, Mapping) else v for key, v in rest.items()}
        return _KNOWN[name](**parts)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"expected the plan of a network, got {error}") from error


def weights_of(module: nn.Module) -> dict[str, Floats]:
    """Copy parameters and buffers, but for the counts of batches, as float32.

    Raises KindError for numbers that float32 does not hold exactly, and for a state that is none.
    """
    return {name: _exact(value, name) for name, value in _state(module).items()}


def set_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give a module what `weights_of` gave. Raises FormatError if names or shapes are others."""
    state = _state(module)
    require_same(state, weights)
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.tensor(weights[name]))


def restore(plan: Mapping[str, Any], weights: Mapping[str, Any]) -> nn.Module:
    """Make a module of its plan and weights.

    Memory is taken once the shapes are known to be those of the weights.

    Raises FormatError if they do not fit, or are none.
    """
    with torch.device("meta"):
        module = make(plan)
    require_same(_state(module), weights)
    module.to_empty(device="cpu")
    for name, tensor in module.named_buffers():
        if _is_count(name):
            tensor.zero_()
    set_weights(module, weights)
    return module


def _state(module: nn.Module) -> dict[str, Any]:
    return {n: value for n, value in module.state_dict().items() if not _is_count(n)}


def _is_count(name: str) -> bool:
    """Whether a buffer is batch normalization's count of batches, which its results ignore."""
    return name.rpartition(".")[2] == "num_batches_tracked"


def _exact(value: Any, name: str) -> Floats:
    if not isinstance(value, Tensor) or value.is_complex():
        raise KindError(f"expected {name} to be a tensor of real numbers, got {type(value)}")
    numbers = value.detach().cpu().float()
    if value.dtype != torch.float32 and not torch.equal(numbers.to(value.dtype), value.cpu()):
        raise KindError(f"expected {name} of numbers that float32 holds, got {value.dtype}")
    return np.array(numbers.numpy(), order="C")
