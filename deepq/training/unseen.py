"""Rows that nothing is learned from, and what codes lose of them: what others may expect."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from deepq._common.types import Floats, Ids, InCells
from deepq.quantizers.judging import FEWEST_ROWS, TOP, hold_out
from deepq.quantizers.product import ProductQuantizer
from deepq.quantizers.usage import count, entropies, expected_bits, no_counts

_MOST = 10_000

_log = logging.getLogger("deepq.training")


def draw(n: int, share: float, quantizer: ProductQuantizer, rng: np.random.Generator) -> Ids:
    """Draw the rows that nothing is learned from: none where they would be too few to judge."""
    count = min(int(n * share), _MOST)
    if not count or quantizer.nbits > 8 or quantizer.is_frozen:
        return np.empty(0, np.int64)
    if count < FEWEST_ROWS or n - count < max(2 * quantizer.ksub, TOP + 1):
        _log.info("%d training vectors: too few to judge what else could be learned", n)
        return np.empty(0, np.int64)
    return hold_out(n, count, rng)


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
