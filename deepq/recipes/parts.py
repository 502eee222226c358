"""What recipes are put together from: the shape of a code, a network with a head, an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from deepq._common.checks import as_size
from deepq._common.errors import InputError, KindError
from deepq._common.types import METRIC_L2
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Sign
from deepq.encoders.network import NetworkEncoder
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.networks.backbones import MLP, AlexNet, ConvNet, ResNet, as_shape
from deepq.networks.devices import seeded
from deepq.networks.embedding import Embedding
from deepq.objectives.base import Objective
from deepq.quantizers.binary import BinaryQuantizer
from deepq.training.settings import TrainConfig

Shape = tuple[int, ...] | int

_BACKBONES = {
    "convnet": ConvNet,
    "resnet": ResNet,
    "alexnet": AlexNet,
    "mlp": MLP,
}
_WARM_UP = 0.6  # share of the epochs as a classifier, for networks that start from nothing


def code_shape(bits: int, nbits: int | None = None) -> tuple[int, int]:
    """Return M and nbits of codes of so many bits. Raises InputError where nbits does not divide.

    Examples
    --------
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
    """Share of the epochs as a classifier: none for a network that somebody has trained before."""
    if given is not None:
        return given
    return 0.0 if isinstance(backbone, nn.Module) else _WARM_UP


@dataclass(frozen=True)
class Design:
    """What every recipe is asked for: see `dqn`."""

    input_shape: Shape
    bits: int
    nbits: int | None
    backbone: str | nn.Module | None
    training: TrainConfig | None
    encoder: dict[str, Any]
    coarse: str | None = None
    nlist: int | None = None

    @property
    def code(self) -> tuple[int, int]:
        """M and nbits."""
        return code_shape(self.bits, self.nbits)

    def network(self, head: Callable[[int], nn.Module]) -> NetworkEncoder:
        """Put a head on the backbone; their weights follow the seed of the training.

        `head` takes the number of features.
        """
        shape, training = as_shape(self.input_shape), self.training
        if training is not None and not isinstance(training, TrainConfig):
            raise KindError(f"expected a TrainConfig, got {type(training).__name__}")
        with seeded((training or TrainConfig()).seed):
            given = self.backbone
            body = given if isinstance(given, nn.Module) else _backbone(shape, given)
            features = NetworkEncoder(body, shape, layout=self.encoder.get("layout", "CHW")).d_out
            network = Embedding(body, head(features))
        return NetworkEncoder(network, shape, **self.encoder)

    def index(
        self, encoder: Encoder, metric: int, objective: Objective | None
    ) -> DeepQuantIndex | DeepQuantIVFIndex:
        """Make the index of learned codewords, in cells if these are asked for."""
        M, nbits = self.code
        if (self.coarse is None) != (self.nlist is None):
            got = f"{self.coarse!r} and {self.nlist}"
            raise InputError(f"expected both coarse and nlist for cells, or neither, got {got}")
        parts: dict[str, Any] = {
            "encoder": encoder,
            "objective": objective,
            "training": self.training,
        }
        if self.coarse is None:
            return DeepQuantIndex(encoder.d_in, M, nbits, metric, **parts)
        numbers = encoder.d_in, self.nlist, M, nbits, metric
        return DeepQuantIVFIndex(*numbers, coarse=self.coarse, **parts)

    def binary_index(
        self, members: Sequence[Encoder], objective: Objective | None
    ) -> DeepQuantIndex:
        """Make the index of the signs of what the encoders give, one after the other."""
        M, nbits = self.code
        encoder = Chain([*members, Sign(M * nbits)])
        return DeepQuantIndex(
            encoder.d_in,
            M,
            nbits,
            METRIC_L2,
            encoder=encoder,
            quantizer=BinaryQuantizer(M, nbits),
            objective=objective,
            training=self.training,
        )


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
