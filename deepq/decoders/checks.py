"""Checks of the arrays and settings of decoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepq._common.checks import as_real
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats


def as_share(value: Any, name: str) -> float:
    """Take a number above 0 and up to 1. Raises InputError for another."""
    part = as_real(value, name)
    if not 0 < part <= 1:
        raise InputError(f"expected {name} above 0 and up to 1, got {value}")
    return part


def as_quarters(value: Any, name: str) -> float:
    """Take 0, 0.25, 0.5, 0.75 or 1. Raises InputError for another."""
    quarters = as_real(value, name)
    if quarters not in (0, 0.25, 0.5, 0.75, 1):
        raise InputError(f"expected {name} to be 0, 0.25, 0.5, 0.75 or 1, got {value}")
    return quarters


def as_positive(value: Any, name: str) -> float:
    """Take a finite number above 0. Raises InputError for another."""
    number = as_real(value, name)
    if not 0 < number < np.inf:
        raise InputError(f"expected {name} above 0, got {value}")
    return number


def as_arrays(
    arrays: Mapping[str, ArrayLike],
    shapes: Mapping[str, tuple[str, ...]],
    optional: frozenset[str] = frozenset(),
) -> dict[str, Floats]:
    """Copy the arrays of a decoder, as float32 that is read-only.

    `shapes` are named by letters, of which each must stand for the same number everywhere. Raises
    DimensionError unless they do, InputError for other names, NaN or infinity.
    """
    if {*arrays, *optional} != set(shapes):
        required = sorted(set(shapes) - optional)
        raise InputError(f"expected the arrays {required}, got {sorted(arrays)}")
    copies, sizes = {}, dict[str, int]()
    for name in (name for name in shapes if name in arrays):
        letters = shapes[name]
        numbers = np.array(arrays[name], dtype=np.float32, order="C")
        if (
            numbers.ndim != len(letters)
            or 0 in numbers.shape
            or any(
                sizes.setdefault(letter, size) != size
                for letter, size in zip(letters, numbers.shape, strict=True)
            )
        ):
            wanted = ", ".join(str(sizes.get(letter, letter)) for letter in letters)
            raise DimensionError(f"expected {name} of shape ({wanted}), got {numbers.shape}")
        if not np.isfinite(numbers).all():
            raise InputError(f"expected finite numbers in {name}, got NaN or infinity")
        numbers.flags.writeable = False
        copies[name] = numbers
    return copies
