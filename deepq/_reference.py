"""The scans in plain NumPy: the definition of what `_scan` returns, and the tests' oracle.

Every kernel must agree with these functions; nothing falls back to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._checks import Floats


def scores(words: NDArray[Any], luts: Floats) -> Floats:
    """Add up table entries: (nq, n) float32 of words (n, M) and tables (nq, M, ksub).

    Entries are added in the order of the sub-quantizers, in float32.
    """
    total = np.zeros((len(luts), len(words)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for m in range(words.shape[1]):
            total += luts[:, m, words[:, m]]
    return total


def search(
    words: NDArray[Any], luts: Floats, k: int, *, inner_product: bool = False
) -> tuple[Floats, NDArray[np.int64]]:
    """D, I (nq, k) of the k best words, by (better score, ascending id).

    Where there is no k-th, or its score is NaN or worse than FLT_MAX (for inner product
    -FLT_MAX), that is D, and I is -1.
    """
    largest = np.finfo(np.float32).max
    D = np.full((len(luts), k), -largest if inner_product else largest, np.float32)
    I = np.full((len(luts), k), -1, np.int64)
    for q, row in enumerate(scores(words, luts)):
        cost = -row if inner_product else row
        order = np.argsort(cost, kind="stable")[:k]
        order = order[cost[order] < largest]
        D[q, : len(order)], I[q, : len(order)] = row[order], order
    return D, I


def assign(z: Floats, codebooks: Floats) -> NDArray[np.int64]:
    """Words (n, M) of the nearest codewords, ties to the lower index."""
    M, _, dsub = codebooks.shape
    parts = z.reshape(len(z), M, 1, dsub)
    distances = np.square(parts - codebooks[None], dtype=np.float64).sum(axis=-1)
    words: NDArray[np.int64] = distances.argmin(axis=-1)
    return words
