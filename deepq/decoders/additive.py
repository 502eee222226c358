"""Additive codes: a vector is a sum of codewords of its whole length, one for each word.

    z_hat = mu + sum_m T_m[w_m]

(Babenko & Lempitsky, "Additive quantization for extreme vector compression", CVPR 2014), mu the
centre. Words are chosen one after the other, and the best few beginnings are kept (beam search).

Look-up tables answer for such codes as well, also faiss's. With shares a_m, sum_m a_m^2 = 1, and
x = q - mu,

    |q - z_hat|^2 = sum_m |a_m x - T_m[w_m] / a_m|^2 + R,
    R = |sum_m T_m[w_m]|^2 - sum_m |T_m[w_m]|^2 / a_m^2.

The sum is that of a product quantizer for *wide* vectors (`wide`), in which x stands M times:
sub-space m has a_m x, and a zero behind it. R is nearly a sum of numbers, one for each word; their
roots stand where the zero is, after a constant has been added that makes none negative. So the
distances of tables are too large by a constant; those of decoded vectors are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from deepq import _decode, _scan
from deepq._common.checks import as_size
from deepq._common.errors import InputError
from deepq._common.neighbours import unit_of_tiny
from deepq._common.threads import run_blocks
from deepq._common.types import Floats, InCells, Words
from deepq.decoders import wide
from deepq.decoders.base import FixedNumbers
from deepq.decoders.checks import as_arrays
from deepq.decoders.panels import panels, widened

MOST_WORDS, MOST_KSUB = 32, 256  # of a code: the table of all pairs takes their squares

_BLOCK = 512  # rows that a thread takes at a time
_SHAPES = {"tables": ("M", "ksub", "d"), "centre": ("d",), "shares": ("M",)}


class AdditiveDecoder(FixedNumbers):
    """Codewords that are added up, with given numbers, which stay as they are.

    Parameters
    ----------
    arrays : mapping of arrays
        Arrays of finite numbers, with the names

        * "tables" (M, ksub, d): T, M at most 32 and ksub at most 256;
        * "centre" (d,): mu;
        * "shares" (M,): a, above 0, the sum of their squares 1.
    shrink, levelling, length, spare
        As every decoder has them: see `FixedNumbers`.
    beam : int
        Beginnings of a code that are kept while its words are chosen.

    Attributes
    ----------
    arrays : dict of float32 arrays
        The numbers, read-only.
    weight : float
        1: nothing else is mixed with what it decodes.

    Raises
    ------
    DimensionError
        If the shapes do not fit each other.
    InputError
        If a number is NaN, infinite or out of range.
    """

    kind = "additive"
    weight = 1.0
    beam: int
    _checks: ClassVar = {**FixedNumbers._checks, "beam": as_size}
    _choosing: ClassVar = ("beam",)

    def __init__(
        self,
        arrays: Mapping[str, ArrayLike],
        *,
        shrink: float = 1.0,
        levelling: float = 0.0,
        length: float = 1.0,
        beam: int = 8,
        spare: int = 0,
    ) -> None:
        self.arrays = as_arrays(arrays, _SHAPES)
        M, ksub, _ = self.arrays["tables"].shape
        if M > MOST_WORDS or ksub > MOST_KSUB:
            most = f"{MOST_WORDS} tables of at most {MOST_KSUB} codewords"
            raise InputError(f"expected at most {most}, got {M} of {ksub}")
        wide.require_shares(self.arrays["shares"])
        self._set(shrink=shrink, levelling=levelling, length=length, beam=beam, spare=spare)

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, ksub and the length of a wide vector, M (d + 1)."""
        M, ksub, d = self.arrays["tables"].shape
        return M, ksub, M * (d + 1)

    @property
    def width(self) -> int:
        """Length d of what `decode` returns."""
        return int(self.arrays["tables"].shape[2])

    def state(self) -> dict[str, Any]:
        """Its kind, arrays and settings, for `from_state`."""
        return {"kind": self.kind, **super().state()}

    # ---- wide vectors ------------------------------------------------------------------------

    def wide(self, z: Floats) -> Floats:
        """Wide vectors (n, M (d + 1)) of vectors (n, d); distances are the same."""
        return wide.wide(z, self.arrays["shares"], self.arrays["centre"])

    def narrow(self, z: Floats) -> Floats:
        """Vectors (n, d) of wide ones; those that are not wide are returned as they are.

        Raises DimensionError for rows of another length.
        """
        return wide.narrow(z, self.arrays["shares"], self.arrays["centre"])

    def codebooks(self, lengths: Floats | None, shrink: float = 1.0) -> Floats:
        """Codewords (M, ksub, d + 1) of the tables for wide queries.

        Parameters
        ----------
        lengths : (M, ksub) float32, or None
            Numbers whose sums over the words of a code are near |z_hat - mu|^2, before any drawing
            towards the centre; None for inner products, which need none.
        shrink : float
            How far the tables' vectors are drawn towards the centre.
        """
        tables, shares = self.arrays["tables"], self.arrays["shares"]
        M, ksub, d = tables.shape
        books = np.zeros((M, ksub, d + 1), np.float32)
        books[:, :, :d] = np.float32(shrink) * tables / shares[:, None, None]
        if lengths is not None:
            rest = np.square(np.float64(shrink)) * lengths
            rest -= np.square(books, dtype=np.float64).sum(axis=2)
            books[:, :, d] = np.sqrt(rest - rest.min(axis=1, keepdims=True))
        return books

    # ---- words -------------------------------------------------------------------------------

    def decode(self, words: Words, num_threads: int = 1, cells: InCells | None = None) -> Floats:  # noqa: ARG002
        """Reconstructions (n, d) float32 of words (n, M), whatever the cells of the vectors."""
        z = np.empty((len(words), self.width), np.float32)

        def work(rows: slice) -> None:
            sums = _scan.add_up(self.arrays["tables"], words[rows])
            z[rows] = self.arrays["centre"] + np.float32(self.shrink) * sums

        run_blocks(work, len(words), _BLOCK, num_threads)
        return z

    def choose(self, z: Floats, num_threads: int = 1, cells: InCells | None = None) -> Words:  # noqa: ARG002
        """Choose words (n, M) uint8 that decode to near vectors, before any drawing to the centre.

        Parameters
        ----------
        z : (n, d) or (n, M (d + 1)) float32
            Vectors, or wide ones.
        num_threads : int
            Threads that share the vectors; no word depends on it.
        cells : InCells, optional
            Not looked at.
        """
        M, ksub, _ = self.shape
        cross, products, halves = self._pairs
        words = np.empty((len(z), M), np.uint8)

        def work(rows: slice) -> None:
            moved = (self.narrow(z[rows]) - self.arrays["centre"]) * self._unit
            costs = _decode.multiply(widened(moved), products)[:, : M * ksub] + halves
            words[rows] = _decode.beam(costs.reshape(-1, M, ksub), cross, self.beam)

        run_blocks(work, len(z), _BLOCK, num_threads)
        return words

    def summands(self) -> Floats:
        """Vectors (M, ksub, d) whose sums over the words of a code are what it decodes to."""
        summands = self.arrays["tables"].copy()
        summands[0] += self.arrays["centre"]
        return summands

    @cached_property
    def _pairs(self) -> tuple[Floats, Floats, Floats]:
        """What halves of squared errors are made of.

        Inner products of all pairs of codewords c, as `beam` wants them; -c as panels; c.c / 2.
        """
        tables = self.arrays["tables"] * self._unit
        M, ksub, d = tables.shape
        cross = np.empty((M * (M - 1) // 2, ksub, ksub), np.float32)
        for m in range(1, M):
            first = m * (m - 1) // 2
            np.matmul(tables[:m], tables[m].T, out=cross[first : first + m])
        books = tables.reshape(-1, d)
        return cross, panels(-books.T), np.square(books).sum(axis=1) / 2

    @cached_property
    def _unit(self) -> np.float32:
        """What all is multiplied by where squares are needed: 1, but for tiny vectors."""
        return unit_of_tiny(self.arrays["tables"])
