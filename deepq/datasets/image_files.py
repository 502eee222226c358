"""Small labelled images in the files of their authors: CIFAR-10 and -100, SVHN, ImageNet-32."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import DimensionError, FormatError
from deepq._common.types import Ids
from deepq.datasets.image_pickles import (
    PIXELS,
    SHAPE,
    Pixels,
    as_images,
    entry_of,
    images_in_pickle,
)


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images of one size with one class each, in the two parts that their authors made.

    Attributes
    ----------
    name : str
        For tables and pictures.
    train, test : (n, channels, height, width) uint8
        The images.
    train_labels, test_labels : (n,) int64
        The class of each.
    label_names : tuple of str
        The name of each class, where known.

    Raises
    ------
    InputError, DimensionError
        If the parts do not fit each other.
    """

    name: str
    train: Pixels
    train_labels: Ids
    test: Pixels
    test_labels: Ids
    label_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ImageSet {self.name}: train {self.train.shape}, test {self.test.shape}>"

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, labels = getattr(self, part), getattr(self, f"{part}_labels")
            if x.ndim != 4 or x.shape[1:] != self.train.shape[1:]:
                raise DimensionError(
                    f"{self.name}: expected {part} of shape (n, channels, height, width), all of "
                    f"one size, got {x.shape}"
                )
            if labels.shape != (len(x),):
                raise DimensionError(
                    f"{self.name}: expected {len(x)} labels for {part}, got shape {labels.shape}"
                )


