"""What recipes are put together from: the shape of a code, and a network with a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from deepq._common.checks import as_size
from deepq._common.errors import InputError, KindError
from deepq.encoders.network import NetworkEncoder
from deepq.networks.backbones import MLP, AlexNet, ConvNet, ResNet, as_shape
from deepq.networks.devices import seeded
from deepq.networks.embedding import Embedding
from deepq.training.settings import TrainConfig

Shape = tuple[int, ...] | int

_BACKBONES = {
    "convnet": ConvNet,
    "resnet": ResNet,
    "alexnet": AlexNet,
    "mlp": MLP,
}
_WARM_UP = 0.6  # part of the epochs as a classifier, for networks that start from nothing


def code_shape(bits: int, nbits: int | None = None) -> tuple[int, int]:
    """Return M and nbits of codes of so many bits. Raises InputError where nbits does not divide.

    >>> [code_shape(bits) for bits in (12, 24, 32, 48)]
    [(2, 6), (3, 8), (4, 8), (6, 8)]
    """
    bits = as_size(bits, "bits")
    if nbits is None:
        nbits = next(number for number in (8, 7, 6, 5, 4, 3, 2, 1) if bits % number == 0)
    nbits = as_size(nbits, "nbits")
    if bits % nbits:
        raise InputError(f"expected nbits that divides {bits} bits, got {nbits}")
    return bits // nbits, nbits


def as_warm_up(given: float | None, backbone: str | nn.Module | None) -> float:
    """Part of the epochs as a classifier: none for a network that somebody has trained before."""
    if given is not None:
        return given
    return 0.0 if isinstance(backbone, nn.Module) else _WARM_UP


def make_network(
    input_shape: Shape,
    backbone: str | nn.Module | None,
    head: Callable[[int], nn.Module],
    training: TrainConfig | None,
    encoder: dict[str, Any],
) -> NetworkEncoder:
    """Put a head on a backbone; their weights follow the seed of the training."""
    shape = as_shape(input_shape)
    if training is not None and not isinstance(training, TrainConfig):
        raise KindError(f"expected a TrainConfig, got {type(training).__name__}")
    with seeded((training or TrainConfig()).seed):
        body = backbone if isinstance(backbone, nn.Module) else _backbone(shape, backbone)
        features = NetworkEncoder(body, shape, layout=encoder.get("layout", "CHW")).d_out
        network = Embedding(body, head(features))
    return NetworkEncoder(network, shape, **encoder)


def _backbone(shape: tuple[int, ...], name: str | None) -> nn.Module:
    if name is None:
        name = "mlp" if len(shape) == 1 else "convnet"
    if not isinstance(name, str):
        raise KindError(f"expected a backbone's name or a module, got {type(name).__name__}")
    if name not in _BACKBONES:
        raise InputError(f"expected a backbone of {', '.join(_BACKBONES)}, got {name!r}")
    if (name == "mlp") != (len(shape) == 1):
        raise InputError(f"expected a backbone for inputs of shape {shape}, got {name!r}")
    made: nn.Module = _BACKBONES[name](shape)
    return made
