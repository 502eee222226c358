"""Every network, small, and what goes into it."""

from __future__ import annotations

import torch

from deepq.networks import (
    MLP,
    Bottleneck,
    ConvNet,
    DivideAndEncode,
    Embedding,
    Probabilities,
    ResNet,
)

IMAGE = (3, 12, 10)


def pixels(n: int = 6, shape: tuple[int, ...] = IMAGE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), generator=generator).float()


MAKE = {
    "MLP": lambda: MLP(20, (16, 8), 0.1),
    "MLP without layers": lambda: MLP((20,), ()),
    "ConvNet": lambda: ConvNet(IMAGE, (4, 6)),
    "ResNet": lambda: ResNet(IMAGE, 14, (4, 6, 8)),
    "Bottleneck": lambda: Bottleneck(20, 6, on_pretrained=True),
    "Bottleneck with norm": lambda: Bottleneck(20, 6, batch_norm=True),
    "DivideAndEncode": lambda: DivideAndEncode(20, 6, 5, 0.1),
    "Probabilities": lambda: Probabilities(20, 5, 8, 0.5),
    "Embedding": lambda: Embedding(ConvNet(IMAGE, (4,)), Bottleneck(4, 6, tanh=False)),
}


def inputs(name: str, n: int = 6) -> torch.Tensor:
    images = ("ConvNet", "ResNet", "Embedding")
    return pixels(n, IMAGE if name in images else (20,))
