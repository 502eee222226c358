"""Files of vectors: NumPy's, and the ``vecs`` formats of TEXMEX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError
from deepq._common.types import Ids

_VECS: dict[str, np.dtype[Any]] = {
    ".fvecs": np.dtype("<f4"),
    ".ivecs": np.dtype("<i4"),
    ".bvecs": np.dtype("u1"),
}
_SMALL, _SAMPLE = 1 << 24, 1000  # bytes of files of which every row is looked at, and rows else


def read_vectors(path: str | Path) -> npt.NDArray[Any]:
    """Return the one array (n, d) of a ``.npy``, ``.fvecs``, ``.ivecs`` or ``.bvecs`` file.

    It is mapped from the file, read-only, in the file's own dtype: what is not used is not read. In
    the ``vecs`` formats every row is its length as a little-endian int32 and then its numbers. The
    lengths of all rows are compared in files of up to 16 MiB, those of 1000 rows in larger ones.

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
    d = _lengths(path, np.zeros(1, np.int64))[0]
    row = 4 + d * dtype.itemsize
    if d <= 0 or size % row:
        raise FormatError(
            f"{path}: expected rows of one length, got a first row of {d} numbers in {size} bytes"
        )
    if size > _SMALL:  # it may be more than there is memory for
        looked_at = np.unique(np.linspace(0, size // row - 1, _SAMPLE).astype(np.int64))
        widths = _lengths(path, looked_at * row)
    else:
        looked_at = np.arange(size // row)
        widths = np.fromfile(path, np.uint8).reshape(-1, row)[:, :4].copy().view("<i4")[:, 0]
    if (widths != d).any():
        bad = np.flatnonzero(widths != d)[0]
        row_number, got = looked_at[bad], widths[bad]
        raise FormatError(f"{path}: expected {d} numbers in row {row_number}, got {got}")
    return np.memmap(path, np.uint8, mode="r").reshape(-1, row)[:, 4:].view(dtype)


def _lengths(path: Path, offsets: Ids) -> Ids:
    """Read the lengths of rows that begin at some offsets in a file."""
    with path.open("rb", buffering=0) as file:
        found = []
        for offset in offsets.tolist():
            file.seek(offset)
            found.append(int.from_bytes(file.read(4), "little", signed=True))
    return np.array(found, np.int64)
