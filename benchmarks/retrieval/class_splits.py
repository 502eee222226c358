"""Rows of one class each, split as Jeong, Kim & Song (CVPR 2019) split CIFAR-100."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from benchmarks.retrieval import images
from deepq.datasets import ImageSet, cifar100, imagenet32, wordnet_glosses
from deepq.encoders import Encoder

_SEED = 40  # the paper's
_HELD = 5000  # training images that settings are chosen by
_FEWEST = 8  # rows of a class of texts
_PART = 12  # of a class's texts, one in so many chooses settings, and two are queries


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to learn from and to store, to choose settings by, and to search with.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of one row.
    parts : dict of str to (x, y)
        "train", "held" and "query": rows (n, d) and their classes (n,).
    """

    name: str
    shape: tuple[int, ...]
    parts: dict[str, tuple[NDArray[Any], NDArray[Any]]]

    def encoded(self, encoder: Encoder) -> Split:
        """Return the same with embeddings as rows."""
        parts = {name: (encoder.encode(x), y) for name, (x, y) in self.parts.items()}
        return Split(self.name, (encoder.d_out,), parts)

    def cut(self, rows: int) -> Split:
        """Keep the first rows of each part."""
        parts = {name: (x[:rows], y[:rows]) for name, (x, y) in self.parts.items()}
        return Split(self.name, self.shape, parts)


def load(path: str | None) -> Split:
    """Split the data at a path.

    A folder or archive of CIFAR-100 or ImageNet-32 as published, 45,000 / 5,000 / 10,000 images of
    the first; an .npz of CIFAR-10 as JPEG; or one of texts with `parent_row`, the row of the text
    that stands above each, whose classes these are. None: the set that ships, by lexicographer.
    """
    if path is None:
        data = wordnet_glosses()
        return _of_texts("wordnet_glosses", data.train, np.asarray(data.train_labels))
    if not path.endswith(".npz"):
        return _of_images(_published(Path(path)))
    with np.load(path, allow_pickle=False) as arrays:
        if "parent_row" not in arrays:
            return _of_images(images.load(Path(path)))
        x = np.concatenate([arrays[part] for part in ("query", "base", "train")])
        x = x.astype(np.float32) / np.float32(arrays["scale"])
        return _of_texts(Path(path).stem, x, arrays["parent_row"].astype(np.int64))


def _published(path: Path) -> ImageSet:
    is_imagenet = any((path / f"val_data{end}").exists() for end in ("", ".npz"))
    return imagenet32(path) if is_imagenet else cifar100(path)


def _of_images(found: ImageSet) -> Split:
    x, y = found.train.reshape(len(found.train), -1), found.train_labels
    rows = np.arange(len(x))
    held = min(_HELD, len(x) // 10)
    train, chosen = train_test_split(rows, test_size=held, stratify=y, random_state=_SEED)
    parts = {
        "train": (x[train], y[train]),
        "held": (x[chosen], y[chosen]),
        "query": (found.test.reshape(len(found.test), -1), found.test_labels),
    }
    return Split(found.name, found.train.shape[1:], parts)


def _of_texts(name: str, x: NDArray[Any], y: NDArray[Any]) -> Split:
    """Split each class of at least 8 rows; a class below 0 is none."""
    classes, counts = np.unique(y[y >= 0], return_counts=True)
    kept = np.isin(y, classes[counts >= _FEWEST])
    x, y = x[kept], y[kept]
    rng, part = np.random.default_rng(_SEED), np.zeros(len(y), np.int64)
    for number in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == number))
        held, query = max(1, round(len(rows) / _PART)), max(1, round(2 * len(rows) / _PART))
        part[rows[:query]], part[rows[query : query + held]] = 2, 1
    names = ("train", "held", "query")
    return Split(name, x.shape[1:], {n: (x[part == i], y[part == i]) for i, n in enumerate(names)})
