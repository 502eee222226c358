"""Optimized product quantization: a rotation learned together with the codebooks.

Each iteration rotates the vectors, makes one Lloyd step in every sub-space and then solves
the orthogonal Procrustes problem for the rotation (Ge et al., "Optimized product
quantization", PAMI 2014, non-parametric). Noise on the codewords, fading to nothing, leads
past poor local minima (stochastic relaxation: Zeger et al. 1992; Martinez et al. 2018). The
result depends much on the start, so two race for a few iterations on a sample, and held-out
rows decide: the identity wins where neighbouring columns belong together (SIFT), the principal
axes where they do not (text). They decide on the strength of the noise too, by recall: SIFT likes
more of it than text, for which more noise means a larger error without better neighbours.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, InputError, StateError
from deepq._common.neighbours import power_of_two
from deepq._common.types import METRIC_L2, Floats, Progress, Words
from deepq.encoders.base import as_rows
from deepq.encoders.fixed import Affine, frozen
from deepq.quantizers.judging import FEWEST_ROWS, Judge, hold_out
from deepq.quantizers.product import ProductQuantizer

Matrix = NDArray[np.float64]

ITERATIONS = 60
RACE_ITERATIONS = 8
RACE_ROWS_PER_CODEWORD = 64
HELD_OUT_ROWS = 4_096
LLOYD_STEPS = 10
NOISES = (0.7, 2.5)

_BLOCK = 16_384
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

    A tenth of the rows, at most 4,096, is held out of the learning. They choose the start and
    the strength of the noise, and they choose plain product quantization (no rotation) in the end
    where that is as good. Where too few rows would be left for ksub codewords the answer is plain
    as well.

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
    held, kept = x[rows], rng.permutation(np.delete(x, rows, axis=0))
    plain = np.eye(x.shape[1])
    quantizer.codebooks = None
    if len(held) == 0 or len(kept) < 2 * quantizer.ksub:
        quantizer.train(x, seed=seed, progress=progress)
        return plain.astype(np.float32)
    start = _race(kept, held, quantizer, rng)
    results = []
    for noise in NOISES:
        R = _alternate(kept, start, quantizer, iterations, rng, noise=noise, progress=progress)
        quantizer.train(rotate(kept, R), iterations=LLOYD_STEPS, seed=seed, progress=progress)
        results.append((R, quantizer.trained()))
    quantizer.codebooks = None
    quantizer.train(kept, seed=seed)
    results.append((plain, quantizer.trained()))
    R, codebooks = _best(results, held, quantizer)
    quantizer.codebooks = codebooks
    return R.astype(np.float32)


def _best(
    results: list[tuple[Matrix, Floats]], held: Floats, quantizer: ProductQuantizer
) -> tuple[Matrix, Floats]:
    """Return the rotation and codebooks that find the held-out rows' neighbours best.

    Where the rows are too few to tell, or codes too long to scan, the least error counts. Of equals
    the last is returned.
    """
    judged = len(held) >= FEWEST_ROWS and quantizer.nbits <= 8
    merits = []
    for R, codebooks in results:
        quantizer.codebooks = codebooks
        if judged:
            merits.append(float(Judge(rotate(held, R), METRIC_L2).by_tables(quantizer).mean()))
        else:
            merits.append(-held_out_error(held, R, quantizer))
    _log.debug("held-out merits of the noises %s, and of no rotation: %s", NOISES, merits)
    return max(zip(merits, range(len(merits)), results, strict=True))[2]


def rotate(x: Floats, R: Matrix) -> Floats:
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


def _race(x: Floats, held: Floats, quantizer: ProductQuantizer, rng: np.random.Generator) -> Matrix:
    """Return the start with the least held-out error after a few iterations on a sample."""
    sample = x[: RACE_ROWS_PER_CODEWORD * quantizer.ksub]
    starts = {"identity": np.eye(x.shape[1]), "eigenvalues": eigenvalue_allocation(x, quantizer.M)}
    errors = {}
    for name, start in starts.items():
        R = _alternate(sample, start, quantizer, RACE_ITERATIONS, rng)
        errors[name] = held_out_error(held, R, quantizer)
    _log.debug("held-out errors of the starts: %s", errors)
    return starts[min(errors, key=errors.__getitem__)]


def _alternate(
    x: Floats,
    R: Matrix,
    quantizer: ProductQuantizer,
    iterations: int,
    rng: np.random.Generator,
    *,
    noise: float = 0.0,
    progress: Progress | None = None,
) -> Matrix:
    """Alternate Lloyd and Procrustes steps from the start `R`; fresh codebooks.

    `noise` is the strength at the beginning, in units of the quantization error, so that it
    moves codewords by about the size of a cell however fine the code; it falls linearly to 0.
    """
    quantizer.codebooks = None
    for i in range(iterations):
        z = rotate(x, R)
        if i == 0:
            quantizer.draw(z, rng)
        words = quantizer.assign(z)
        error = quantizer.update(z, words, rng)
        if progress is not None:
            progress({"stage": "rotation", "iteration": i, "error": error})
        if noise:
            _shake(
                quantizer,
                noise * (1 - (i + 1) / iterations),
                error,
                z.var(axis=0, dtype=np.float64),
                rng,
            )
        R = _procrustes(x, words, quantizer)
    return R


def _shake(
    quantizer: ProductQuantizer,
    strength: float,
    error: float,
    variances: Matrix,
    rng: np.random.Generator,
) -> None:
    """Add normal noise to the codewords.

    Its variance is strength^2 * error, shared out between the dimensions in proportion to the
    `variances` (d,) of the vectors.
    """
    total = float(variances.sum()) or 1.0
    scale = (strength * np.sqrt(error / total * variances)).astype(np.float32)
    noise = rng.standard_normal(quantizer.trained().shape, dtype=np.float32)
    quantizer.codebooks = quantizer.trained() + noise * scale.reshape(quantizer.M, 1, -1)


def _procrustes(x: Floats, words: Words, quantizer: ProductQuantizer) -> Matrix:
    """Return the orthonormal R with the least ||R x - z_hat||^2 (Schoenemann 1966)."""
    cross, unit = np.zeros((x.shape[1], x.shape[1])), power_of_two(quantizer.trained())
    for i in range(0, len(x), _BLOCK):
        cross += (quantizer.gather(words[i : i + _BLOCK]) * unit).T @ x[i : i + _BLOCK]
    left, _, right = np.linalg.svd(cross)
    return np.asarray(left @ right)


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

        See `learn_rotation`; by default 60 iterations. It takes at least ksub rows,
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
