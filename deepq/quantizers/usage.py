"""How often codewords are used, and how many bits their words tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Codes
from deepq.quantizers.packing import unpack
from deepq.quantizers.product import ProductQuantizer

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


def no_counts(quantizer: ProductQuantizer) -> Counts:
    """Make counts (M, ksub) of nothing."""
    return np.zeros((quantizer.M, quantizer.ksub), np.int64)


def count(counts: Counts, codes: Codes, quantizer: ProductQuantizer) -> None:
    """Add to counts (M, ksub) how often each codeword occurs in packed codes (n, code_size)."""
    words = unpack(codes, quantizer.M, quantizer.nbits)
    for m, row in enumerate(counts):
        row += np.bincount(words[:, m], minlength=len(row))


def entropies(counts: Counts) -> Numbers:
    """Entropies (M,) of the words in bits, as counted."""
    p = counts / counts[0].sum()
    found: Numbers = -(p * np.log2(p, out=np.zeros_like(p), where=p > 0)).sum(axis=1)
    return found


def expected_bits(n: int, entropies: Numbers, occurring: Numbers) -> float:
    """Sum of the entropies that many more rows would show.

    Those of n rows are too small, by about (c - 1) / 2n nats with c codewords that occur (Miller,
    "Note on the bias of information estimates", 1955).
    """
    return float((entropies + (occurring - 1) / (2 * n * np.log(2))).sum())
