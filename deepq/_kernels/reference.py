"""The scans in plain NumPy: the definition of what `_scan` returns, and the tests' oracle.

Every kernel must agree with these functions; nothing falls back to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats


def scores(words: NDArray[Any], luts: Floats) -> Floats:
    """Add up table entries: (nq, n) float32 of words (n, M) and tables (nq, M, ksub).

    Entries are added in the order of the sub-quantizers, in float32; with 1, 2 or 4 bits first
    those that share a byte of the code, then the bytes.
    """
    shared = {2: 8, 4: 4, 16: 2}.get(luts.shape[2], 1)
    total = np.zeros((len(luts), len(words)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, words.shape[1], shared):
            byte = np.zeros_like(total)
            for m in range(first, min(first + shared, words.shape[1])):
                byte += luts[:, m, words[:, m]]
            total += byte
    return total


def search(
    words: NDArray[Any],
    luts: Floats,
    k: int,
    *,
    inner_product: bool = False,
    allowed: NDArray[Any] | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """D, I (nq, k) of the k best words out of those allowed, by (better score, ascending id).

    A score that is NaN, or not better than FLT_MAX (for inner product -FLT_MAX), is not found;
    where there is no k-th, that is D, and I is -1.
    """
    largest = np.finfo(np.float32).max
    D = np.full((len(luts), k), -largest if inner_product else largest, np.float32)
    I = np.full((len(luts), k), -1, np.int64)
    for q, row in enumerate(scores(words, luts)):
        cost = -row if inner_product else row
        if allowed is not None:
            cost = np.where(allowed, cost, np.float32(np.nan))
        order = np.argsort(cost, kind="stable")[:k]
        order = order[cost[order] < largest]
        D[q, : len(order)], I[q, : len(order)] = row[order], order
    return D, I


def range_search(
    words: NDArray[Any],
    luts: Floats,
    radius: float,
    *,
    inner_product: bool = False,
    allowed: NDArray[Any] | None = None,
) -> tuple[NDArray[np.uint64], Floats, NDArray[np.int64]]:
    """Find the words out of those allowed that score better than `radius`: lims (nq + 1,), D, I.

    Those of query q are D[lims[q] : lims[q + 1]], in ascending order of id.
    """
    rows = scores(words, luts)
    found = rows > np.float32(radius) if inner_product else rows < np.float32(radius)
    if allowed is not None:
        found &= allowed != 0
    lims = np.append(0, found.sum(axis=1).cumsum()).astype(np.uint64)
    return lims, rows[found], np.nonzero(found)[1]


def assign(z: Floats, codebooks: Floats) -> NDArray[np.int64]:
    """Words (n, M) of the nearest codewords, ties to the lower index.

    Squared differences are added in double precision, in the order of the columns.
    """
    M, ksub, dsub = codebooks.shape
    parts, books = z.reshape(len(z), M, 1, dsub).astype(np.float64), codebooks.astype(np.float64)
    distances = np.zeros((len(z), M, ksub))
    for t in range(dsub):
        distances += np.square(parts[..., t] - books[None, ..., t])
    words: NDArray[np.int64] = distances.argmin(axis=-1)
    return words


def costs(x: Floats, vectors: Floats, *, inner_product: bool) -> Floats:
    """Squared distances of a vector (d,) to the rows of others (n, d), or negated inner products.

    The numbers t, t + 8, t + 16, ... are added to sum t of eight, what is left after the last eight
    to another; to that the eight are added in order.
    """
    terms = -x * vectors if inner_product else np.square(x - vectors)
    whole = len(x) // 8 * 8
    eight, found = np.zeros((len(vectors), 8), np.float32), np.zeros(len(vectors), np.float32)
    for t in range(0, whole, 8):
        eight += terms[:, t : t + 8]
    for t in range(whole, len(x)):
        found += terms[:, t]
    for j in range(8):
        found += eight[:, j]
    return found


def scores_in_cell(
    query: Floats, centre: Floats, vectors: Floats, *, by_residual: bool, inner_product: bool
) -> Floats:
    """Scores (n,) of decoded vectors (n, d) in a cell; less is better."""
    if not by_residual:
        return costs(query, vectors, inner_product=inner_product)
    if not inner_product:
        return costs(query - centre, vectors, inner_product=False)
    found: Floats = costs(query, vectors, inner_product=True)
    return found + costs(query, centre[None], inner_product=True)


def beam(costs: Floats, cross: Floats, width: int) -> list[int]:
    """Words of an additive code with costs (M, ksub) and pairs (.., ksub, ksub): see `beam.h`."""
    kept: list[tuple[np.float32, list[int]]] = [(np.float32(0), [])]
    for m, own in enumerate(costs):
        longer = []
        for error, words in kept:
            for k, cost in enumerate(own):
                total = np.float32(error + cost)
                for j, word in enumerate(words):
                    total = np.float32(total + cross[m * (m - 1) // 2 + j, word, k])
                longer.append((total, [*words, k]))
        kept = sorted(longer, key=lambda each: each[0])[:width]  # stable: the first of equal ones
    return kept[0][1]
