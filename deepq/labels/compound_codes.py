"""Sparse codes of several levels for classes, from their mean scores, by min-cost flow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepq.labels.buckets import assign_buckets

RIVALRY = 100.0  # of classes with one prefix: they differ wherever there is room


def compound_codes(
    scores: NDArray[np.floating], sparsity: int = 1, crowding: float = 0.1
) -> NDArray[np.bool_]:
    """Find the codes that suit classes best while few classes share a part of one.

    Level by level, as Jeong, Kim & Song, CVPR 2019, section 4: classes with the same code on all
    levels before are rivals for the buckets of the next one.

    Parameters
    ----------
    scores : (n, levels, width) array
        How well the words of each level suit each class.
    sparsity : int
        Words of a class on the last level; on those before it is one.
    crowding : float
        Cost of two classes with one word in common on a level.

    Returns
    -------
    (n, levels, width) bool
        True for the words of a class.

    Raises
    ------
    ImportError, InputError
        As `assign_buckets`.
    """
    n, levels, width = scores.shape
    codes = np.zeros(scores.shape, np.bool_)
    prefix = np.zeros(n, np.int64)
    for level in range(levels):
        words = assign_buckets(
            scores[:, level],
            sparsity if level == levels - 1 else 1,
            crowding=crowding,
            groups=prefix if level else None,
            rivalry=RIVALRY if level else 0.0,
        )
        np.put_along_axis(codes[:, level], words, True, axis=1)
        prefix = prefix * width + words[:, 0]
    return codes
