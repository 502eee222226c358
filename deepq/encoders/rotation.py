"""Optimized product quantization: a rotation learned together with the codebooks.

Each iteration rotates the vectors, makes one Lloyd step in every sub-space and then solves
the orthogonal Procrustes problem for the rotation (Ge et al., "Optimized product
quantization", PAMI 2014, non-parametric). Noise on the codewords, fading to nothing, leads
past poor local minima (stochastic relaxation: Zeger et al. 1992; Martinez et al. 2018). Fine codes
gain by much noise; coarse ones, which explain little of the variance, by little.

The result depends much on the start, so k-means on a few rows decides between two: the identity
wins where neighbouring columns belong together (SIFT), the principal axes where they do not (text).
Of principal axes only the leading ones are rotated: about the others codewords say next to nothing.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, InputError, StateError
from deepq._common.neighbours import power_of_two
from deepq._common.types import Floats, Ids, Progress
from deepq.encoders.alternation import alternate, orthonormal
from deepq.encoders.base import as_rows
from deepq.encoders.fixed import Affine, frozen
from deepq.quantizers.judging import hold_out
from deepq.quantizers.product import ProductQuantizer

Matrix = NDArray[np.float64]

ITERATIONS = 50
HELD_OUT_ROWS = 4_096
ROWS, ROWS_PER_CODEWORD = 16_384, 128  # that a rotation is learned from: the more of the two
RACE_ITERATIONS = 5
RACED = 4  # a part of them
LLOYD_STEPS, FRESH_STEPS = 5, 25  # after it, or without it
NOISES = (4.0, 1.0)  # of codewords: the weaker where the stronger one leads to nothing better
SPARE = 1.2  # principal axes that are rotated for one that gets bits

_BLOCK = 2_048
_log = logging.getLogger("deepq.encoders")


def learn_rotation(
    x: Floats,
    quantizer: ProductQuantizer,
    *,
    iterations: int = ITERATIONS,
    seed: int = 1234,
    progress: Progress | None = None,
) -> Floats:
    """Learn a rotation of the rows of `x` and leave the codebooks for it in `quantizer`.

    The rotation is learned from at most 128 rows a codeword, the codebooks then from all. A tenth
    of the rows, at most 4,096, is held out of the former. They choose the start, and they choose
    plain product quantization (no rotation) in the end where its error is as small. Where too few
    rows would be left for ksub codewords the answer is plain as well.

    Parameters
    ----------
    x : ndarray of float32, (n, d)
        Training vectors, n >= ksub, d a multiple of M.
    quantizer : ProductQuantizer
        Its codebooks are replaced.
    iterations : int
        Joint iterations; a few Lloyd steps follow.
    seed : int
        Seed of everything random.
    progress : callable, optional
        Called after each iteration with {"stage", "iteration", "error"}.

    Returns
    -------
    ndarray of float32, (d, d)
        Orthonormal matrix R of z = R x.
    """
    rng = np.random.default_rng(seed)
    rows = hold_out(len(x), min(len(x) // 10, HELD_OUT_ROWS), rng)
    kept = rng.permutation(np.delete(np.arange(len(x)), rows))
    plain = np.eye(x.shape[1], dtype=np.float32)
    quantizer.codebooks = None
    if len(rows) == 0 or len(kept) < 2 * quantizer.ksub:
        quantizer.train(x, seed=seed, progress=progress)
        return plain
    kept = kept[: max(ROWS, ROWS_PER_CODEWORD * quantizer.ksub)]
    found, quantizer.codebooks = _learn(x[kept], x[rows], quantizer, iterations, rng, progress)
    R = found.astype(np.float32)
    steps = LLOYD_STEPS if quantizer.codebooks is not None else FRESH_STEPS
    quantizer.train(rotate(x, R), iterations=steps, seed=seed, progress=progress)
    return R


def _learn(
    sample: Floats,
    held: Floats,
    quantizer: ProductQuantizer,
    iterations: int,
    rng: np.random.Generator,
    progress: Progress | None,
) -> tuple[Matrix, Floats | None]:
    """Learn a rotation and codebooks (M, ksub, dsub) from a sample, less a share that is held out.

    Where that is no better than both starts, return the better start, without codebooks.
    """
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    unit = power_of_two(sample)
    sample *= unit
    race = _Race(sample, (held - mean) * unit, quantizer)
    starts = [np.eye(len(mean)), eigenvalue_allocation(sample, quantizer.M)]
    errors = [race.error(R) for R in starts]
    start = starts[int(np.argmin(errors))]
    tops = _tops(start, sample, quantizer)
    top, energy = start[tops], float(np.square(sample).mean(dtype=np.float64))
    y, trial = rotate(sample, top), quantizer.fresh()
    del sample
    told = None
    if progress is not None:
        outside = energy * len(mean) - float(np.square(y).mean(dtype=np.float64)) * len(tops)
        told = _in_units(progress, float(unit), max(0.0, outside))
    for noise in NOISES:
        R = start.copy()
        R[tops] = alternate(y, trial, iterations, rng, noise=noise, progress=told) @ top
        R = orthonormal(R)
        error = race.error(R)
        _log.debug("held-out errors of the starts %s, with noise %g %g", errors, noise, error)
        if error < min(errors):
            books = np.zeros((len(R), quantizer.ksub), np.float32)
            books[tops] = trial.trained().transpose(0, 2, 1).reshape(len(tops), -1)
            books = books / unit + (R @ mean)[:, None]
            return R, books.reshape(quantizer.M, -1, quantizer.ksub).transpose(0, 2, 1)
    return start, None


class _Race:
    """Rotations compared by the held-out error of k-means on a few rows.

    Parameters
    ----------
    sample, held : (n, d) and (m, d) float32
        Rows, some of which are learned from, and others.
    quantizer : ProductQuantizer
        What codes are like; it is left alone.
    """

    def __init__(self, sample: Floats, held: Floats, quantizer: ProductQuantizer) -> None:
        self._of, self._held = quantizer, held
        self._few = sample[: max(ROWS, ROWS_PER_CODEWORD * quantizer.ksub) // RACED].copy()

    def error(self, R: Matrix) -> float:
        """Held-out error after a few steps of k-means."""
        quantizer = self._of.fresh()
        quantizer.train(rotate(self._few, R), iterations=RACE_ITERATIONS)
        return held_out_error(self._held, R, quantizer)


def _in_units(progress: Progress, unit: float, outside: float) -> Progress:
    """Pass on errors in the units of the vectors, with what lies outside of the leading axes."""

    def pass_on(entry: dict[str, Any]) -> None:
        progress({**entry, "error": (entry["error"] + outside) / unit**2})

    return pass_on


def _tops(axes: Matrix, x: Floats, quantizer: ProductQuantizer) -> Ids:
    """Numbers of the axes that are worth rotating, as many in every sub-space."""
    M, dsub = quantizer.M, len(axes) // quantizer.M
    variances = rotate(x, axes).var(axis=0)
    order = np.sort(variances)[::-1].astype(np.float64)
    count = min(dsub, -(-int(SPARE * axes_with_bits(order, M * quantizer.nbits)) // M))
    groups = np.argsort(-variances.reshape(M, dsub), axis=1, kind="stable")[:, :count]
    return np.sort(groups + dsub * np.arange(M)[:, None], axis=1).ravel()


def axes_with_bits(variances: Matrix, bits: int) -> int:
    """How many of independent normal numbers are worth some of so many bits.

    By reverse water-filling (Cover & Thomas, "Elements of information theory", 2006, section
    10.3.3): those with more than the variance t are quantized, all with the error t, and cost
    1/2 log2(variance / t) bits each.

    Parameters
    ----------
    variances : (d,) float64
        In falling order.
    """
    floor = max(float(variances[0]) * 1e-9, np.finfo(np.float64).tiny)
    logs = np.log2(np.maximum(variances, floor)) / 2
    counts = np.arange(1, len(logs) + 1)
    levels = (np.cumsum(logs) - bits) / counts  # half the logarithm of t, if so many get bits
    return int(counts[logs >= levels].max(initial=1))


def rotate(x: Floats, R: Matrix | Floats) -> Floats:
    """R x for the rows of `x`."""
    z: Floats = x @ R.T.astype(np.float32)
    return z


def held_out_error(x: Floats, R: Matrix, quantizer: ProductQuantizer) -> float:
    """Mean squared distance of the rows of `x` to their reconstructions."""
    z = rotate(x, R)
    z -= quantizer.gather(quantizer.assign(z))
    return float(np.einsum("ij,ij->", z, z, dtype=np.float64)) / len(x)


def eigenvalue_allocation(x: Floats, M: int) -> Matrix:
    """Principal axes of `x`, dealt out so that the sub-spaces have like products of variances.

    "Parametric" start of Ge et al.: the axes go, by falling variance, each to the sub-space
    with the smallest product so far that is not full.

    Returns
    -------
    ndarray of float64, (d, d)
        Orthonormal rows, grouped by sub-space.
    """
    d = x.shape[1]
    mean = x.mean(axis=0, dtype=np.float64)
    second = np.zeros((d, d))
    for i in range(0, len(x), _BLOCK):
        block = x[i : i + _BLOCK] - mean
        second += block.T @ block
    variances, axes = np.linalg.eigh(second / len(x))
    floor = max(float(variances[-1]) * 1e-9, np.finfo(np.float64).tiny)
    weights = np.log(np.maximum(variances, floor) / floor)
    members: list[list[int]] = [[] for _ in range(M)]
    loads = np.zeros(M)
    for axis in range(d - 1, -1, -1):
        m = int(loads.argmin())
        members[m].append(axis)
        loads[m] = np.inf if len(members[m]) == d // M else loads[m] + weights[axis]
    order = [axis for group in members for axis in group]
    return np.ascontiguousarray(axes[:, order].T)


class Rotation(Affine):
    """z = R x, R orthonormal and learned together with the codebooks.

    Optimized product quantization (Ge et al., PAMI 2014). Every training learns it anew; to keep a
    given matrix use `Affine`.

    Parameters
    ----------
    d : int
        Length of the vectors.
    """

    def __init__(self, d: int) -> None:
        super().__init__(np.eye(as_size(d, "d")))
        self._fitted = False

    @classmethod
    def of(cls, R: ArrayLike) -> Rotation:
        """Make a fitted rotation of an orthonormal matrix (d, d), else raise InputError."""
        given = Affine(R)
        if given.d_in != given.d_out or not given.is_orthonormal:
            raise InputError("expected an orthonormal matrix (d, d), got another")
        rotation = cls(given.d_in)
        rotation.A, rotation._fitted = given.A, True
        return rotation

    @property
    def is_fitted(self) -> bool:
        """Whether the rotation has been learned."""
        return self._fitted

    is_orthonormal = True
    learns_codebooks = True

    def settle(self) -> None:
        """Stay the rotation it is: before `fit`, the identity."""
        self._fitted = True

    def turn(self, R: Floats) -> None:
        """Rotate what it gives by an orthonormal matrix (d, d) as well."""
        self.A = frozen((R.astype(np.float64) @ self.A).astype(np.float32))

    def encode(self, x: Floats) -> Floats:
        """Rotate the rows of `x` (n, d). Raises StateError before `fit`."""
        if not self._fitted:
            raise StateError("expected a fitted rotation, got one that has not been learned")
        return super().encode(x)

    def fit(
        self,
        x: Floats,
        quantizer: ProductQuantizer,
        *,
        iterations: int | None = None,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Learn the rotation and the codebooks together, from the beginning.

        See `learn_rotation`; by default 50 iterations. It takes at least ksub rows,
        and d must be a multiple of M.
        """
        x = as_rows(x, self.d_in)
        joint = ITERATIONS if iterations is None else iterations
        self.A = frozen(
            learn_rotation(x, quantizer, iterations=joint, seed=seed, progress=progress)
        )
        self._fitted = True

    def state(self) -> dict[str, Any]:
        """Matrix, and whether it has been learned."""
        return {"A": self.A, "is_fitted": self._fitted}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Rotation:
        """Make a rotation, learned or not."""
        given = Affine(state["A"])
        if given.d_in != given.d_out:
            raise DimensionError(f"expected a matrix (d, d), got shape {given.A.shape}")
        return cls.of(given.A) if state["is_fitted"] else cls(given.d_in)
