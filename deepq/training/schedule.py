"""The rate of learning over the time of a training."""

from __future__ import annotations

import math

_RISE = 0.15


def one_cycle(progress: float) -> float:
    """Part of the highest rate at a part of the way, both 0 to 1: a rise, then half a cosine.

    Smith & Topin, "Super-convergence", 2018.
    """
    if progress < _RISE:
        return progress / _RISE
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - _RISE) / (1 - _RISE)))
