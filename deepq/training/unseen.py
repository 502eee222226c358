"""What codes lose of rows that nothing was learned from: what is to be expected of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deepq._common.types import Floats, InCells
from deepq.quantizers.product import ProductQuantizer
from deepq.quantizers.usage import count, entropies, expected_bits, no_counts


class Unseen(NamedTuple):
    """What codes lose of rows that were held out of a training.

    Attributes
    ----------
    rows : int
        How many there were.
    error : float
        Mean squared distance of an embedding to its reconstruction.
    bits : float
        Sum of the entropies of the words: see `quantizers.usage.expected_bits`.
    """

    rows: int
    error: float
    bits: float

    @classmethod
    def of(cls, quantizer: ProductQuantizer, z: Floats, known: InCells | None) -> Unseen:
        """Measure it for embeddings (n, d_out), or residuals in `known` cells."""
        codes, counts = quantizer.encode(z, known), no_counts(quantizer)
        count(counts, codes, quantizer)
        lost = np.square(z - quantizer.decode_narrow(codes, known)).sum(axis=1, dtype=np.float64)
        occurring = np.count_nonzero(counts, axis=1)
        bits = expected_bits(len(z), entropies(counts), occurring)
        return cls(len(z), float(lost.mean()), bits)
