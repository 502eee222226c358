"""Lengths of decoded vectors: near each other, where those of the vectors are.

A mean is shorter than what it is the mean of, and the less a code says of a vector, the shorter is
what it decodes to. Of vectors that are equally long, as many embeddings are, that is known to be
wrong: nearest are those at the smallest angle. So decoded vectors z are lengthened or shortened,

    z (r / |z|)^p,

r the length of the vectors: with p = 1 all are equally long. Held-out rows say which p ranks best
(`training.fitting`).
"""

from __future__ import annotations

import numpy as np

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
