"""What k-means of codebooks does besides its steps: a growing part of the rows, empty cells."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats

_ROWS, _ROWS_PER_CODEWORD = 4096, 16  # at least, of the first steps
_MOST_DOUBLINGS = 4
_DRAWN = 4096  # rows from which empty cells get codewords: so many, or 16 a codeword


def sub_vectors(z: Floats, M: int, m: int) -> Floats:
    """View (n, dsub) of the sub-vectors in one of M sub-spaces."""
    dsub = z.shape[1] // M
    return z[:, m * dsub : (m + 1) * dsub]


def growing(z: Floats, iterations: int, ksub: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield the rows of each step: a part, drawn at random, that doubles; and at last all."""
    parts, least = [len(z)], max(_ROWS, _ROWS_PER_CODEWORD * ksub)
    while parts[0] // 2 >= least and len(parts) <= _MOST_DOUBLINGS:
        parts.insert(0, parts[0] // 2)
    if len(parts) > 1:
        order, early = rng.permutation(len(z)), iterations - -(-iterations // 4)
        for n, steps in zip(parts, np.array_split(range(early), len(parts) - 1), strict=False):
            part = z[np.sort(order[:n])]
            yield from repeat(part, len(steps))
            iterations -= len(steps)
    yield from repeat(z, iterations)


def fill_empty_cells(
    book: Floats,
    counts: NDArray[np.int64],
    z: Floats,
    words: NDArray[Any],
    rng: np.random.Generator,
) -> None:
    """Put the codewords of empty cells onto rows drawn by their squared error, in place.

    They are drawn among some rows, as many as can tell which cells are large.
    """
    step = drawn_from_each(len(z), len(book))
    z, words = z[::step], words[::step]
    error = np.square(z - book[words], dtype=np.float64).sum(axis=1)
    empty = np.flatnonzero(counts == 0)[: np.count_nonzero(error)]
    if len(empty):
        rows = rng.choice(len(z), len(empty), replace=False, p=error / error.sum())
        book[empty] = z[rows]


def drawn_from_each(n: int, ksub: int) -> int:
    """Return of how many rows `fill_empty_cells` looks at one."""
    return max(1, n // max(_DRAWN, _ROWS_PER_CODEWORD * ksub))
