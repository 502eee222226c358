"""Wide vectors: a vector M times, a share of it in each sub-space, and a zero behind each.

For shares a (M,), positive and with squares that add up to 1, distances of wide vectors are those
of vectors: see `additive`, whose look-up tables they are for.
"""

from __future__ import annotations

import numpy as np

from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats


def require_shares(shares: Floats) -> None:
    """Raise InputError unless shares (M,) are positive, and their squares add up to 1."""
    if not (shares > 0).all() or abs(np.square(shares).sum() - 1) > 1e-4:
        raise InputError(f"expected positive shares whose squares add up to 1, got {shares}")


def wide(z: Floats, shares: Floats, centre: Floats) -> Floats:
    """Wide vectors (n, M (d + 1)) of vectors (n, d) less a centre (d,)."""
    out = np.zeros((len(z), len(shares), len(centre) + 1), np.float32)
    np.multiply((z - centre)[:, None], shares[:, None], out=out[:, :, :-1])
    return out.reshape(len(z), -1)


def narrow(z: Floats, shares: Floats, centre: Floats) -> Floats:
    """Vectors (n, d) of wide ones; those that are not wide are returned as they are.

    Raises DimensionError for rows of another length.
    """
    M, d = len(shares), len(centre)
    if z.ndim == 2 and z.shape[1] == d:
        return z
    if z.ndim != 2 or z.shape[1] != M * (d + 1):
        raise DimensionError(f"expected rows of {d} or {M * (d + 1)} numbers, got {z.shape}")
    largest = int(shares.argmax())
    part: Floats = z.reshape(len(z), M, d + 1)[:, largest, :d] / shares[largest]
    part += centre
    return part


def matrix(shares: Floats, centre: Floats) -> tuple[Floats, Floats | None]:
    """Matrix A (M (d + 1), d) and offset b of wide vectors A z + b; None where b would be 0."""
    M, d = len(shares), len(centre)
    blocks = np.zeros((M, d + 1, d), np.float32)
    blocks[:, np.arange(d), np.arange(d)] = shares[:, None]
    A = blocks.reshape(-1, d)
    return A, wide(np.zeros((1, d), np.float32), shares, centre)[0] if centre.any() else None
