"""Backbones: torch modules that make features (n, d_out) of vectors or images.

They take vectors (n, d) or images (n, C, H, W) as a user has them, float32: the first layer brings
the numbers to unit scale. `prepare` sets that layer from training data. Each keeps the arguments of
its constructor as attributes of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from deepq._common.checks import as_real, as_size, as_tuple
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq.networks.standardize import Standardize, Whitening

Shape = tuple[int, ...]

# Limits of what a file may ask for.
_MOST_NUMBERS = 1 << 24  # in one vector or image
_MOST_WIDTH = 1 << 18
_MOST_LAYERS = 1 << 10


class MLP(nn.Module):
    """Fully connected layers.

    Parameters
    ----------
    input_shape : (d,), or (C, H, W)
        Images are taken as vectors.
    hidden : sequence of int
        Widths of the layers; each has batch normalization, a GELU and dropout behind it.
    dropout : float
        Part of the features that is left out, 0 to below 1.
    """

    def __init__(
        self, input_shape: Any, hidden: Iterable[int] = (1024,), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.input_shape = as_shape(input_shape)
        self.hidden = _as_widths(hidden, "hidden")
        self.dropout = as_real(dropout, "dropout")
        if not 0 <= self.dropout < 1:
            raise InputError(f"expected dropout from 0 to below 1, got {dropout}")
        width = math.prod(self.input_shape)
        self.standardize = Standardize(width)
        layers: list[nn.Module] = []
        for number in self.hidden:
            layers += [nn.Linear(width, number, bias=False), nn.BatchNorm1d(number)]
            layers += [nn.GELU(), nn.Dropout(self.dropout)]
            width = number
        self.layers = nn.Sequential(*layers)
        self.d_out = width

    def prepare(self, x: Tensor) -> None:
        """Set the scale."""
        self.standardize.prepare(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, d_out)."""
        features: Tensor = self.layers(self.standardize(x.flatten(1)))
        return features


def _convolution(channels: int, width: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)


def _halving(channels: int, width: int) -> list[nn.Module]:
    """Return a convolution that halves the image."""
    return [_convolution(channels, width), nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.GELU()]


class ConvNet(nn.Module):
    """A small convolutional network that trains on a processor in minutes.

    A frozen layer whitens patches of 2 x 2 pixels, stages of two convolutions follow, then the
    largest value of each channel: the plan of Jordan, "94 % on CIFAR-10 in 3.29 seconds", 2024.

    Parameters
    ----------
    input_shape : (C, H, W)
    widths : sequence of int
        Channels of the stages, each of which halves the image.

    Raises
    ------
    DimensionError
        If the image is too small for so many stages.
    """

    def __init__(self, input_shape: Any, widths: Iterable[int] = (64, 128, 256)) -> None:
        super().__init__()
        self.widths = _as_widths(widths, "widths")
        self.input_shape = _as_image(input_shape, 1 + 2 ** len(self.widths))
        self.front = Whitening(self.input_shape[0])
        layers: list[nn.Module] = []
        width = self.front.d_out
        for number in self.widths:
            layers += _halving(width, number)
            layers += [_convolution(number, number), nn.BatchNorm2d(number), nn.GELU()]
            width = number
        self.stages = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.d_out = width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, x: Tensor) -> None:
        """Set the scale and the whitening."""
        self.front.prepare(x)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, d_out)."""
        features: Tensor = self.stages(self.front(x))
        return features


class _Residual(nn.Module):
    """relu(two convolutions of x + x)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, width, stride=stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if (channels, stride) != (width, 1):
            self.shortcut.append(_convolution(channels, width, size=1, stride=stride))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A residual network for small images.

    He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2: three groups
    of residual blocks of two convolutions, the second and third group halve the image, then the
    mean of each channel. Before them stand the whitening of `ConvNet` and a convolution that halves
    the image, for a quarter of the paper's cost.

    Parameters
    ----------
    input_shape : (C, H, W)
    depth : int
        2 * len(widths) * n + 2 for groups of n blocks: 8, 14, 20, ... with three groups.
    widths : sequence of int
        Channels of the groups.

    Raises
    ------
    InputError, DimensionError
        If the depth is none of these, or the image smaller than 3 x 3.
    """

    def __init__(
        self, input_shape: Any, depth: int = 20, widths: Iterable[int] = (64, 128, 256)
    ) -> None:
        super().__init__()
        self.input_shape = _as_image(input_shape, 3)
        self.widths = _as_widths(widths, "widths")
        self.depth = as_size(depth, "depth")
        if not self.widths:
            raise InputError("expected at least one number in widths, got none")
        per_block = 2 * len(self.widths)
        blocks, rest = divmod(self.depth - 2, per_block)
        if blocks < 1 or rest or self.depth > _MOST_LAYERS:
            raise InputError(
                f"expected a depth of {per_block} n + 2 up to {_MOST_LAYERS}, got {depth}"
            )
        self.front = Whitening(self.input_shape[0])
        width = self.widths[0]
        layers = _halving(self.front.d_out, width)
        for group, number in enumerate(self.widths):
            for block in range(blocks):
                layers.append(_Residual(width, number, 2 if group and not block else 1))
                width = number
        self.groups = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.d_out = width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, x: Tensor) -> None:
        """Set the scale and the whitening."""
        self.front.prepare(x)

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, d_out)."""
        features: Tensor = self.groups(self.front(x))
        return features


