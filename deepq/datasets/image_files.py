"""Small labelled images in the files of their authors: CIFAR-10, CIFAR-100 and SVHN."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import DimensionError, FormatError
from deepq._common.types import Ids

Pixels = npt.NDArray[np.uint8]

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


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
        *train, test = (_from_pickle(name, files[name], its.key) for name in python)
        if its.meta in files:
            listed = _entry(its.meta, files[its.meta], f"{its.key[:-1]}_names", list)
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
    width = its.label_bytes + _PIXELS
    if not content or len(content) % width:
        raise FormatError(f"{name}: expected images of {width} bytes, got {len(content)} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, width)
    return (
        rows[:, its.label_bytes :].copy().reshape(-1, *_SHAPE),
        rows[:, its.label_at].astype(np.int64),
    )


def _from_pickle(name: str, content: bytes, key: str) -> tuple[Pixels, Ids]:
    rows = _entry(name, content, "data", _Array).rows
    labels = _entry(name, content, key, list, _Array)
    if isinstance(labels, _Array):
        labels = labels.rows.tolist()
    if rows.ndim != 2 or rows.shape[1] != _PIXELS or not len(rows):
        raise FormatError(f"{name}: expected data of shape (n, {_PIXELS}), got {rows.shape}")
    if rows.dtype != np.uint8:
        raise FormatError(f"{name}: expected data of bytes, got {rows.dtype}")
    if not all(isinstance(label, int) for label in labels):
        raise FormatError(f"{name}: expected integers in {key}")
    return np.array(rows).reshape(-1, *_SHAPE), np.array(labels, np.int64)


def _entry(name: str, content: bytes, key: str, *kinds: type[Any]) -> Any:
    """Return one entry of a pickled dict, whose keys Python 2 wrote as bytes."""
    try:
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # of a damaged pickle it may be of any class
        raise FormatError(f"{name}: expected a pickle of CIFAR's, got: {error}") from error
    both = loaded if isinstance(loaded, dict) else {}
    found = both.get(key.encode(), both.get(key))
    if not isinstance(found, kinds):
        raise FormatError(f"{name}: expected a dict with {key}, got {type(found).__name__} for it")
    return found


class _Unpickler(pickle.Unpickler):
    """Loads what Python and NumPy wrote, old or new, and calls nothing but what is below for it."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module.replace('numpy._core', 'numpy.core')}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"{module}.{name}, which is not allowed")
        return known


class _Dtype:
    """A type of integers, as far as its pickle tells."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        name = code.decode() if isinstance(code, bytes) else code
        if name not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
            raise pickle.UnpicklingError(f"numbers of type {code!r}")
        self.numpy = np.dtype(f"<{name}")

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Take the byte order, the second part; single bytes have none."""
        if state[1] in (b">", ">"):
            self.numpy = self.numpy.newbyteorder(">")


class _Array:
    """A NumPy array of integers, as far as its pickle tells."""

    rows: npt.NDArray[Any]

    def __init__(self, *_: object) -> None:
        """Make an empty one, whatever of; all is in the state."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, fortran, content = state
        rows = np.frombuffer(content, dtype.numpy)
        self.rows = rows.reshape(shape, order="F" if fortran else "C")


def _from_buffer(content: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """Make an array as protocol 5 has it."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order in ("F", b"F"), content))
    return array


def _number(dtype: _Dtype, content: bytes) -> int:
    """Return one of NumPy's numbers."""
    return int(np.frombuffer(content, dtype.numpy, 1)[0])


def _encoded(text: str, encoding: str | bytes) -> bytes:
    """Return bytes as Python 3 writes them in the protocols of Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[str, Any] = {
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encoded,
}


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