def cifar10(path: str | Path) -> ImageSet:
    """Read CIFAR-10 as published: 50,000 and 10,000 colour images of 32 x 32 in 10 classes.

    Parameters
    ----------
    path : str or Path
        The ``.tar.gz`` of the "python version" or of the "binary version", or a folder with its
        files: ``data_batch_1`` to ``data_batch_5`` and ``test_batch``, or the same with ``.bin``.

    Returns
    -------
    ImageSet
        The images in the order of the files; the names of the classes from ``batches.meta`` or
        ``batches.meta.txt``, if that is there.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    FormatError
        If files are missing or damaged. The files of the python version are pickles, as published
        or saved anew; of a pickle that asks for anything but numbers, strings and arrays of
        integers nothing is run.

    Notes
    -----
    A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
    https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    train = tuple(f"data_batch_{i}" for i in range(1, 6))
    its = _Cifar(
        "CIFAR-10", 10, train, "test_batch", "batches.meta", "batches.meta.txt", "labels", 1, 0
    )
    return _read_cifar(Path(path), its)


def cifar100(path: str | Path, *, coarse: bool = False) -> ImageSet:
    """Read CIFAR-100 as published: 50,000 and 10,000 colour images of 32 x 32 in 100 classes.

    Parameters
    ----------
    path : str or Path
        The ``.tar.gz`` of the "python version" or of the "binary version", or a folder with its
        files: ``train`` and ``test``, or ``train.bin`` and ``test.bin``.
    coarse : bool
        Label with the 20 superclasses.

    Returns
    -------
    ImageSet
        As `cifar10` gives it; the names are in ``meta``, or ``fine_label_names.txt`` and
        ``coarse_label_names.txt``.

    Raises
    ------
    FileNotFoundError, ValueError
        As `cifar10` does.
    """
    kind, classes, label_at = ("coarse", 20, 0) if coarse else ("fine", 100, 1)
    text, key = f"{kind}_label_names.txt", f"{kind}_labels"
    its = _Cifar("CIFAR-100", classes, ("train",), "test", "meta", text, key, 2, label_at)
    return _read_cifar(Path(path), its)


def svhn(folder: str | Path) -> ImageSet:
    """Read SVHN's cropped digits as published: 73,257 and 26,032 colour images of 32 x 32.

    scipy reads the files: ``pip install scipy``.

    Parameters
    ----------
    folder : str or Path
        Where ``train_32x32.mat`` and ``test_32x32.mat`` are.

    Returns
    -------
    ImageSet
        The label is the digit; the files have 10 for 0.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ImportError
        If scipy is missing.
    FormatError
        If a file is damaged.

    Notes
    -----
    Y. Netzer et al., "Reading digits in natural images with unsupervised feature learning", 2011;
    http://ufldl.stanford.edu/housenumbers/.
    """
    train, test = (_read_svhn(Path(folder) / f"{part}_32x32.mat") for part in ("train", "test"))
    return ImageSet("SVHN", *train, *test, tuple("0123456789"))


def imagenet32(folder: str | Path) -> ImageSet:
    """Read ImageNet in 32 x 32 pixels as published: 1,281,167 and 50,000 images of 1,000 classes.

    Parameters
    ----------
    folder : str or Path
        Where ``train_data_batch_1`` to ``train_data_batch_10`` and ``val_data`` are, or the same
        with ``.npz``. The images take 4.1 GB of memory.

    Returns
    -------
    ImageSet
        Labels from 0 on, where the files have them from 1 on.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    FormatError
        If a file is damaged. Of the pickles nothing is run: see `cifar10`.

    Notes
    -----
    P. Chrabaszcz, I. Loshchilov & F. Hutter, "A downsampled variant of ImageNet as an alternative
    to the CIFAR datasets", arXiv 1707.08819, 2017.
    """
    *batches, test = (
        _imagenet_batch(Path(folder) / name)
        for name in (*(f"train_data_batch_{i}" for i in range(1, 11)), "val_data")
    )
    x = np.empty((sum(len(labels) for _, labels in batches), *SHAPE), np.uint8)
    np.concatenate([images for images, _ in batches], out=x)
    y = np.concatenate([labels for _, labels in batches])
    _check_labels(Path(folder), np.concatenate([y, test[1]]), 1, 1000)
    return ImageSet("ImageNet-32", x, y - 1, test[0], test[1] - 1)


def _imagenet_batch(path: Path) -> tuple[Pixels, Ids]:
    if path.is_file():
        return images_in_pickle(path.name, path.read_bytes(), "labels")
    arrays = path.with_name(f"{path.name}.npz")
    if not arrays.is_file():
        raise FileNotFoundError(f"expected a file {path}, or {arrays.name}")
    try:
        with np.load(arrays, allow_pickle=False) as opened:
            return as_images(arrays.name, opened["data"], opened["labels"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{arrays}: expected arrays data and labels, got: {error}") from error


@dataclass(frozen=True)
class _Cifar:
    """What the files of one of the two sets are called and hold."""

    name: str
    classes: int
    train: tuple[str, ...]
    test: str
    meta: str  # names of the classes, in the python version
    text: str  # the same, in the binary version
    key: str  # of the labels, in the python version
    label_bytes: int  # before the pixels of an image, in the binary version
    label_at: int  # which of them is the label


def _read_cifar(path: Path, its: _Cifar) -> ImageSet:
    python = (*its.train, its.test)
    binary = tuple(f"{name}.bin" for name in python)
    files = _contents(path, {*python, *binary, its.meta, its.text})
    names: tuple[str, ...] = ()
    if files.keys() >= set(python):
        *train, test = (images_in_pickle(name, files[name], its.key) for name in python)
        if its.meta in files:
            listed = entry_of(its.meta, files[its.meta], f"{its.key[:-1]}_names", list)
            names = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in listed)
    elif files.keys() >= set(binary):
        *train, test = (_from_binary(name, files[name], its) for name in binary)
        names = tuple(files.get(its.text, b"").decode().split())
    else:
        raise FormatError(
            f"{path}: expected {', '.join(python)}, or the same with .bin, "
            f"got {', '.join(sorted(files)) or 'none of them'}"
        )
    x, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    _check_labels(path, np.concatenate([labels, test[1]]), 0, its.classes - 1)
    return ImageSet(its.name, x, labels, *test, names)


def _contents(path: Path, names: set[str]) -> dict[str, bytes]:
    """Return the bytes of those files of a folder or ``.tar.gz`` that have one of the names."""
    if path.is_dir():
        return {name: (path / name).read_bytes() for name in names if (path / name).is_file()}
    try:
        with tarfile.open(path, "r:*") as archive:  # in the order of the file: it cannot seek
            opened = ((Path(m.name).name, archive.extractfile(m)) for m in archive)
            return {name: file.read() for name, file in opened if file and name in names}
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: expected a folder or a .tar.gz, got: {error}") from error


def _from_binary(name: str, content: bytes, its: _Cifar) -> tuple[Pixels, Ids]:
    width = its.label_bytes + PIXELS
    if not content or len(content) % width:
        raise FormatError(f"{name}: expected images of {width} bytes, got {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, width)
    return (
        rows[:, its.label_bytes :].copy().reshape(-1, *SHAPE),
        rows[:, its.label_at].astype(np.int64),
    )


def _read_svhn(path: Path) -> tuple[Pixels, Ids]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            "expected scipy, to read .mat files, got none: pip install scipy"
        ) from error
    if not path.is_file():
        raise FileNotFoundError(f"expected a file {path}")
    try:
        arrays = loadmat(path, variable_names=["X", "y"])
    except (ValueError, TypeError, NotImplementedError) as error:
        raise FormatError(f"{path}: expected a MATLAB 5 file, got: {error}") from error
    if missing := {"X", "y"} - arrays.keys():
        raise FormatError(
            f"{path}: expected arrays X and y, got no {' and '.join(sorted(missing))}"
        )
    x, labels = arrays["X"], arrays["y"].ravel()
    if x.ndim != 4 or x.shape[:3] != (32, 32, 3) or x.dtype != np.uint8:
        raise FormatError(
            f"{path}: expected X of shape (32, 32, 3, n) and dtype uint8, got {x.shape}, {x.dtype}"
        )
    _check_labels(path, labels, 1, 10)
    return np.ascontiguousarray(x.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10


def _check_labels(path: Path, labels: npt.NDArray[Any], least: int, most: int) -> None:
    if len(labels) and not least <= labels.min() <= labels.max() <= most:
        raise FormatError(
            f"{path}: expected labels from {least} to {most}, got {labels.min()} to {labels.max()}"
        )
