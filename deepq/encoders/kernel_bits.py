"""Hash functions of kernels, learned bit after bit from who is similar to whom.

Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012, minimise

    |r S - H H^T|_F^2 over codes H = sign(K A^T) (n, r),

K (n, m) the centred kernels of n rows with m anchors, S (n, n) 1 for similar rows and -1 for
others. Given the bits before it, a bit h is best where h^T R h is largest, R = r S - the sum of
their h h^T. The search begins without the sign, at the top generalized eigenvector of
(K^T R K, K^T K), and follows the gradient of a smooth sign from there.

Both are done in coordinates in which K^T K is n times the identity. Gradient steps are much fewer
there and end higher than in the paper's. Pairs of which nothing is known are left out of S and R.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats, Progress
from deepq.labels.supervision import Matrix

STEPS = 100  # at most, of a bit's gradient
_RIDGE = 1e-2  # share of the mean eigenvalue of K^T K that is added to each: without, codes overfit
_LEAST_GAIN = 1e-3  # of a step, else it is the last
_LEAST_CURVATURE = 1e-30
_HALVINGS = 40


def kernels(x: Floats, anchors: Floats, width: float) -> Floats:
    """Gaussian kernels (n, m) of rows with anchors: exp(-|x - anchor|^2 / (2 width))."""
    centre, scale = anchors.mean(axis=0), np.float32(1 / np.sqrt(2 * width))
    x, anchors = (x - centre) * scale, (anchors - centre) * scale
    products = x @ anchors.T
    products *= 2
    products -= np.einsum("ij,ij->i", x, x)[:, None]
    products -= np.einsum("ij,ij->i", anchors, anchors)
    np.minimum(products, 0, out=products)
    found: Floats = np.exp(products, out=products)
    return found


def mean_squared_distance(x: Floats, anchors: Floats) -> float:
    """Mean of |x - anchor|^2 over all rows and anchors: the width in the paper's own code."""
    variances = [np.var(rows, axis=0, dtype=np.float64).sum() for rows in (x, anchors)]
    means = [rows.mean(axis=0, dtype=np.float64) for rows in (x, anchors)]
    return float(sum(variances) + np.square(means[0] - means[1]).sum())


def learn_kernel_bits(
    K: Floats, similar: Matrix, known: Matrix, bits: int, progress: Progress | None = None
) -> Floats:
    """Learn the projections A of codes sign(K A^T).

    Parameters
    ----------
    K : ndarray of float32, (n, m)
        Centred kernels.
    similar, known : ndarray of bool, (n, n)
        See `supervision`; a row is similar to itself in any case.
    bits : int
        Bits of a code, r.
    progress : callable, optional
        Called after each bit with {"stage", "iteration", "error"}, the mean of
        (S_ij - h_i . h_j / r)^2 over the pairs that are known.

    Returns
    -------
    ndarray of float32, (r, m)
    """
    same = np.eye(len(K), dtype=np.bool_)
    weights = (known | same).astype(np.float32)
    R = np.where(similar | same, np.float32(bits), np.float32(-bits)) * weights
    T = whitening(K)
    Z = (K @ T).astype(np.float32)
    A = np.empty((bits, K.shape[1]), np.float32)
    for t in range(bits):
        u = best_direction(Z, R)
        A[t] = T @ u
        h = signs(Z @ u)
        R -= weights * np.multiply.outer(h, h)
        if progress is not None:
            error = float(np.square(R).sum(dtype=np.float64) / weights.sum(dtype=np.float64))
            progress({"stage": "codes", "iteration": t, "error": error / bits**2})
    return A


def whitening(K: Floats) -> NDArray[np.float64]:
    """Return T (m, m) with T^T (K^T K + ridge) T = n, the ridge a small multiple of identity."""
    gram = K.T.astype(np.float64) @ K
    n, m = K.shape
    gram[np.diag_indices(m)] += _RIDGE * np.trace(gram) / m or 1.0
    return np.asarray(math.sqrt(n) * np.linalg.inv(np.linalg.cholesky(gram)).T)


def best_direction(Z: Floats, R: Floats) -> Floats:
    """Return the u (m,) of the bit sign(Z u) (n,) with the largest h^T R h that is found.

    It is the top eigenvector of Z^T R Z, or what `refined` makes of it, if the bit is better.
    """
    values, vectors = np.linalg.eigh((Z.T @ (R @ Z)).astype(np.float64))
    spectral = vectors[:, -1].astype(np.float32)
    # A quarter of the curvature at 0, where the smooth sign is steepest.
    curvature = max(float(np.abs(values).max()) / 8, _LEAST_CURVATURE)
    candidates = [spectral, refined(Z, R, spectral, curvature)]
    return max(candidates, key=lambda u: gain(signs(Z @ u), R))


def signs(x: Floats) -> Floats:
    """1 for numbers of at least 0, else -1, float32."""
    return np.where(x < 0, np.float32(-1), np.float32(1))


def gain(h: Floats, R: Floats) -> float:
    """h^T R h; for bits h of -1 and 1 exact up to 2^23 rows * bits."""
    return float(h.astype(np.float64) @ (R @ h))


def smooth(Z: Floats, R: Floats, u: Floats) -> tuple[float, Floats]:
    """Value and gradient (m,) of -p^T R p at u, p = phi(Z u), phi(x) = 2 / (1 + exp(-x)) - 1."""
    p = np.tanh(Z @ u / 2)
    pull = R @ p
    return -float(p.astype(np.float64) @ pull), -(Z.T @ (pull * (1 - p * p)))


def refined(Z: Floats, R: Floats, u: Floats, curvature: float) -> Floats:
    """Follow the gradient of `smooth` from u (m,), by Nesterov's accelerated method.

    The step of length 1 / curvature is halved where the value falls by less than half of what the
    slope promises (Beck & Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J.
    Imaging Sciences 2009, with backtracking).
    """
    before, value, pace, momentum = u, smooth(Z, R, u)[0], 1.0, 0.0
    for _ in range(STEPS):
        ahead = u + np.float32(momentum) * (u - before)
        there, gradient = smooth(Z, R, ahead)
        slope = float(gradient.astype(np.float64) @ gradient)
        for _ in range(_HALVINGS):
            trial = ahead - gradient / np.float32(curvature)
            reached = smooth(Z, R, trial)[0]
            if reached <= there - slope / (2 * curvature):
                break
            curvature *= 2
        else:
            break
        before, u = u, trial
        if abs(value - reached) <= _LEAST_GAIN * abs(reached):
            break
        value, last = reached, pace
        pace = (1 + math.sqrt(1 + 4 * pace**2)) / 2
        momentum = (last - 1) / pace
    return u
