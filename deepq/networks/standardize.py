"""The first layer of a network: numbers of training data in a common scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, unfold

_APART = 8.0  # deviations of columns of two kinds
_RARE = 16.0  # deviations that a number is away from the mean which is hardly ever another
_PIXELS = 5_120_000  # of a sample, from which whitening is computed


class Standardize(nn.Module):
    """(x - mean) / scale, for every channel of images (n, C, H, W) or every column of rows (n, d).

    Before `prepare` it changes nothing. What has been prepared once stays as it is: the layers
    behind it have been trained with that.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def prepare(self, x: Tensor) -> None:
        """Take mean and standard deviation of training data.

        Columns share one deviation, as far as they are of one kind: where, among deviations by
        size, one is more than 8 times the one before, a group of columns begins with a deviation of
        its own, so that columns in other units do not hide the rest. Where there is no deviation
        but by rounding the scale is 1.
        """
        if self.is_prepared:
            return
        numbers = x.transpose(0, 1).flatten(1).double()  # in which no square is lost
        self.mean.copy_(numbers.mean(1))
        variance = numbers.var(1, correction=0)
        deviation = (variance if x.dim() == 4 else _by_group(numbers, variance)).sqrt()
        varies = deviation > torch.finfo(x.dtype).eps * numbers.mean(1).abs()
        self.scale.copy_(torch.where(varies & (deviation.float() > 0), deviation, 1.0))

    @property
    def is_prepared(self) -> bool:
        """Whether there are numbers of training data."""
        return bool((self.mean != 0).any() or (self.scale != 1).any())

    def forward(self, x: Tensor) -> Tensor:
        """Standardized numbers, of the same shape."""
        shape = (-1, *(1,) * (x.dim() - 2))
        return (x - self.mean.view(shape)) / self.scale.view(shape)


def _by_group(numbers: Tensor, variance: Tensor) -> Tensor:
    """Mean variance (d,) of the group of each column of d x n numbers: see `Standardize`.

    Columns that hardly ever change, so that chance decides how much, found no group.
    """
    deviation = variance.sqrt()
    peak = (numbers - numbers.mean(1, keepdim=True)).abs().amax(1)
    founding = torch.nonzero((deviation > 0) & (peak <= _RARE * deviation)).flatten()
    order = founding[deviation[founding].argsort()]
    begins = torch.nonzero(deviation[order][1:] > _APART * deviation[order][:-1]).flatten() + 1
    if not len(begins):
        return variance.mean().expand_as(variance)
    found = torch.empty_like(variance)
    least = deviation[order[begins]]  # of the groups but the first
    group = torch.bucketize(deviation, least, right=True)
    for number in range(len(least) + 1):
        members = group == number
        found[members] = variance[order][members[order]].mean()
    return found


class Whitening(nn.Module):
    """Frozen filters that make the numbers of a patch of 2 x 2 pixels independent, and a GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.standardize = Standardize(channels)
        self.filters = nn.Conv2d(channels, 8 * channels, 2)
        self.filters.weight.requires_grad_(False)
        self.d_out = 8 * channels

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Set the scale, and the filters from the eigenvectors of the patches' covariance."""
        if self.standardize.is_prepared:
            return
        self.standardize.prepare(x)
        sample = x[: max(1, _PIXELS // math.prod(x.shape[2:]))]
        patches = unfold(self.standardize(sample), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T.double().cov())
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).float()
        filters = filters.view(-1, *self.filters.weight.shape[1:])
        self.filters.weight.copy_(torch.cat([filters, -filters]))
        if self.filters.bias is not None:
            self.filters.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Features of the corners of every pixel."""
        x = self.standardize(x).contiguous(memory_format=torch.channels_last)
        return gelu(self.filters(x))
