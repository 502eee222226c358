"""The last of the encoders where codes are additive: it makes vectors wide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepq._common.arrays import as_floats
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats
from deepq.decoders import wide
from deepq.encoders.base import Encoder, as_rows
from deepq.encoders.fixed import frozen


class Spread(Encoder):
    """z = a_1 (x - mu), 0, .., a_M (x - mu), 0: look-up tables for sums of codewords take that.

    See `deepq.decoders.additive`. A training that finds additive codes better puts it there.

    Parameters
    ----------
    shares : (M,) array
        a: positive, with squares that add up to 1.
    centre : (d,) array
        mu.

    Raises
    ------
    DimensionError
        If the shapes are wrong.
    InputError
        If there is a NaN or an infinity, or `shares` are not such.
    """

    def __init__(self, shares: ArrayLike, centre: ArrayLike) -> None:
        a, mu = as_floats(shares, "shares"), as_floats(centre, "centre")
        for numbers, name in ((a, "shares"), (mu, "centre")):
            if numbers.ndim != 1 or not len(numbers):
                raise DimensionError(f"expected {name} of shape (n,), got {numbers.shape}")
            if not np.isfinite(numbers).all():
                raise InputError(f"expected finite {name}, got NaN or infinity")
        wide.require_shares(a)
        super().__init__(len(mu), len(a) * (len(mu) + 1))
        self.shares: Floats = frozen(a)
        self.centre: Floats = frozen(mu)

    def encode(self, x: Floats) -> Floats:
        """Wide vectors (n, d_out) of the rows of `x` (n, d_in)."""
        return wide.wide(as_rows(x, self.d_in), self.shares, self.centre)

    def decode(self, z: Floats) -> Floats:
        """Vectors (n, d_in) of wide ones."""
        return wide.narrow(as_rows(z, self.d_out), self.shares, self.centre)

    def matrix(self) -> tuple[Floats, Floats | None]:
        """Matrix A and offset b of z = A x + b, for faiss; None for no offset."""
        return wide.matrix(self.shares, self.centre)

    def state(self) -> dict[str, Any]:
        """Shares and centre."""
        return {"shares": self.shares, "centre": self.centre}
