"""Files of safetensors: a JSON header that says where each tensor lies, and the tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError
from deepq._common.sources import BLOCK, RowSource
from deepq.datasets.named import chosen

Array = npt.NDArray[Any]

SAFETENSORS = (".safetensors",)
_MOST_HEADER = 100_000_000  # bytes, as the format has it
_DTYPES = dict(
    zip(
        ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8"),
        ("<f8", "<f4", "<f2", "<u2", "<i8", "<i4", "<i2", "i1", "<u8", "<u4", "<u2", "u1"),
        strict=True,
    )
)


def read_safetensors(path: Path, column: str | None) -> Array | RowSource:
    """Map a tensor (n, d); of bfloat16, which NumPy has not, make a source of float32."""
    tensors, start = _header(path)
    usable = [name for name, entry in tensors.items() if len(entry["shape"]) == 2]
    name = chosen(path, "tensor", column, usable, tensors)
    kind, shape, (low, high) = (tensors[name][key] for key in ("dtype", "shape", "data_offsets"))
    if kind not in _DTYPES or len(shape) != 2 or 0 in shape:
        raise FormatError(
            f"{path}: expected numbers of shape (n, d) in {name!r}, got {kind} of shape {shape}"
        )
    dtype = np.dtype(_DTYPES[kind])
    if high - low != shape[0] * shape[1] * dtype.itemsize or start + high > path.stat().st_size:
        raise FormatError(f"{path}: expected {shape} {kind} in {name!r}, got {high - low} bytes")
    array: Array = np.memmap(path, dtype, mode="r", offset=start + low, shape=tuple(shape))
    return BrainFloats(f"{path}, {name}", array) if kind == "BF16" else array


class BrainFloats(RowSource):
    """Rows of bfloat16, the upper halves of float32, in an array (n, d) of uint16."""

    def __init__(self, name: str, halves: npt.NDArray[np.uint16]) -> None:
        self._halves = halves
        n, d = halves.shape
        super().__init__(name, [*range(0, n, BLOCK), n], d, np.float32)

    def _read_part(self, i: int, size: int) -> Iterator[Array]:  # noqa: ARG002 - parts are small
        part = np.asarray(self._halves[self._bounds[i] : self._bounds[i + 1]])
        yield (part.astype(np.uint32) << 16).view(np.float32)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return what the header says of each tensor, and where the tensors begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if not 2 <= length <= min(_MOST_HEADER, size - 8):
            raise FormatError(f"{path}: expected a header and tensors, got {size} bytes without")
        try:
            tensors = json.loads(file.read(length))
            tensors.pop("__metadata__", None)
            for entry in tensors.values():
                numbers = (*entry["shape"], *entry["data_offsets"])
                low, high = entry["data_offsets"]
                if not all(type(i) is int and i >= 0 for i in numbers) or low > high:
                    raise ValueError("sizes that are none")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{path}: expected a header of safetensors, got: {error}") from error
    return tensors, 8 + length
