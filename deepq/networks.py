"""The networks that encoders are made of, as torch modules; see `networks` for the encoder itself.

Every network takes rows (n, d_in) as a user has them, and gives features (n, d_out). Its first layer
brings the numbers to unit scale; `prepare` sets that layer from training rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

Shape = tuple[int, ...]


class Standardize(nn.Module):
    """(x - mean) / scale, for every channel of images (n, C, H, W) or every column of rows (n, d)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def prepare(self, x: Tensor) -> None:
        """Take mean and standard deviation of the training data; columns share one of these."""
        columns = x.transpose(0, 1).flatten(1)
        self.mean.copy_(columns.mean(1))
        deviation = columns.std(1) if x.dim() == 4 else columns.var(1).mean().sqrt()
        self.scale.copy_(deviation.clamp_min(1e-6).expand_as(self.scale))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *(1,) * (x.dim() - 2))
        return (x - self.mean.view(shape)) / self.scale.view(shape)


class MLP(nn.Module):
    """Fully connected layers, for vectors.

    Parameters
    ----------
    input_shape : (d,)
    hidden : sequence of int
        Widths of the layers; each has batch normalization, a GELU and dropout behind it.
    dropout : float
    """

    def __init__(
        self, input_shape: Shape, hidden: Sequence[int] = (1024,), dropout: float = 0.3
    ) -> None:
        super().__init__()
        width = math.prod(input_shape)
        self.standardize = Standardize(width)
        layers: list[nn.Module] = []
        for number in hidden:
            layers += [nn.Linear(width, number, bias=False), nn.BatchNorm1d(number)]
            layers += [nn.GELU(), nn.Dropout(dropout)]
            width = number
        self.layers = nn.Sequential(*layers)
        self.d_out = width

    def prepare(self, x: Tensor) -> None:
        """Set the scale."""
        self.standardize.prepare(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.standardize(x))


def _convolution(channels: int, width: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, padding=size // 2, bias=False)


class _Stage(nn.Sequential):
    """Two convolutions, the first of them followed by a pooling that halves the image."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            _convolution(channels, width),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            _convolution(width, width),
            nn.BatchNorm2d(width),
            nn.GELU(),
        )


class ConvNet(nn.Module):
    """A small convolutional network that trains on a processor in minutes.

    A frozen layer whitens patches of 2 x 2 pixels, stages of two convolutions follow, then the
    largest value of each channel: the plan of Jordan, "94 % on CIFAR-10 in 3.29 seconds", 2024.

    Parameters
    ----------
    input_shape : (C, H, W)
    widths : sequence of int
        Channels of the stages, each of which halves the image.
    """

    def __init__(self, input_shape: Shape, widths: Sequence[int] = (64, 128, 256)) -> None:
        super().__init__()
        channels = input_shape[0]
        self.standardize = Standardize(channels)
        self.whiten = nn.Conv2d(channels, 8 * channels, 2)
        self.whiten.weight.requires_grad_(False)
        stages, width = [], 8 * channels
        for number in widths:
            stages.append(_Stage(width, number))
            width = number
        self.stages = nn.Sequential(nn.GELU(), *stages, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.d_out = width
        self.to(memory_format=torch.channels_last)

    def prepare(self, x: Tensor) -> None:
        """Set the scale, and the whitening from the eigenvectors of patches."""
        self.standardize.prepare(x)
        patches = unfold(self.standardize(x[:5000]), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T.double().cov())
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).float()
        filters = filters.view(-1, *self.whiten.weight.shape[1:])
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.standardize(x).contiguous(memory_format=torch.channels_last)
        return self.stages(self.whiten(x))


def as_shape(s):
    return tuple(s) if not isinstance(s, int) else (s,)


class Bottleneck(nn.Module):
    def __init__(self, d_in, d_out, tanh=True, unit=False):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out)
        self.tanh, self.unit = tanh, unit

    def forward(self, x):
        z = self.linear(x)
        if self.tanh:
            z = torch.tanh(z)
        if self.unit:
            z = nn.functional.normalize(z, dim=1)
        return z


class Probabilities(nn.Module):
    def __init__(self, d_in, classes, d_out=None, temperature=1.0):
        super().__init__()
        self.linear = nn.Linear(d_in, classes)
        self.d_out = d_out or classes
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def forward(self, x):
        p = torch.softmax(self.linear(x).float() / self.temperature, 1)
        return nn.functional.pad(p, (0, self.d_out - p.shape[1]))


class Embedding(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))

    def prepare(self, x):
        self.backbone.prepare(x)
