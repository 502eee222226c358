"""Small networks over images, as encoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import deepq
from deepq import NetworkEncoder
from deepq.encoders import Affine, Chain, Rotation
from deepq.networks import Bottleneck, ConvNet, Embedding

SHAPE, M, NBITS = (3, 8, 6), 4, 4
D = 3 * 8 * 6
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (300, *SHAPE), np.uint8)
ROWS = IMAGES.reshape(300, D).astype(np.float32)


class Net(nn.Module):
    """A user's own, of images, with parts that differ in training."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.scale = nn.BatchNorm2d(3)
        self.convolution = nn.Conv2d(3, width, 3)
        self.rest = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.convolution(self.scale(x))).mean((2, 3))


class Line(nn.Module):
    """A user's own, of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(D, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x / 255)


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    network = Net()
    network.train()(torch.from_numpy(ROWS.reshape(IMAGES.shape)))
    return network


def known() -> nn.Module:
    torch.manual_seed(1)
    network = Embedding(ConvNet(SHAPE, (8,)), Bottleneck(8, 8))
    network.prepare(torch.from_numpy(ROWS.reshape(IMAGES.shape)))
    return network


def of_user() -> NetworkEncoder:
    return NetworkEncoder(net(), SHAPE, fitted=True)


def of_deepq() -> NetworkEncoder:
    return NetworkEncoder(known(), SHAPE, fitted=True)


def chained() -> Chain:
    return Chain([Affine(np.eye(D) * 0.5), of_user(), Rotation(8)])


def filled(encoder: Any, x: Any = ROWS, **options: Any) -> deepq.DeepQuantIndex:
    options = {"training": PLAIN, **options}
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=encoder, **options)
    index.train(x)
    index.add(x)
    return index
