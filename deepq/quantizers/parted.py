"""k-means of rows in several parts, that lie in other processes or on other machines.

In a step every part assigns its rows, and adds up those of each cell; the sums are put together,
and the codewords move to the means.

Sums of floats depend on their order, and so on how the rows are cut. Therefore rows are rounded to
multiples of a power of two that is so small that nothing is lost (`grid_of`), and so large that
every sum of rows is a float64 without rounding. Then all orders give the same bits: how many parts
there are, where one ends, and which is heard first change nothing. The same is done by Demmel &
Nguyen, "Fast reproducible floating-point summation", ARITH 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.types import Floats, Ids, Progress
from deepq.quantizers.kmeans import drawn_from_each, fill_empty_cells
from deepq.quantizers.product import ProductQuantizer

_BLOCK = 1 << 14  # rows that are rounded at once
_EXACT = 53  # bits of a float64


class CellSums(NamedTuple):
    """Sums of the rows in each cell.

    Attributes
    ----------
    sums : (M, ksub, dsub) float64
    counts : (M, ksub) int64
        Rows in each.
    energy : float
        Sum of the squares of all rows.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    energy: float


class Part:
    """Some rows. No call leaves anything behind that the answer to another depends on.

    Parameters
    ----------
    z : (n, d) float32, optional
        Finite. A class derived from this can read them instead: `_read`.
    """

    def __init__(self, z: Floats | None = None) -> None:
        self._given = z
        self._z: Floats | None = None
        self._grid = 0.0  # that they are on; 0 for as they come

    def _read(self) -> Floats:
        """Return the rows (n, d) float32, as an array that may be changed."""
        return np.array(self._given, np.float32)

    def look(self) -> float:
        """Return the largest size of a number."""
        z = self._rows(0.0)
        return float(np.maximum(z.max(), -z.min())) if z.size else 0.0

    def take(self, rows: Ids, grid: float) -> Floats:
        """Return rows (m, d) by their numbers (m,) in this part, on a grid."""
        return self._rows(grid)[rows]

    def step(self, codebooks: Floats, grid: float) -> CellSums:
        """Assign all rows to codewords (M, ksub, dsub), and add them up: half a step of Lloyd's."""
        z = self._rows(grid)
        return CellSums(*_scan.accumulate(z, _scan.assign(z, codebooks), codebooks.shape[1]))

    def _rows(self, grid: float) -> Floats:
        if self._z is None or self._grid not in (0.0, grid):
            self._z, self._grid = self._read(), 0.0
        if grid != self._grid:
            for i in range(0, len(self._z), _BLOCK):
                self._z[i : i + _BLOCK] = on_grid(self._z[i : i + _BLOCK], grid)
            self._grid = grid
        return self._z


class Parts(Protocol):
    """All parts, wherever they are; the rows of each follow those of the one before."""

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every one; return what they say, in their order."""

    def ask_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Do so with other arguments for each."""


def fit_parts(
    quantizer: ProductQuantizer,
    parts: Parts,
    bounds: Ids,
    *,
    iterations: int,
    seed: int,
    progress: Progress,
    stage: str = "codebooks",
) -> None:
    """Fit codebooks in place, by rows in several parts, from the present ones if there are any.

    `progress` is called as by ``ProductQuantizer.train``. Raises InputError for too few rows.
    """
    n = int(bounds[-1])
    quantizer.require_rows(n)
    grid, rng = grid_of(max(parts.ask("look")), n), np.random.default_rng(seed)
    if quantizer.codebooks is None:
        drawn = _taken(parts, bounds, rng.choice(n, quantizer.ksub, replace=False), grid)
        quantizer.codebooks = drawn.reshape(quantizer.ksub, quantizer.M, -1).transpose(1, 0, 2)
    for i in range(iterations):
        found = combined(parts.ask("step", quantizer.trained(), grid))
        books, error = moved(quantizer.trained(), found)
        if not found.counts.all():
            rows = np.arange(0, n, drawn_from_each(n, quantizer.ksub))
            z = _taken(parts, bounds, rows, grid)
            words, dsub = quantizer.assign(z), quantizer.dsub
            for m in np.flatnonzero((found.counts == 0).any(axis=1)):
                part = z[:, m * dsub : (m + 1) * dsub]
                fill_empty_cells(books[m], found.counts[m], part, words[:, m], rng)
        quantizer.share(books)
        progress({"stage": stage, "iteration": i, "error": error})


def _taken(parts: Parts, bounds: Ids, rows: Ids, grid: float) -> Floats:
    """Rows (m, d) by their numbers (m,) among all, wherever they are."""
    owners = np.searchsorted(bounds, rows, side="right") - 1
    places = [np.flatnonzero(owners == i) for i in range(len(bounds) - 1)]
    asked = [(rows[own] - bounds[i], grid) for i, own in enumerate(places)]
    found: Floats = np.concatenate(parts.ask_each("take", asked))
    return found[np.argsort(np.concatenate(places))]


def grid_of(largest: float, n: int) -> float:
    """Return the grid on which all sums of n numbers of at most such a size are exact in float64.

    It is 2**-53 of what they can sum up to, rounded up to a power of two: of a million rows about
    2**-32 of the largest number, and of a billion 2**-22, where float32 itself tells 2**-23 apart.
    """
    if not largest:
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] + max(0, n - 1).bit_length() - _EXACT)


def on_grid(z: Floats, grid: float) -> Floats:
    """Round numbers (n, d) float32 to multiples of a power of two, half to even."""
    return np.asarray(np.rint(z.astype(np.float64) / grid) * grid, np.float32)


def combined(parts: Sequence[CellSums]) -> CellSums:
    """Put the sums of several parts together."""
    return CellSums(
        np.sum([part.sums for part in parts], axis=0),
        np.sum([part.counts for part in parts], axis=0),
        math.fsum(part.energy for part in parts),
    )


def moved(codebooks: Floats, found: CellSums) -> tuple[Floats, float]:
    """Move codewords (M, ksub, dsub) to the means of their cells; those of empty cells stay.

    Returns
    -------
    codebooks : (M, ksub, dsub) float32
        New ones.
    error : float
        Mean squared distance of the rows to these means.
    """
    sums, counts, energy = found
    means = sums / np.maximum(counts, 1)[:, :, None]
    books = np.where(counts[:, :, None] > 0, means, codebooks).astype(np.float32)
    return books, max(0.0, energy - float((sums * means).sum())) / int(counts[0].sum())
