"""Images with labels, from the files that they are published in."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq.datasets import ImageSet, cifar10


def load(path: Path) -> ImageSet:
    """Read CIFAR-10 as published, or an .npz of it as JPEG.

    The latter has {train,test}_{jpeg,offsets,labels}: the bytes of all files one after the other,
    where each begins and the last ends, and their classes; and class_names.
    """
    if path.suffix != ".npz":
        return cifar10(path)
    with np.load(path, allow_pickle=False) as arrays:
        parts = [
            (_decoded(arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"]), arrays[f"{part}_labels"])
            for part in ("train", "test")
        ]
        names = tuple(map(str, arrays["class_names"]))
    (train, y), (test, z) = parts
    return ImageSet(path.stem, train, y.astype(np.int64), test, z.astype(np.int64), names)


def _decoded(data: NDArray[np.uint8], offsets: NDArray[Any]) -> NDArray[np.uint8]:
    from PIL import Image

    files = (data[a:b].tobytes() for a, b in pairwise(offsets))
    images = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def gradients(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of oriented gradients (n, d) of images (n, C, H, W).

    Dalal & Triggs, "Histograms of oriented gradients for human detection", CVPR 2005: cells of 8 x
    8 pixels, 9 directions without a sign, each pixel by the channel of its largest gradient; blocks
    of 2 x 2 cells, scaled to unit length. Votes are not shared among neighbouring cells.
    """
    return np.concatenate(
        [_gradients(some) for some in np.array_split(images, -(-len(images) // 500))]
    )


def _gradients(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = np.pad(images.astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    right = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    size = np.hypot(down, right)
    most = size.argmax(axis=1)[:, None]
    size, down, right = (np.take_along_axis(a, most, 1)[:, 0] for a in (size, down, right))
    at = np.mod(np.arctan2(down, right), np.pi) / np.pi * 9  # directions
    low = np.floor(at - 0.5).astype(int)
    part = at - 0.5 - low
    n, rows, columns = len(x), size.shape[1] // 8, size.shape[2] // 8
    cells = np.zeros((n, rows, columns, 9), np.float32)
    for direction in range(9):
        vote = size * ((low % 9 == direction) * (1 - part) + ((low + 1) % 9 == direction) * part)
        vote = vote[:, : 8 * rows, : 8 * columns].reshape(n, rows, 8, columns, 8)
        cells[..., direction] = vote.sum(axis=(2, 4))
    views = np.lib.stride_tricks.sliding_window_view(cells, (2, 2), axis=(1, 2))
    blocks = views.reshape(n, -1, 36)
    blocks = blocks / np.sqrt(np.square(blocks).sum(axis=2, keepdims=True) + 1)
    return blocks.reshape(n, -1).astype(np.float32)
