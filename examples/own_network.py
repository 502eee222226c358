"""Search images by what they show, with a network of one's own.

    pip install '.[train]'
    python examples/own_network.py

The images are made here: squares, crosses and stripes, of any colour, at any place. Near pixels say
nothing about that, a network that has learned from labels does. A code has 4 bytes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import deepq


def pictures(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make n images (n, 3, 16, 16) of bytes, and what they show."""
    images = rng.integers(0, 60, (n, 3, 16, 16)).astype(np.uint8)
    kinds = rng.integers(3, size=n)
    for image, kind in zip(images, kinds, strict=True):
        shape = np.zeros((9, 9), bool)
        shape[1:-1, 1:-1] = kind == 0
        shape[4] = shape[:, 4] = kind == 1
        shape[::2] |= kind == 2
        top, left = rng.integers(0, 8, 2)
        colour = rng.integers(60, 190, (3, 1), np.uint8)
        image[:, top : top + 9, left : left + 9][:, shape] += colour
    return images, kinds


class Net(nn.Sequential):
    """Any module will do that makes (n, d_out) of (n, 3, 16, 16). It takes bytes as they are."""

    def __init__(self) -> None:
        super().__init__(
            nn.BatchNorm2d(3), nn.Conv2d(3, 32, 5, stride=2), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 64),
        )  # fmt: skip


def main() -> None:
    """Learn, store, search, save and load."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    (images, kinds), (asked, right) = pictures(3000, rng), pictures(200, rng)
    training = deepq.TrainConfig(epochs=8, batch_size=100)
    index = deepq.recipes.dqn((3, 16, 16), 32, backbone=Net(), training=training)
    index.train(images[:2000], kinds[:2000])
    index.add(images)
    deepq.write_index(index, "pictures.dpq")  # with the weights; the class is yours
    index = deepq.read_index("pictures.dpq", encoder=index.encoder.network)
    found = deepq.evaluate(index, asked, measures=["precision@100"], labels=(right, kinds))
    print(f"of the first 100 results {found['precision@100']:.0%} show the same")


if __name__ == "__main__":
    main()
