"""Codes of training rows that say who is similar to whom: the first stage of CNNH.

Xia, Pan, Lai, Liu & Yan, "Supervised hashing for image retrieval via image representation
learning", AAAI 2014, take S (n, n), 1 for similar rows and -1 for others, minimise

    |S - H H^T / q|_F^2 over H (n, q) in [-1, 1]

one number after the other by Newton's method, and take the signs of H. Two things are added here. A
step is taken only if the loss falls, which it tells exactly; the paper's may rise for few rows. And
in the end bits flip as long as the loss falls: with many classes the signs alone are far worse than
H is.

A sweep takes each row out of H, moves its q numbers, and puts it back. All that it has to know of
the other rows is their Gram matrix (q, q) and their sum weighed by S (q,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepq._common.checks import as_count, as_size
from deepq._common.errors import InputError
from deepq._common.types import Floats, Ids, Progress
from deepq.labels.supervision import Matrix, Supervision

Numbers = NDArray[np.float64]

SWEEPS = 10

_MOST_ROWS = 1 << 15  # of which each pair is looked up


def factorized(
    similarity: Supervision,
    bits: int,
    *,
    sweeps: int = SWEEPS,
    seed: int = 1234,
    progress: Progress | None = None,
) -> Floats:
    """Find codes whose inner products are `bits` for similar rows and -`bits` for others.

    Pairs of which nothing is known do not count, and a row is similar to itself. A row without a
    known pair gets a random code.

    Parameters
    ----------
    similarity : Supervision
        What is known of n rows. Classes and tags may be of any number of rows; time grows with
        n * bits^2.
    bits : int
        Bits of a code.
    sweeps : int
        Passes over all numbers of H, and at most as many over all bits; fewer where nothing moves.
    seed : int
        Seed of the start and of the orders that rows are taken in.
    progress : callable, optional
        Called after each sweep with {"stage", "iteration", "error"}, the loss of a known pair.

    Returns
    -------
    ndarray of float32, (n, bits)
        Codes of 1 and -1.

    Raises
    ------
    InputError, KindError
        If `bits` or `sweeps` is none, or there are more than 32,768 rows without classes.
    """
    bits, sweeps = as_size(bits, "bits"), as_count(sweeps, "sweeps")
    others = _others(similarity)
    rng = np.random.default_rng(seed)
    H = rng.uniform(-1, 1, (similarity.n, bits))
    done = 0
    for stage in ("codes", "bits"):
        if stage == "bits":
            H = np.where(H < 0, -1.0, 1.0)
        others.begin(H)
        for _ in range(sweeps):
            moved = _sweep(H, others, rng, flip=stage == "bits")
            if progress is not None:
                error = others.loss(H) / others.known
                progress({"stage": "codes", "iteration": done, "error": error})
            done += 1
            if not moved:
                break
    return H.astype(np.float32)


class _ByKind:
    """S by blocks: rows of one kind have the same similarities.

    Parameters
    ----------
    similar : (g, g) bool
        Which kinds are similar to which.
    kind : (n,) int
        Kind of every row.

    Attributes
    ----------
    known : int
        Number of pairs that count, (i, j) and (j, i), and of rows with themselves.
    """

    def __init__(self, similar: Matrix, kind: Ids) -> None:
        self.signs = np.where(similar, 1, -1).astype(np.int8)
        self.kind, self.known = kind, len(kind) ** 2

    def begin(self, H: Numbers) -> None:
        """Sum up the rows of H (n, q)."""
        self.gram = H.T @ H
        self.sums = np.zeros((len(self.signs), H.shape[1]))
        np.add.at(self.sums, self.kind, H)

    def move(self, i: int, h: Numbers, sign: float) -> None:
        """Take row i, h (q,), out of the sums (-1) or put it back (1)."""
        self.gram += np.multiply.outer(sign * h, h)
        self.sums[self.kind[i]] += sign * h

    def of(self, i: int, H: Numbers) -> tuple[Numbers, Numbers]:  # noqa: ARG002
        """Gram matrix (q, q) of the others, and their sum weighed by S_i (q,)."""
        return self.gram, self.signs[self.kind[i]].astype(np.float64) @ self.sums

    def loss(self, H: Numbers) -> float:
        """|S - H H^T / q|_F^2."""
        q = H.shape[1]
        own = 1 - self.signs.diagonal()[self.kind]
        products = own @ np.square(H).sum(axis=1)
        for signs, total in zip(self.signs, self.sums, strict=True):
            products += (signs.astype(np.float64) @ self.sums) @ total
        return float(self.known - 2 / q * products + np.square(self.gram / q).sum())


class _ByPair:
    """S of the pairs that are known.

    Parameters
    ----------
    similar, known : (n, n) bool
    """

    def __init__(self, similar: Matrix, known: Matrix) -> None:
        known = known & ~np.eye(len(known), dtype=np.bool_)
        i, self.there = np.nonzero(known)
        self.signs = np.where(similar[i, self.there], 1.0, -1.0)
        self.first = np.searchsorted(i, np.arange(len(known) + 1))
        self.known = len(i) + len(known)

    def begin(self, H: Numbers) -> None:
        """Sum up nothing."""

    def move(self, i: int, h: Numbers, sign: float) -> None:
        """Do nothing."""

    def of(self, i: int, H: Numbers) -> tuple[Numbers, Numbers]:
        """As of `_ByKind`, of the rows of which it is known whether they are similar to i."""
        these = slice(self.first[i], self.first[i + 1])
        near = H[self.there[these]]
        return near.T @ near, self.signs[these] @ near

    def loss(self, H: Numbers) -> float:
        """Sum of (S_ij - H_i . H_j / q)^2 over the pairs that are known, and rows themselves."""
        q = H.shape[1]
        loss = np.square(1 - np.square(H).sum(axis=1) / q).sum()
        for i, h in enumerate(H):
            these = slice(self.first[i], self.first[i + 1])
            loss += np.square(self.signs[these] - H[self.there[these]] @ h / q).sum()
        return float(loss)


def _others(similarity: Supervision) -> _ByKind | _ByPair:
    """Look up S; by kinds, of which there are few, where there are classes."""
    n = similarity.n
    if similarity.classes:
        _, first, kind = np.unique(similarity.y, axis=0, return_index=True, return_inverse=True)
        return _ByKind(similarity.similar(first)[0], kind.reshape(n))
    if n > _MOST_ROWS:
        raise InputError(f"expected at most {_MOST_ROWS} rows without classes, got {n}")
    similar, known = similarity.similar(np.arange(n))
    return _ByKind(similar, np.arange(n)) if known.all() else _ByPair(similar, known)


def _sweep(H: Numbers, others: _ByKind | _ByPair, rng: np.random.Generator, *, flip: bool) -> bool:
    """Move the numbers of all rows in place, or `flip` their bits; return whether one moved."""
    moved = False
    for i in rng.permutation(len(H)):
        others.move(i, H[i], -1)
        better = _row(H[i], *others.of(i, H), flip=flip)
        if better is not None:
            H[i] = better
            moved = True
        others.move(i, H[i], 1)
    return moved


def _row(h: Numbers, gram: Numbers, pull: Numbers, *, flip: bool) -> list[float] | None:
    """Move the numbers of a row h (q,) one after the other; None where none moves.

    With `gram` and `pull` of the others, q^2 times the part of the loss that hangs on h is

        2 h . gram h - 4 q h . pull + (|h|^2 - q)^2,

    which a step d of one number changes by a d + b d^2 / 2 + 4 h_j d^3 + d^4.
    """
    q = len(h)
    slopes = h @ gram - q * pull
    numbers, squares, own = h.tolist(), gram.diagonal().tolist(), float(h @ h) - q
    moved = False
    for j, number in enumerate(numbers):
        a = 4 * (slopes.item(j) + own * number)
        b = 4 * (squares[j] + 2 * number * number + own)
        if flip:
            d = -2 * number
        else:
            d = -a / b if b > 0 else -2.0 if a > 0 else 2.0
            d = min(max(d, -1 - number), 1 - number)
        if d * (a + d * (b / 2 + d * (4 * number + d))) < 0:
            slopes += d * gram[j]
            own += d * (2 * number + d)
            numbers[j] = number + d
            moved = True
    return numbers if moved else None
