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
