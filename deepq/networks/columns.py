"""Columns of vectors that are in one unit, and those in others."""

from __future__ import annotations

import torch
from torch import Tensor

_APART = 8.0  # deviations of columns of two kinds
_RARE = 16.0  # deviations that a number is away from the mean which is hardly ever another


def variance_by_group(numbers: Tensor, variance: Tensor) -> Tensor:
    """Mean variance (d,) of the group of each column of d x n numbers: see `backbones.Standardize`.

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
