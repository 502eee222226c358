"""Numbers as the kernels of decoders want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepq import _decode
from deepq._common.types import Floats


def in_bytes(summands: Floats) -> tuple[NDArray[np.int8], Floats, np.float32]:
    """Whole numbers (M, ksub, d) of 8 bits, offset (d,) and unit that stand for summands.

    A sum of M summands is about offset + unit * (sum of M whole numbers). d is padded to panels.
    """
    middle = summands.mean(axis=1, keepdims=True)
    moved = summands - middle
    unit = np.float32(np.abs(moved).max() / 127) or np.float32(1)
    return np.rint(widened(moved) / unit).astype(np.int8), middle.sum(axis=0)[0], unit


def widened(array: Floats) -> Floats:
    """Pad rows with zeros to whole panels, in C order; share the numbers where that is so."""
    array = np.ascontiguousarray(array)
    missing = -array.shape[-1] % _decode.PANEL
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else array


def panels(weights: Floats) -> Floats:
    """Lay out weights (h, columns) as panels (.., h, PANEL), both padded."""
    wide = widened(widened(weights).T)
    return np.ascontiguousarray(wide.reshape(-1, _decode.PANEL, wide.shape[1]).transpose(0, 2, 1))


def block_diagonal(blocks: Floats) -> Floats:
    """Matrix (M n, M n) with blocks (M, n, n) along its diagonal, and zeros."""
    M, n, _ = blocks.shape
    whole = np.zeros((M, n, M, n), np.float32)
    whole[np.arange(M), :, np.arange(M)] = blocks
    return whole.reshape(M * n, M * n)


def diagonal_blocks(matrix: Floats, M: int) -> Floats:
    """Blocks (M, n, n) along the diagonal of a matrix (M n, M n)."""
    n, each = len(matrix) // M, np.arange(M)
    blocks: Floats = matrix.reshape(M, n, M, n)[each, :, each]
    return blocks
