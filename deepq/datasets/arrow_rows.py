"""An array of Arrow's lists as rows of NumPy, without what lies outside of a slice or under a null.

Of a list of fixed size `values` ignores slices and keeps what lies under nulls, and `flatten` drops
rows of nulls, so that others move up. So nulls are looked for first, in the bits themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deepq._common.errors import FormatError, InputError
from deepq.datasets.named import needed

Array = npt.NDArray[Any]


def vector_type(kind: Any) -> tuple[int, np.dtype[Any]] | None:
    """Return what the vectors of a column of this Arrow type are; None where they are none.

    Returns
    -------
    int
        How many numbers they have; 0 where the type does not say.
    dtype
        Of what kind.
    """
    pa = needed("pyarrow", "Arrow's types")
    types = pa.types
    while hasattr(kind, "storage_type"):  # a tensor, or a type of another library's
        kind = kind.storage_type
    if types.is_fixed_size_binary(kind):
        return kind.byte_width, np.dtype(np.uint8)
    if not (types.is_nested(kind) and hasattr(kind, "value_type")):
        return None
    value = kind.value_type
    if not (types.is_integer(value) or types.is_floating(value) or types.is_boolean(value)):
        return None
    width = kind.list_size if types.is_fixed_size_list(kind) else 0
    return width, pa.array([], value).to_numpy(zero_copy_only=False).dtype


def as_rows(array: Any, where: str, first: int, d: int, dtype: np.dtype[Any]) -> Array:
    """Rows (n, d) of an Arrow array of lists, or of bytes of one width.

    Parameters
    ----------
    array : pyarrow.Array
        Of a type that `vector_type` knows; a slice or not.
    where : str
        What it is called in errors.
    first : int
        The number that a user knows its first row by.
    d, dtype
        As `vector_type` has them, but never 0.

    Raises
    ------
    InputError
        If a row, or a number in it, is null, or a row has another length; with its number.
    """
    while hasattr(array, "storage"):
        array = array.storage
    null = _first_null(array)
    if null is not None:
        raise InputError(f"{where}: expected no nulls, got one in row {first + null}")
    if needed("pyarrow.types", "Arrow's types").is_fixed_size_binary(array.type):
        data = np.frombuffer(array.buffers()[1], np.uint8)
        return data[array.offset * d : (array.offset + len(array)) * d].reshape(-1, d)
    compute = needed("pyarrow.compute", "Arrow's types")
    lengths = compute.list_value_length(array).to_numpy(zero_copy_only=False)
    if (lengths != d).any():
        bad = int(np.flatnonzero(lengths != d)[0])
        raise InputError(
            f"{where}: expected lists of {d} numbers, got {lengths[bad]} in row {first + bad}"
        )
    numbers = array.flatten()
    null = _first_null(numbers)
    if null is not None:
        raise InputError(f"{where}: expected no nulls, got one in row {first + null // d}")
    rows: Array = numbers.to_numpy(zero_copy_only=False).reshape(-1, d)
    if rows.dtype != dtype:
        raise FormatError(f"{where}: expected {dtype} in row {first}, got {rows.dtype}")
    return rows


def _first_null(array: Any) -> int | None:
    """Place of the first null in an Arrow array by its bits, whatever its count of them says."""
    bits = array.buffers()[0]
    if bits is None or not len(array):
        return None
    start, stop = array.offset // 8, -(-(array.offset + len(array)) // 8)
    valid = np.unpackbits(np.frombuffer(bits, np.uint8)[start:stop], bitorder="little")
    missing = np.flatnonzero(valid[array.offset % 8 :][: len(array)] == 0)
    return int(missing[0]) if len(missing) else None
