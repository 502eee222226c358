"""HDF5 files: any data set of vectors in them, and those of ann-benchmarks and VIBE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError, InputError
from deepq._common.sources import BLOCK, RowSource
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2
from deepq.datasets.named import chosen, needed

Array = npt.NDArray[Any]

HDF5 = (".hdf5", ".h5")
# What the attribute "distance" of ann-benchmarks and of VIBE says.
_METRICS: dict[str, int | str] = {
    "euclidean": METRIC_L2,
    "angular": "cosine",
    "cosine": "cosine",
    "normalized": METRIC_INNER_PRODUCT,  # of vectors of length 1
    "ip": METRIC_INNER_PRODUCT,
}


def read_hdf5(path: Path, column: str | None) -> Array | RowSource:
    """Open a data set (n, d) of numbers: mapped, if it lies in one piece, else in blocks."""
    with opened_hdf5(path) as file:
        found: dict[str, Any] = {}

        def keep(name: str, item: Any) -> None:
            if _is_array(item):
                found[name] = item

        file.visititems(keep)
        tables = [name for name, item in found.items() if item.ndim == 2]
        return open_array(path, found[chosen(path, "data set", column, tables, found)])


def open_array(path: Path, data: Any) -> Array | RowSource:
    """Map a data set of h5py's, or make a source of it. Raises FormatError if it is not (n, d)."""
    name = data.name.lstrip("/")
    if data.ndim != 2 or data.dtype.kind not in "fiub":
        raise FormatError(
            f"{path}: expected numbers of shape (n, d) in {name!r}, got {data.dtype} of shape "
            f"{data.shape}"
        )
    at = data.id.get_offset()  # None where it is in chunks, or compressed, or empty
    if at is not None and not data.external and not data.is_virtual and _is_plain(data):
        return np.memmap(path, data.dtype, mode="r", offset=at, shape=data.shape)
    return Hdf5Rows(path, data)


class Hdf5Rows(RowSource):
    """Rows of a data set that lies in chunks."""

    def __init__(self, path: Path, data: Any) -> None:
        self._path, self._data = path, data.name
        n, d = data.shape
        height = data.chunks[0] if data.chunks else BLOCK
        bounds = [*range(0, n, -(-BLOCK // height) * height), n]
        super().__init__(f"{path}, {data.name.lstrip('/')}", bounds, d, data.dtype)

    def _read_part(self, i: int, size: int) -> Iterator[Array]:  # noqa: ARG002 - parts are small
        with opened_hdf5(self._path) as file:
            if self._data not in file:
                raise FormatError(f"{self._path}: expected {self._data!r}, as before, got none")
            try:
                part = file[self._data][self._bounds[i] : self._bounds[i + 1]]
            except OSError as error:
                raise FormatError(f"{self.name}: expected whole chunks, got: {error}") from error
        yield part


def benchmark_parts(path: Path) -> tuple[dict[str, Any], int | str]:
    """Open the parts of a file of ann-benchmarks or VIBE, and say what its neighbours are by.

    Returns
    -------
    dict
        "base", "query" and where known "gt": rows as `open_array` gives them.
    int or str
        A metric of faiss's, or "cosine".

    Raises
    ------
    FormatError
        If "train" or "test" is missing, or the distance is another.
    """
    with opened_hdf5(path) as file:
        missing = [name for name in ("train", "test") if not _is_array(file.get(name))]
        if missing:
            raise FormatError(
                f"{path}: expected data sets train and test, as ann-benchmarks has them, "
                f"got {', '.join(sorted(file)) or 'none'}"
            )
        distance = file.attrs.get("distance", "euclidean")
        distance = distance.decode() if isinstance(distance, bytes) else str(distance)
        if distance not in _METRICS:
            raise InputError(
                f"{path}: expected a distance of {', '.join(_METRICS)}, got {distance!r}"
            )
        names = {"base": "train", "query": "test", "gt": "neighbors"}
        parts = {part: open_array(path, file[n]) for part, n in names.items() if n in file}
        return parts, _METRICS[distance]


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """Open a file of HDF5. Raises FormatError where it is none, or is cut off."""
    h5py = needed("h5py", ".hdf5 files")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise FormatError(f"{path}: expected a whole HDF5 file, got: {error}") from error
    with file:
        yield file


def _is_array(item: Any) -> bool:
    """Whether this is a data set of h5py's with numbers, and no group."""
    return hasattr(item, "shape") and hasattr(item, "id") and item.dtype.kind in "fiub"


def _is_plain(data: Any) -> bool:
    """Whether the file holds the numbers as NumPy would, without bits that are no number's."""
    return bool(data.id.get_type().get_size() == data.dtype.itemsize and data.dtype.kind in "fiu")
