"""Files of vectors: NumPy's, TEXMEX's ``vecs``, and the ``bin`` of big-ann; all but .npz mapped."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError
from deepq._common.types import Ids
from deepq.datasets.named import chosen

_VECS: dict[str, np.dtype[Any]] = {
    ".fvecs": np.dtype("<f4"),
    ".ivecs": np.dtype("<i4"),
    ".bvecs": np.dtype("u1"),
}
_BINS: dict[str, np.dtype[Any]] = {
    ".fbin": np.dtype("<f4"),
    ".f16bin": np.dtype("<f2"),
    ".u8bin": np.dtype("u1"),
    ".i8bin": np.dtype("i1"),
    ".ibin": np.dtype("<i4"),
}
MAPPED = (".npy", *_VECS, *_BINS)
NPZ = (".npz",)
_SMALL, _SAMPLE = 1 << 24, 1000  # bytes of files of which every row is looked at, and rows else


def map_vectors(path: Path) -> npt.NDArray[Any]:
    """Map the array (n, d) of a file whose suffix is one of `MAPPED`: see `read_vectors`."""
    suffix = path.suffix.lower()
    if suffix in _BINS:
        return _map_bin(path, _BINS[suffix])
    if suffix in _VECS:
        return _map_vecs(path, _VECS[suffix])
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:  # no such file is an OSError
        raise FormatError(f"{path}: expected an array as numpy.save writes it: {error}") from error
    if array.ndim != 2:
        raise FormatError(f"{path}: expected an array of shape (n, d), got {array.shape}")
    if array.dtype.kind == "V":
        raise FormatError(
            f"{path}: expected numbers of a type of NumPy's own, got {array.dtype}: bfloat16 keeps "
            "its name in .safetensors"
        )
    return array


@contextmanager
def opened_npz(path: Path) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """Open an archive of arrays. Raises FormatError where it is none, or is damaged."""
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, Mapping):
                raise FormatError(f"{path}: expected an archive of arrays, got one array")
            yield arrays
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FormatError(f"{path}: expected a whole archive of arrays, got: {error}") from error


def read_npz(path: Path, column: str | None) -> npt.NDArray[Any]:
    """Read one array (n, d) of an archive into memory."""
    with opened_npz(path) as arrays:
        if column is None:  # which reads all
            column = chosen(path, "array", None, [n for n in arrays if arrays[n].ndim == 2], arrays)
        array = arrays[chosen(path, "array", column, (), arrays)]
    if array.ndim != 2:
        raise FormatError(f"{path}: expected {column!r} of shape (n, d), got {array.shape}")
    return array


def _map_bin(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Map what follows n and d. Behind ids there may be as many distances, which are left out."""
    size = path.stat().st_size
    if size < 8:
        raise FormatError(f"{path}: expected n and d in the first 8 bytes, got {size} bytes")
    n, d = np.fromfile(path, "<u4", 2).tolist()
    expected = 8 + n * d * dtype.itemsize
    has_distances = path.suffix.lower() == ".ibin" and size == expected + 4 * n * d
    if not n or not d or (size != expected and not has_distances):
        raise FormatError(
            f"{path}: expected {expected} bytes for {n} vectors of {d} {dtype}, got {size}"
        )
    return np.memmap(path, dtype, mode="r", offset=8, shape=(n, d))


def _map_vecs(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
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
