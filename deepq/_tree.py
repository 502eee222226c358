"""Nested data apart: arrays in a list, and around them what JSON can hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from deepq._checks import FormatError

_NAME = "deepq"


class Living:
    """An object inside nested data that pickles hold as it is, and files as other nested data."""

    def plain(self) -> Any:
        """Nested data in its place."""
        raise NotImplementedError


def take_arrays(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Replace every array inside `value` by its number, and collect them, without copies."""
    if isinstance(value, Living):
        return take_arrays(value.plain(), arrays)
    if isinstance(value, np.ndarray):
        arrays.append(np.asarray(value, order="C"))
        return {"$array": len(arrays) - 1}
    if isinstance(value, dict):
        return {key: take_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [take_arrays(item, arrays) for item in value]
    return value


def put_arrays(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Undo `take_arrays`."""
    if isinstance(value, dict):
        if "$array" in value:
            return arrays[value["$array"]]
        return {key: put_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [put_arrays(item, arrays) for item in value]
    return value


def to_bytes(value: Any) -> bytes:
    """Write nested data as safetensors: its arrays, and the rest as JSON in the metadata."""
    arrays: list[NDArray[Any]] = []
    fields = json.dumps(take_arrays(value, arrays))
    return safetensors.numpy.save(
        {str(number): array for number, array in enumerate(arrays)}, {_NAME: fields}
    )


def from_bytes(content: bytes) -> Any:
    """Undo `to_bytes`. Raises FormatError for anything else."""
    try:
        size = int.from_bytes(content[:8], "little")
        fields = json.loads(content[8 : 8 + size])["__metadata__"][_NAME]
        tensors = safetensors.numpy.load(content)
        return put_arrays(json.loads(fields), [tensors[str(n)] for n in range(len(tensors))])
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"expected data of deepq in safetensors, got {error}") from error
