"""Nested data apart: arrays in a list, and around them what JSON can hold."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import safetensors.numpy
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError

from deepq._common.errors import FormatError, KindError
from deepq._common.types import Codes

_NAME = "deepq"
# What may be raised on the way from bytes to nested data.
_FAULTS = (SafetensorError, KeyError, TypeError, ValueError, IndexError, RecursionError)


class OwnObject:
    """An object inside nested data that pickles hold as it is, and files as other nested data."""

    def plain(self) -> Any:
        """Nested data in its place."""
        raise NotImplementedError


class Blocks:
    """An array (size,) of bytes inside nested data, which is made block by block where it is used.

    Parameters
    ----------
    size : int
        Bytes of all blocks.
    make : callable
        Yields the blocks, arrays of bytes, from the first to the last.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, size: int, make: Callable[[], Iterable[Codes]]) -> None:
        self.nbytes, self.make = size, make
        self.shape = (size,)

    def tobytes(self) -> bytes:
        """All bytes in memory."""
        file = io.BytesIO()
        for block in self.make():
            file.write(block.data)
        return file.getvalue()


def split_arrays(value: Any, arrays: list[Any], living: list[OwnObject] | None = None) -> Any:
    """Replace every array inside `value` by its number, and collect them, without copies.

    So are the objects that are `living`, if there is a list for them. Raises KindError for what
    JSON does not hold.
    """
    if isinstance(value, OwnObject):
        if living is None:
            return split_arrays(value.plain(), arrays)
        living.append(value)
        return {"$living": len(living) - 1}
    if isinstance(value, np.ndarray | Blocks):
        arrays.append(value if isinstance(value, Blocks) else np.asarray(value, order="C"))
        return {"$array": len(arrays) - 1}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: split_arrays(item, arrays, living) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [split_arrays(item, arrays, living) for item in value]
    if not (value is None or isinstance(value, str | int | float)):
        raise KindError(f"expected arrays and JSON values, got {type(value).__name__} {value!r}")
    return value


def join_arrays(value: Any, arrays: Sequence[Any], living: Sequence[OwnObject] = ()) -> Any:
    """Undo `split_arrays`. Raises FormatError unless each array and object has one place."""
    missing = {("$array", i): a for i, a in enumerate(arrays)}
    missing.update({("$living", i): a for i, a in enumerate(living)})

    def put(value: Any) -> Any:
        if isinstance(value, list):
            return [put(item) for item in value]
        if not isinstance(value, dict):
            return value
        for kind in ("$array", "$living"):
            if kind in value:
                if (kind, value[kind]) not in missing:
                    raise FormatError(f"{kind[1:]} {value[kind]} missing or in two places")
                return missing.pop((kind, value[kind]))
        return {key: put(item) for key, item in value.items()}

    whole = put(value)
    if missing:
        raise FormatError(f"{len(missing)} arrays without a place")
    return whole


def to_bytes(value: Any) -> bytes:
    """Write nested data as safetensors: its arrays, and the rest as JSON in the metadata.

    The format has no checksums, so there is one of everything beside that.
    """
    arrays: list[NDArray[Any]] = []
    fields = split_arrays(value, arrays)
    text = json.dumps({"data": fields, "xxh3": _checksum(fields, arrays)})
    tensors = {str(number): array for number, array in enumerate(arrays)}
    return safetensors.numpy.save(tensors, {_NAME: text})


def from_bytes(content: bytes) -> Any:
    """Undo `to_bytes`. Raises FormatError for anything else."""
    try:
        size = int.from_bytes(content[:8], "little")
        text = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_NAME])
        tensors = safetensors.numpy.load(content)
        arrays = [tensors[str(number)] for number in range(len(tensors))]
        if text["xxh3"] != _checksum(text["data"], arrays):
            raise FormatError("damaged data")
        return join_arrays(text["data"], arrays)
    except _FAULTS as error:
        raise FormatError(f"expected data of deepq in safetensors, got {error}") from error


def as_parts(value: Any) -> tuple[Any, ...]:
    """Nested data as tuples of bytes and JSON values, to be compared, or for `digest`."""
    arrays: list[NDArray[Any]] = []
    fields = split_arrays(value, arrays)
    named = ((array.dtype.str, array.shape, array.tobytes()) for array in arrays)
    return (json.dumps(fields, sort_keys=True), *named)


def digest(value: Any) -> str:
    """XXH3, in 16 hexadecimal digits, of nested tuples of bytes and JSON values."""
    state = xxhash.xxh3_64()

    def put(value: Any) -> None:
        if isinstance(value, tuple):
            state.update(b"(%d" % len(value))
            for item in value:
                put(item)
        elif isinstance(value, bytes):
            state.update(b"b%d:" % len(value))
            state.update(value)
        else:
            state.update(json.dumps(value).encode() + b";")

    put(value)
    return state.hexdigest()


def _checksum(fields: Any, arrays: Sequence[NDArray[Any]]) -> str:
    """XXH3 of the fields as JSON, and of the kind, shape and content of every array."""
    state = xxhash.xxh3_64(json.dumps(fields).encode())
    for array in arrays:
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()
