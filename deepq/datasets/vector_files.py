"""Files of vectors: NumPy's, and the ``vecs`` formats of TEXMEX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError

_VECS: dict[str, np.dtype[Any]] = {
    ".fvecs": np.dtype("<f4"),
    ".ivecs": np.dtype("<i4"),
    ".bvecs": np.dtype("u1"),
}


def read_vectors(path: str | Path) -> npt.NDArray[Any]:
    """Return the one array (n, d) of a ``.npy``, ``.fvecs``, ``.ivecs`` or ``.bvecs`` file.

    It is mapped from the file, read-only, in the file's own dtype. In the ``vecs`` formats every
    row is its length as a little-endian int32 and then its numbers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FormatError
        If the suffix is not one of the four or the content is damaged.
    """
    path = Path(path)
    if path.suffix == ".npy":
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim != 2:
            raise FormatError(f"{path}: expected an array of shape (n, d), got {array.shape}")
        return array
    if path.suffix not in _VECS:
        known = ", ".join([".npy", *_VECS])
        raise FormatError(f"{path}: expected a file that ends in one of {known}")
    return _read_vecs(path, _VECS[path.suffix])


def _read_vecs(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    size = path.stat().st_size
    if size < 4:
        raise FormatError(f"{path}: expected at least one vector, got {size} bytes")
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    d = int(raw[:4].view("<i4")[0])
    row = 4 + d * dtype.itemsize
    if d <= 0 or size % row:
        raise FormatError(
            f"{path}: expected rows of one length, got a first row of {d} numbers in {size} bytes"
        )
    rows = raw.reshape(-1, row)
    widths = rows[:, :4].copy().view("<i4")
    if (widths != d).any():
        bad = int(np.flatnonzero(widths[:, 0] != d)[0])
        raise FormatError(f"{path}: expected {d} numbers in row {bad}, got {widths[bad, 0]}")
    return rows[:, 4:].view(dtype)
