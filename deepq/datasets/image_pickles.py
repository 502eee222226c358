"""Pickles of images, as CIFAR and ImageNet-32 come in: read without running anything."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError
from deepq._common.types import Ids

Pixels = npt.NDArray[np.uint8]

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def images_in_pickle(name: str, content: bytes, key: str) -> tuple[Pixels, Ids]:
    """Images and labels of a pickled batch; `key` names the labels in it.

    Raises FormatError, which says `name`, for anything else.
    """
    rows = entry_of(name, content, "data", _Array).rows
    labels = entry_of(name, content, key, list, _Array)
    if isinstance(labels, _Array):
        labels = labels.rows.tolist()
    if not all(isinstance(label, int) for label in labels):
        raise FormatError(f"{name}: expected integers in {key}")
    return as_images(name, rows, np.array(labels, np.int64))


def as_images(name: str, rows: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[Pixels, Ids]:
    """Images (n, 3, 32, 32) of rows (n, 3072) of bytes. Raises FormatError for any others."""
    if rows.ndim != 2 or rows.shape[1] != PIXELS or not len(rows):
        raise FormatError(f"{name}: expected data of shape (n, {PIXELS}), got {rows.shape}")
    if rows.dtype != np.uint8:
        raise FormatError(f"{name}: expected data of bytes, got {rows.dtype}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise FormatError(f"{name}: expected labels of integers, got {labels.dtype}")
    return np.array(rows).reshape(-1, *SHAPE), labels.astype(np.int64)


def entry_of(name: str, content: bytes, key: str, *kinds: type[Any]) -> Any:
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
    """A type of numbers, as far as its pickle tells."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        name = code.decode() if isinstance(code, bytes) else code
        if name not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
            raise pickle.UnpicklingError(f"numbers of type {code!r}")
        self.numpy = np.dtype(f"<{name}")

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Take the byte order, the second part; single bytes have none."""
        if state[1] in (b">", ">"):
            self.numpy = self.numpy.newbyteorder(">")


class _Array:
    """A NumPy array of numbers, as far as its pickle tells."""

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
