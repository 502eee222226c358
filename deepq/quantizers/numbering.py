"""The numbers of codewords: near ones share their lower bits.

What a code means does not depend on how its codewords are numbered, but a scan for one query gains
from a numbering in which the lower 4, 5, 6 or 7 bits name a group of near codewords: the least
distance in each group, a small table, rules most codes out (`_kernels/columns.h`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats

BITS = 8
_ITERATIONS = 10  # of the power method; a rough axis divides as well


def numbered(codebooks: Floats) -> Floats:
    """Order codewords (M, 256, dsub) so that those which share lower bits are near each other.

    Each book is cut in halves at the median of its longest axis, and the halves are cut again,
    eight times: the first cut gives bit 3, then 2, 1 and 0, then 4 to 7. Other sizes stay as they
    are.
    """
    M, ksub = codebooks.shape[:2]
    if ksub != 1 << BITS:
        return codebooks
    order = np.tile(np.arange(ksub), (M, 1))
    for cut in range(BITS):
        parts = order.reshape(M << cut, ksub >> cut)
        books = np.arange(M).repeat(1 << cut)[:, None]
        along = _along_axis(codebooks[books, parts].astype(np.float64))
        places = np.argsort(along, axis=1, kind="stable")
        order = np.take_along_axis(parts, places, axis=1).reshape(M, ksub)
    found = np.empty_like(codebooks)
    found[:, _numbers()] = np.take_along_axis(codebooks, order[:, :, None], axis=1)
    return found


def _numbers() -> NDArray[np.int64]:
    """Return the number of the codeword at each place; a place's first digit is the first cut."""
    places = np.arange(1 << BITS)
    upper, lower = places >> 4, places & 15
    turned = sum((lower >> (3 - bit) & 1) << bit for bit in range(4))
    return upper | turned << 4


def _along_axis(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (parts, size) of points (parts, size, d) along the longest axis of their part."""
    x = x - x.mean(axis=1, keepdims=True)
    farthest = np.square(x).sum(axis=2).argmax(axis=1)
    axis = x[np.arange(len(x)), farthest]
    for _ in range(_ITERATIONS):
        along = np.einsum("psd,pd->ps", x, axis)
        axis = np.einsum("psd,ps->pd", x, along)
        size = np.sqrt(np.square(axis).sum(axis=1, keepdims=True))
        axis /= np.where(size > 0, size, 1)
    found: NDArray[np.float64] = np.einsum("psd,pd->ps", x, axis)
    return found
