"""A rotation and codebooks learned in turns: a Lloyd step in every sub-space, then Procrustes.

Both need no more than the sums of the rows in every cell, as they are before they are rotated:
their means, rotated, are the codewords, and codewords times sums are the matrix whose nearest
orthonormal one is the next rotation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats, Progress
from deepq.quantizers.kmeans import fill_empty_cells
from deepq.quantizers.product import ProductQuantizer

_LEAST, _LEAST_PER_CODEWORD = 2048, 16  # rows that do


def alternate(
    x: Floats,
    quantizer: ProductQuantizer,
    iterations: int,
    rng: np.random.Generator,
    *,
    noise: float = 0.0,
    progress: Progress | None = None,
) -> Floats:
    """Learn a rotation of centred rows (n, d) of about unit size, from the identity on.

    Noise on the codewords, fading to nothing, leads past poor local minima. While it is strong, in
    the first half of the iterations, the first half of the rows do if they are many.

    Parameters
    ----------
    x : (n, d) float32
        Training vectors.
    quantizer : ProductQuantizer
        Its codebooks are replaced.
    iterations : int
        How often both are moved.
    rng : Generator
        What chooses the first codewords, and the noise.
    noise : float
        Its strength at the beginning, of codewords that explain all of the variance, in units of
        the error: see `_shaking`.
    progress : callable, optional
        Called after each iteration with {"stage", "iteration", "error"}.

    Returns
    -------
    (d, d) float32
        R of z = R x, orthonormal in single precision.
    """
    R, rows = np.eye(x.shape[1], dtype=np.float32), x
    half = len(rows) // 2
    quantizer.codebooks = None
    for i in range(iterations):
        on_half = 2 * i < iterations and half >= max(_LEAST, _LEAST_PER_CODEWORD * quantizer.ksub)
        x = rows[:half] if on_half else rows
        z = x @ R.T
        if i == 0:
            quantizer.draw(z, rng)
        words, books = quantizer.assign(z), quantizer.trained().copy()
        strength = noise * (1 - (i + 1) / iterations)
        cross, error = np.empty_like(R), 0.0
        for m in range(quantizer.M):
            columns = slice(m * quantizer.dsub, (m + 1) * quantizer.dsub)
            sums, counts = quantizer.sum_cells(x, words[:, m])
            error += _move(
                books[m], sums @ R[columns].T, counts, z[:, columns], words[:, m], rng, strength
            )
            cross[columns] = books[m].T @ sums
        quantizer.share(books)
        R = nearest_rotation(cross)
        if progress is not None:
            progress({"stage": "rotation", "iteration": i, "error": error / len(x)})
    return R


def _move(
    book: Floats,
    sums: Floats,
    counts: NDArray[np.int64],
    z: Floats,
    words: NDArray[Any],
    rng: np.random.Generator,
    strength: float,
) -> float:
    """Move the codewords (ksub, dsub) of one sub-space to the means of their cells; shake them.

    Returns
    -------
    float
        Sum of the squared distances of the rows to the means.
    """
    filled = counts > 0
    means = sums / np.maximum(counts, 1)[:, None]
    book[filled] = means[filled]
    energies = np.einsum("ij,ij->j", z, z)
    error = max(0.0, float(energies.sum() - np.einsum("ij,ij->", sums, means)))
    if not filled.all():
        fill_empty_cells(book, counts, z, words, rng)
    if strength and error:
        book += _shaking(book.shape, energies / len(z), error / len(z), strength, rng)
    return error


def _shaking(
    shape: tuple[int, ...],
    variances: Floats,
    error: float,
    strength: float,
    rng: np.random.Generator,
) -> Floats:
    """Draw normal noise for codewords of a given shape (ksub, dsub).

    Its variance is (strength * explained^2)^2 * error, where `explained` is the share of the
    variance that is no error: it moves codewords by about the size of a cell however fine the code,
    but by little where a cell is nearly as large as all of the space. It is shared out between the
    dimensions in proportion to their `variances` (dsub,).
    """
    total = float(variances.sum())
    size = strength * max(0.0, 1 - error / total) ** 2 * np.sqrt(error / total)
    noise = rng.standard_normal(shape, dtype=np.float32)
    return noise * np.float32(size) * np.sqrt(variances)


def nearest_rotation(A: Floats) -> Floats:
    """Return the orthonormal R (d, d) with the largest trace of R A^T (Schoenemann 1966)."""
    left, _, right = np.linalg.svd(A)
    R: Floats = left @ right
    return R


def orthonormal(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make orthonormal in double precision what nearly is, by Newton's iteration (Higham 1986).

    "Computing the polar decomposition", SIAM J. Sci. Stat. Comput. 7; without the inverse, after
    Schulz. Each step squares the distance.
    """
    for _ in range(3):
        R = 1.5 * R - 0.5 * R @ R.T @ R
    return R
