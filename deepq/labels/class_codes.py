"""Codes of classes that are far from each other."""

from __future__ import annotations

import numpy as np

from deepq._common.types import Floats

_DRAWS = 1000  # of codes of classes, of which the best are kept
_MOST_PAIRS = 10**8  # of classes that are compared in all draws: fewer draws of many classes


def distant_codes(classes: int, bits: int, seed: int) -> Floats:
    """Codes (classes, bits) float32 of +-1 that are far from each other.

    Where there is a Hadamard matrix of Sylvester's of that many bits, its rows and, beyond them,
    their opposites; else the codes of the largest least distance of 1000 draws, or of fewer where
    there are more than 316 classes.
    """
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        rows = np.ones((1, 1), np.float32)
        while len(rows) < bits:
            rows = np.block([[rows, rows], [rows, -rows]])
        return np.concatenate([rows, -rows])[:classes].astype(np.float32)
    rng = np.random.default_rng(seed)
    best, apart = None, -1
    for _ in range(min(_DRAWS, max(1, _MOST_PAIRS // classes**2))):
        codes = np.asarray(rng.integers(0, 2, (classes, bits)) * 2 - 1, np.float32)
        products = codes @ codes.T
        np.fill_diagonal(products, -bits)
        if best is None or bits - products.max() > apart:
            best, apart = codes, bits - products.max()
    return np.asarray(best, np.float32)
