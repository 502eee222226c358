"""Encoders with given numbers."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepq._common.arrays import as_floats
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder, as_rows


class Identity(Encoder):
    """z = x."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Normalize(Encoder):
    """z = x / ||x||, rows of zeros unchanged. The length is lost: `decode` returns z."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def encode(self, x: Floats) -> Floats:
        """Rows of `x` (n, d) scaled to unit Euclidean length."""
        x = as_rows(x, self.d_in)
        norms = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
        return x / np.where(norms > 0, norms, 1).astype(np.float32)[:, None]

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Sign(Encoder):
    """z = +1 where x >= 0, else -1; NaN stays NaN. The sizes are lost: `decode` returns z.

    At the end of a `Chain` it makes queries binary too, so that a search of a `BinaryQuantizer`
    ranks by Hamming distance: D is 4 times that.
    """

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def encode(self, x: Floats) -> Floats:
        """Signs (n, d) of the rows of `x` (n, d)."""
        z: Floats = np.sign(as_rows(x, self.d_in))
        z[z == 0] = 1
        return z

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Affine(Encoder):
    """z = A x + b, with given numbers.

    Parameters
    ----------
    A : array, (d_out, d_in)
        Matrix.
    b : array, (d_out,), optional
        Offset; None for none.

    Raises
    ------
    DimensionError
        If the shapes are wrong or do not fit.
    InputError
        If there is a NaN or an infinity.
    """

    def __init__(self, A: ArrayLike, b: ArrayLike | None = None) -> None:
        matrix = as_floats(A, "A")
        if matrix.ndim != 2:
            raise DimensionError(f"expected a matrix (d_out, d_in), got shape {matrix.shape}")
        super().__init__(matrix.shape[1], matrix.shape[0])
        offset = None if b is None else as_floats(b, "b")
        if offset is not None and offset.shape != (self.d_out,):
            raise DimensionError(f"expected an offset of shape ({self.d_out},), got {offset.shape}")
        if not np.isfinite(matrix).all() or (offset is not None and not np.isfinite(offset).all()):
            raise InputError("expected finite numbers in A and b, got NaN or infinity")
        self.A: Floats = frozen(matrix)
        self.b: Floats | None = None if offset is None else frozen(offset)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for numbers in (self.A, self.b):
            if numbers is not None:
                frozen(numbers)

    @cached_property
    def is_orthonormal(self) -> bool:
        """Whether the rows of A are orthonormal to 1e-4, so that its transpose undoes it."""
        gram = self.A.astype(np.float64) @ self.A.T.astype(np.float64)
        return bool(np.abs(gram - np.eye(self.d_out)).max() < 1e-4)

    def encode(self, x: Floats) -> Floats:
        """Return A x + b for the rows of `x` (n, d_in)."""
        z = as_rows(x, self.d_in) @ self.A.T
        if self.b is not None:
            z += self.b
        return z

    def decode(self, z: Floats) -> Floats:
        """A^T (z - b) if the rows of A are orthonormal, else the least-squares solution."""
        z = as_rows(z, self.d_out)
        if self.b is not None:
            z = z - self.b
        return z @ (self.A if self.is_orthonormal else self._inverse)

    def state(self) -> dict[str, Any]:
        """Matrix and offset."""
        return {"A": self.A, "b": self.b}

    @cached_property
    def _inverse(self) -> Floats:
        """Transposed pseudo-inverse of A, (d_out, d_in)."""
        inverse = np.linalg.pinv(self.A.astype(np.float64))
        return np.ascontiguousarray(inverse.T, dtype=np.float32)


def frozen(numbers: Floats) -> Floats:
    """Make an array read-only: an index's C++ object holds a copy that must stay the same."""
    numbers.flags.writeable = False
    return numbers
