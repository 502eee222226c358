"""Lengths of decoded vectors: near each other, where those of the vectors are.

A mean is shorter than what it is the mean of, and the less a code says of a vector, the shorter is
what it decodes to. Of vectors that are equally long, as many embeddings are, that is known to be
wrong: nearest are those at the smallest angle. So decoded vectors z are lengthened or shortened,

    z (r / |z|)^b,

r the length of the vectors: with b = 1 all are equally long. Held-out rows say which b ranks best
(`training.fitting`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepq._common.checks import as_real
from deepq._common.errors import InputError
from deepq._common.types import Floats


def levelled(z: Floats, levelling: float, length: float) -> Floats:
    """Vectors (n, d) times (length / |z|)^levelling; those of zeros stay.

    Quarters of `levelling` are square roots, of which every machine has the same bits.
    """
    lengths = np.sqrt(np.square(z, dtype=np.float64).sum(axis=1))
    quarter = np.sqrt(np.sqrt(length / np.where(lengths > 0, lengths, length)))
    factors = np.ones(len(z))
    for _ in range(round(4 * levelling)):
        factors *= quarter
    return z * factors[:, None].astype(np.float32)


def as_levelling(value: Any) -> float:
    """Take 0, 0.25, 0.5, 0.75 or 1. Raises InputError for another."""
    levelling = as_real(value, "levelling")
    if levelling not in (0, 0.25, 0.5, 0.75, 1):
        raise InputError(f"expected levelling to be 0, 0.25, 0.5, 0.75 or 1, got {value}")
    return levelling


def as_length(value: Any) -> float:
    """Take a number above 0. Raises InputError for another."""
    length = as_real(value, "length")
    if not 0 < length < np.inf:
        raise InputError(f"expected a length above 0, got {value}")
    return length
