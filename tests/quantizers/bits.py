"""Signs, packed bits, and the Hamming distances between them."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.quantizers import BinaryQuantizer

D, M = 12, 3
each_nbits = pytest.mark.parametrize("nbits", range(1, 9))


def signs(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (n, d))


def packed(z: np.ndarray) -> np.ndarray:
    return np.packbits(z >= 0, axis=1, bitorder="little")


def bare(M: int, nbits: int = 8, metric: int = faiss.METRIC_L2, **options: Any) -> Any:
    """Make an index of the signs of its vectors, or of what an encoder makes of them."""
    encoder = options.get("encoder")
    d = M * nbits if encoder is None else encoder.d_in
    options["quantizer"] = BinaryQuantizer(M, nbits)
    return deepq.DeepQuantIndex(d, M, nbits, metric, **options)
