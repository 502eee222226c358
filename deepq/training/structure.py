"""Whether vectors have structure that a product quantizer can learn.

Isotropic normal vectors are the worst case: of all distributions with the same variance they lose
the most when they are quantized, whatever the rotation. So the question is how much less other
vectors lose. Each half of a sample is quantized with codebooks learned from the other half, after
the rotation of "Optimized product quantization" (Ge et al. 2014, parametric) has dealt out its
principal axes; the same is done with as many normal vectors. A rotation of the vectors changes
nothing in that, nor do scale and offset, so axes that happen to be independent do not count.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from deepq._common.arrays import as_numbers, as_vectors
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats
from deepq.encoders.rotation import eigenvalue_allocation, held_out_error, rotate
from deepq.quantizers.product import ProductQuantizer

POINTS_PER_CODEWORD = 39  # as faiss demands before it stops warning
LEAST_ROWS = 256  # below, chance decides
LEAST_STRUCTURE = 0.02

_MOST_ROWS = 10_000
_ROWS_PER_COLUMN, _CLEAR = 5, -0.5  # where variances alone tell that there is structure
_DSUB = 8
_ITERATIONS = 10

_log = logging.getLogger("deepq.training")


def warn(x: Floats, ksub: int, seed: int) -> None:
    """Log what training vectors cannot give to codebooks."""
    if len(x) < POINTS_PER_CODEWORD * ksub:
        _log.warning(
            "%d training vectors for %d codewords: at least %d are better",
            len(x),
            ksub,
            POINTS_PER_CODEWORD * ksub,
        )
    if len(x) >= LEAST_ROWS and not has_structure(x, seed=seed):
        _log.warning(
            "the vectors have no structure to learn: quantization loses as much of them as of "
            "independent normal numbers, and only more bytes help"
        )


def has_structure(x: Any, *, seed: int = 1234) -> bool:
    """Whether `structure` finds at least 2 % less error than in normal vectors.

    Where the variances along the principal axes differ so much that it must, nothing is quantized.
    """
    rng = np.random.default_rng(seed)
    return (
        _variances_differ(sample(x, _MOST_ROWS, rng)) or structure(x, seed=seed) >= LEAST_STRUCTURE
    )


def structure(x: Any, *, seed: int = 1234) -> float:
    """Return by which part quantization loses less of `x` than of isotropic normal vectors.

    Parameters
    ----------
    x : (n, d) array
        Vectors, at least 256; 10,000 of them, drawn at random, are looked at.
    seed : int
        Seed of everything random.

    Returns
    -------
    float
        1 - error(x) / error(normal), errors being held-out squared errors relative to the
        variance. About 0 for normal vectors, for uniform ones of many dimensions, and for other
        independent columns of equal variance; 1 where nothing is lost. Chance moves it by some
        thousandths, by more in less than 8 dimensions.

    Raises
    ------
    DimensionError, KindError
        If `x` is not an (n, d) array of real numbers.
    InputError
        If there are fewer than 256 rows, or NaN or infinity among those looked at.
    """
    rng = np.random.default_rng(seed)
    x = sample(x, _MOST_ROWS, rng)
    if len(x) < LEAST_ROWS:
        raise InputError(f"expected at least {LEAST_ROWS} vectors, got {len(x)}")
    normal = rng.standard_normal(x.shape, dtype=np.float32)
    return 1 - _relative_error(_standard(x), seed) / _relative_error(normal, seed)


def sample(x: Any, most: int, rng: np.random.Generator, name: str = "x") -> Floats:
    """Return at most `most` rows of `x` (n, d) in random order, as finite float32.

    Raises as `structure` does, for whatever number of rows that is not 0.
    """
    x = as_numbers(x, name)
    if x.ndim != 2 or not x.size:
        raise DimensionError(f"expected {name} of shape (n, d), not empty, got {x.shape}")
    rows = rng.permutation(len(x))[:most]
    return as_vectors(x[rows], x.shape[1], name, finite=True, rows=rows)


def _variances_differ(x: Floats) -> bool:
    """Whether the geometric mean of the variances along the principal axes is small.

    It is what the error follows (Gersho & Gray, "Vector quantization and signal compression", 1992,
    section 8.3), relative to the arithmetic mean. Of n isotropic vectors it is about
    1 - d / (2 n).
    """
    enough = _ROWS_PER_COLUMN * x.shape[1]
    if len(x) < enough:
        return False
    x = _standard(x[:enough])
    variances = np.linalg.eigvalsh(x.T @ x).astype(np.float64)
    least = float(variances.max(initial=0)) * np.finfo(np.float32).eps
    logs = np.log(np.maximum(variances, least or 1.0))
    return bool(logs.mean() - np.log(max(variances.mean(), least or 1.0)) < _CLEAR)


def _standard(x: Floats) -> Floats:
    """Shift and scale `x` so that squares neither cancel nor leave the range of float32."""
    centred = x - x.mean(axis=0, dtype=np.float64)
    scaled: Floats = (centred / (np.abs(centred).max() or 1.0)).astype(np.float32)
    return scaled


def _relative_error(x: Floats, seed: int) -> float:
    """Squared error of each half of `x`, with mean 0, under what the other taught; relative."""
    dsub = min(_DSUB, x.shape[1])
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % dsub)))  # columns of zeros, to cut it evenly
    halves = x[: len(x) // 2], x[len(x) // 2 :]
    error = variance = 0.0
    for kept, held in (halves, halves[::-1]):
        R = eigenvalue_allocation(kept, x.shape[1] // dsub)
        quantizer = ProductQuantizer(len(R) // dsub, max(1, 3 * dsub // 4))
        quantizer.train(rotate(kept, R), iterations=_ITERATIONS, seed=seed)
        error += len(held) * held_out_error(held, R, quantizer)
        variance += float(np.square(held, dtype=np.float64).sum())
    return error / variance if variance else 0.0