class AlexNet(nn.Module):
    """AlexNet up to its layer fc7, for weights that a user has.

    Krizhevsky et al., NIPS 2012, in the shape of torchvision, whose names of weights it has;
    dropout follows fc6 and fc7, as in Caffe's. Images are resized to 224 x 224 and standardized by
    the mean and deviation of ImageNet; their channels are red, green and blue, 0 to 255.

    Parameters
    ----------
    input_shape : (3, H, W)

    Attributes
    ----------
    rates : dict
        Factors of the learning rate by name of the parameter; 1 for others. Biases learn twice as
        fast, as in Caffe and in DQN (Cao et al., AAAI 2016).
    """

    def __init__(self, input_shape: Any = (3, 224, 224)) -> None:
        super().__init__()
        self.input_shape = _as_image(input_shape, 1)
        if self.input_shape[0] != 3:
            raise DimensionError(f"expected images of 3 channels, got {self.input_shape}")
        self.standardize = Standardize(3)
        self.standardize.mean.copy_(255 * torch.tensor([0.485, 0.456, 0.406]))
        self.standardize.scale.copy_(255 * torch.tensor([0.229, 0.224, 0.225]))
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(256 * 6 * 6, 4096), nn.ReLU(), nn.Dropout()),
            *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
        )
        self.d_out = 4096
        self.rates = {n: 2.0 for n, _ in self.named_parameters() if n.endswith(".bias")}

    def load_pretrained(self, state_dict: Mapping[str, Any]) -> None:
        """Take the weights of a torchvision AlexNet; those of its last layer are passed over.

        Raises FormatError if a name or a shape is not as there.
        """
        given = {n: w for n, w in state_dict.items() if not n.startswith("classifier.6.")}
        own = {n: w for n, w in self.state_dict().items() if not n.startswith("standardize.")}
        require_same(own, given)
        for name, weights in own.items():
            weights.copy_(torch.as_tensor(given[name]))

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, 4096) of fc7."""
        x = self.standardize(x)
        if x.shape[2:] != (224, 224):
            x = interpolate(x, size=(224, 224), mode="bilinear", antialias=True)
        features: Tensor = self.classifier(self.features(x))
        return features


# ---- checks --------------------------------------------------------------------------------------


def as_shape(input_shape: Any) -> Shape:
    """Shape of one vector, (d,), also given as d, or of one image: three positive ints.

    Raises DimensionError for another length, InputError for numbers out of range.
    """
    one = not isinstance(input_shape, Iterable)
    given = (input_shape,) if one else as_tuple(input_shape, "input_shape")
    shape = tuple(as_size(number, "a number in input_shape") for number in given)
    if len(shape) not in (1, 3):
        raise DimensionError(f"expected an input_shape (d,) or of 3 numbers, got {shape}")
    if math.prod(shape) > _MOST_NUMBERS:
        raise InputError(f"expected an input_shape of at most {_MOST_NUMBERS} numbers, got {shape}")
    return shape


def as_width(value: Any, name: str) -> int:
    """Return the width of a layer, a positive int."""
    width = as_size(value, name)
    if width > _MOST_WIDTH:
        raise InputError(f"expected {name} of at most {_MOST_WIDTH}, got {width}")
    return width


def _as_widths(values: Any, name: str) -> Shape:
    if not isinstance(values, Iterable):
        raise KindError(f"expected {name} to be a sequence, got {type(values).__name__}")
    widths = tuple(as_width(value, f"a number in {name}") for value in values)
    if len(widths) > _MOST_LAYERS:
        raise InputError(f"expected at most {_MOST_LAYERS} numbers in {name}, got {len(widths)}")
    return widths


def _as_image(input_shape: Any, least: int) -> Shape:
    """Check the shape of an image whose sides are of at least so many pixels."""
    shape = as_shape(input_shape)
    if len(shape) != 3 or min(shape[1:]) < least:
        raise DimensionError(
            f"expected an input_shape (C, H, W) of at least {least} x {least} pixels, got {shape}"
        )
    return shape


def require_same(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
    """Raise FormatError unless names and shapes of weights are those of a module."""
    if not isinstance(given, Mapping) or own.keys() != given.keys():
        names = given.keys() if isinstance(given, Mapping) else set()
        lacking, unknown = sorted(own.keys() - names), sorted(names - own.keys())
        raise FormatError(
            f"expected weights {', '.join(lacking) or 'of these names only'}"
            f", got {', '.join(map(str, unknown)) or 'none'}"
        )
    for name, tensor in own.items():
        shape = getattr(given[name], "shape", None)
        if shape is None or tuple(shape) != tuple(tensor.shape):
            raise FormatError(f"expected {name} of shape {tuple(tensor.shape)}, got {shape}")
