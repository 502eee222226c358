"""Torch's data sets and loaders as arrays, without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_array
from deepq._common.errors import DimensionError, InputError, KindError

Array = NDArray[Any]


def is_torch_data(x: Any) -> bool:
    """Whether this is a torch Dataset or DataLoader."""
    torch = sys.modules.get("torch")  # without which there is none
    data = getattr(getattr(torch, "utils", None), "data", None)
    return data is not None and isinstance(x, (data.Dataset, data.DataLoader))


def read_torch_data(source: Any) -> tuple[Array, Array | None]:
    """Read a torch Dataset or DataLoader once, in its order.

    Parameters
    ----------
    source : torch.utils.data.Dataset or DataLoader
        Data set of pairs (x, y), or of x alone; a loader of batches of these. Tensors, arrays,
        numbers and whatever else `numpy.asarray` takes. Torch's random numbers are afterwards as
        before.

    Returns
    -------
    x : (n, ...) array
        uint8 where all of it is, else float32.
    y : (n, ...) array, or None
        Labels, of the dtype of their members.

    Raises
    ------
    DimensionError
        If the members are not all of one shape.
    InputError
        If there is none, or only some are pairs.
    KindError
        If a member is neither an array of numbers nor a pair.
    """
    torch = sys.modules["torch"]
    batched = getattr(source, "batch_sampler", None) is not None
    parts: tuple[list[Array], list[Array]] = ([], [])
    with torch.random.fork_rng(devices=[]):
        for number, member in enumerate(_members(source, torch)):
            pair = list(member) if isinstance(member, tuple | list) else [member]
            if len(pair) not in (1, 2):
                raise KindError(f"expected pairs (x, y), got {len(pair)} parts in number {number}")
            for values, part in zip(pair, parts, strict=False):
                array = _as_array(values, number)
                part.append(array if batched else array[None])
            if len(parts[1]) not in (0, number + 1):
                raise InputError(f"expected pairs (x, y) throughout, got none in number {number}")
    x, y = parts
    if not x:
        raise InputError(f"expected vectors or images, got an empty {type(source).__name__}")
    joined = _joined(x, "x (n, ...)", 2)
    if joined.dtype != np.uint8:
        joined = joined.astype(np.float32, copy=False)
    return joined, _joined(y, "y (n, ...)", 1) if y else None


def _members(source: Any, torch: Any) -> Iterator[Any]:
    """Yield the members; of a map-style data set by their numbers, as samplers do."""
    data = torch.utils.data
    if isinstance(source, data.Dataset) and not isinstance(source, data.IterableDataset):
        if not hasattr(source, "__len__"):
            raise KindError(f"expected a data set with a length, got a {type(source).__name__}")
        yield from (source[i] for i in range(len(source)))
    elif isinstance(source, Iterable):
        yield from source
    else:
        raise KindError(f"expected a data set to iterate over, got a {type(source).__name__}")


def _as_array(value: Any, number: int) -> Array:
    array = as_array(value, f"number {number}")
    if array.dtype.kind not in "fiub":
        got = type(value).__name__ if array.dtype.kind == "O" else array.dtype
        raise KindError(f"expected arrays of numbers, got {got} in number {number}")
    return array


def _joined(parts: list[Array], name: str, least: int) -> Array:
    """Put arrays of one shape, of at least `least` dimensions, behind each other."""
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1 or min(part.ndim for part in parts) < least:
        found = " and ".join(sorted(map(str, shapes))) if len(shapes) > 1 else "single numbers"
        raise DimensionError(f"expected {name} of one shape, got {found}")
    return np.concatenate(parts)
