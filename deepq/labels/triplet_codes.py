"""Bits of training rows that are inferred from triplets: the first stage of FTBE.

Zhuang, Lin, Shen & Reid, "Fast training of triplet-based deep binary embedding networks", CVPR
2016. For triplets (i, j, k), j similar to i and k not, codes h in {-1, 1}^q shall minimise the sum
of

    max(margin + d(i, j) - d(i, k), 0),

d the Hamming distance. One bit is added after the other. Given those before, the loss of a triplet
is a function of the products h_i h_j and h_i h_k of its new bits, and any such function is

    c_0 + c_1 h_i h_j + c_2 h_i h_k + c_3 h_j h_k.

So the new bit of all rows minimises a quadratic form h^T W h, W sparse. It starts from the signs of
the least eigenvector, and each row in turn takes the better sign until none changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Floats, Ids
from deepq.labels.supervision import Supervision

Numbers = NDArray[np.float64]

_BATCH = 1000  # rows among which the others of a triplet are drawn
_PASSES = 5  # over all rows, in which the triplets of a row are drawn
_POWERS = 30  # iterations for the eigenvector
_SWEEPS = 20  # over all rows, at most


def drawn(supervision: Supervision, count: int, rng: np.random.Generator) -> Ids:
    """Draw triplets (t, 3) of rows, `count` of each row that has similar and dissimilar ones.

    The others of a row come from several batches, a pass over all rows each: from one batch alone,
    nothing would tie the bits of its rows to those of the rest.
    """
    found = [np.empty((0, 3), np.int64)]
    for number in range(min(count, _PASSES)):
        some = len(range(number, count, _PASSES))
        found += [_among(supervision, rows, some, rng) for rows in supervision.batches(_BATCH, rng)]
    return np.concatenate(found)


def _among(supervision: Supervision, rows: Ids, count: int, rng: np.random.Generator) -> Ids:
    """Draw `count` triplets of each of some rows that has others among them."""
    similar, known = supervision.similar(rows)
    similar = similar & ~np.eye(len(rows), dtype=np.bool_)
    other = known & ~similar & ~np.eye(len(rows), dtype=np.bool_)
    able = np.flatnonzero(similar.any(axis=1) & other.any(axis=1))
    near, far = (_draws(allowed[able], count, rng) for allowed in (similar, other))
    found: Ids = rows[np.stack([np.repeat(able, count), near.ravel(), far.ravel()], axis=1)]
    return found


def _draws(allowed: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Ids:
    """Draw `count` columns for each row of `allowed` among those that are, with repetition."""
    sums = allowed.cumsum(axis=1)
    wanted = (rng.random((len(allowed), count)) * sums[:, -1:]).astype(np.int64)
    draws: Ids = np.empty_like(wanted)
    for row, those, found in zip(sums, wanted, draws, strict=True):
        found[:] = np.searchsorted(row, those, side="right")
    return draws


def inferred(
    codes: Floats, triplets: Ids, bits: int, margin: float, rng: np.random.Generator
) -> Floats:
    """Infer more bits.

    Parameters
    ----------
    codes : (n, q) float32
        Codes of +-1: the bits there are; q may be 0.
    triplets : (t, 3) int
        Rows i, j and k.
    bits : int
        How many to add.
    margin : float
        Bits by which triplets should be apart.
    rng : numpy.random.Generator
        Draws where a start is even.

    Returns
    -------
    ndarray of float32, (n, bits)
        Codes of +-1.
    """
    n = len(codes)
    i, j, k = triplets.T
    apart = _distances(codes, i, j) - _distances(codes, i, k)
    added = np.empty((n, bits), np.float32)
    for b in range(bits):
        form = _Form(n, triplets, coefficients(margin + apart))
        h = form.least(rng)
        added[:, b] = h
        apart += (h[i] != h[j]).astype(float) - (h[i] != h[k])
    return added


def coefficients(slack: Numbers) -> Numbers:
    """Return c_1, c_2 and c_3 (3, t) of triplets with slack = margin + d(i, j) - d(i, k) so far.

    The new bit adds 1 to d(i, j) where h_i h_j is -1, and so on.
    """
    both = hinge(slack)  # (1, 1), and (-1, -1), which adds 1 to both distances
    near, far = hinge(slack - 1), hinge(slack + 1)  # (1, -1) and (-1, 1)
    return np.stack([near - far, far - near, 2 * both - near - far]) / 4


def hinge(x: Numbers) -> Numbers:
    """max(x, 0)."""
    return np.maximum(x, 0)


def _distances(codes: Floats, a: Ids, b: Ids) -> Numbers:
    """Hamming distances of some pairs of rows."""
    return np.asarray((codes[a] != codes[b]).sum(axis=1), np.float64)


class _Form:
    """h^T W h, W (n, n) symmetric and sparse, as the pairs of triplets weigh it."""

    def __init__(self, n: int, triplets: Ids, weights: Numbers) -> None:
        i, j, k = triplets.T
        a, b = np.concatenate([i, i, j]), np.concatenate([j, k, k])
        w = weights.ravel()
        keep = w != 0
        here, there = np.concatenate([a[keep], b[keep]]), np.concatenate([b[keep], a[keep]])
        order = np.argsort(here, kind="stable")
        self.n, self.here, self.there = n, here[order], there[order]
        self.w = np.concatenate([w[keep], w[keep]])[order]
        self.first = np.searchsorted(self.here, np.arange(n + 1))

    def times(self, h: Numbers) -> Numbers:
        """W h."""
        return np.bincount(self.here, self.w * h[self.there], self.n).astype(np.float64)

    def least(self, rng: np.random.Generator) -> Any:
        """Return signs (n,) of which no single one can be changed for the better."""
        h = rng.standard_normal(self.n)
        shift = np.bincount(self.here, np.abs(self.w), self.n).max(initial=0)
        for _ in range(_POWERS):
            h = shift * h - self.times(h)
            h /= max(np.abs(h).max(), 1e-300)
        h = np.where(h < 0, -1.0, 1.0)
        for _ in range(_SWEEPS):
            changed = 0
            for row in rng.permutation(self.n):
                part = slice(self.first[row], self.first[row + 1])
                pull = self.w[part] @ h[self.there[part]]
                if pull * h[row] > 0:
                    h[row] = -h[row]
                    changed += 1
            if not changed:
                break
        return h
