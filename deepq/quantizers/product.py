"""Product quantizer: codebooks per sub-space, and the bytes of a code.

A vector z of d_out numbers is cut into M sub-vectors of dsub = d_out / M numbers. Each
sub-space has a codebook of ksub = 2**nbits codewords, and a sub-vector is stored as the
index of its nearest codeword: its *word*. The M words of a vector, packed into bytes in
faiss's layout, are its *code*.

With a decoder (`decoders`) the words are others, and vectors are reconstructed from all of them
together; the codewords then only make the look-up tables of a search.

`BinaryQuantizer` has frozen codewords of +-1: its codes are binary codes, one bit for each number.
"""

from __future__ import annotations

import copy
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.arrays import as_floats
from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, InputError, StateError
from deepq._common.types import (
    METRIC_INNER_PRODUCT,
    METRIC_L2,
    Codes,
    Floats,
    InCells,
    Progress,
    Words,
)
from deepq.decoders.plain import AnyDecoder
from deepq.quantizers.kmeans import fill_empty_cells, growing, sub_vectors
from deepq.quantizers.packing import pack, unpack


class ProductQuantizer:
    """M codebooks of 2**nbits codewords, trained by k-means (Jegou et al., PAMI 2011).

    Parameters
    ----------
    M : int
        Number of sub-spaces, at least 1.
    nbits : int
        Bits of a word, 1 to 16.

    Attributes
    ----------
    num_threads : int
        Threads that share rows. No result depends on it.
    is_frozen : bool
        Whether training leaves the codebooks as they are.

    Raises
    ------
    InputError
        If `M` or `nbits` is out of range.
    """

    is_frozen: bool = False
    _most_bits: int = 16

    def __init__(self, M: int, nbits: int = 8) -> None:
        self.M = as_size(M, "M")
        self.nbits = as_size(nbits, "nbits")
        if self.nbits > self._most_bits:
            raise InputError(f"expected nbits from 1 to {self._most_bits}, got {nbits}")
        self.num_threads = 1
        self._codebooks: Floats | None = None
        self._decoder: AnyDecoder | None = None

    @property
    def ksub(self) -> int:
        """Codewords in each codebook."""
        return 1 << self.nbits

    @property
    def least_rows(self) -> int:
        """Training vectors that are needed at least."""
        return 1 if self.is_frozen else self.ksub

    def require_rows(self, n: int) -> None:
        """Raise InputError unless so many rows are enough; say which shorter words they would do.

        These are the longest that make codes of as many bits.
        """
        if n >= self.least_rows:
            return
        bits = self.M * self.nbits
        shorter = [b for b in range(1, self.nbits) if bits % b == 0 and 1 << b <= n]
        hint = f": nbits={shorter[-1]} takes {1 << shorter[-1]}" if shorter else ""
        raise InputError(
            f"expected at least {self.least_rows} training vectors for words of {self.nbits} bits, "
            f"got {n}{hint}"
        )

    @property
    def code_size(self) -> int:
        """Bytes of one code."""
        return (self.M * self.nbits + 7) // 8

    @property
    def is_trained(self) -> bool:
        """Whether there are codebooks."""
        return self._codebooks is not None

    @property
    def dsub(self) -> int:
        """Length of a sub-vector. Raises StateError before training."""
        return int(self.trained().shape[2])

    @property
    def codebooks(self) -> Floats | None:
        """Codewords, (M, ksub, dsub) float32; None before training.

        Setting copies what is given, and forgets the decoder; None forgets the training.
        Raises DimensionError for another shape and InputError for NaN or infinity, or for other
        codewords than those that are frozen.
        """
        return self._codebooks

    @codebooks.setter
    def codebooks(self, value: Floats | None) -> None:
        if value is not None:
            self.share(self._as_books(value))
        elif not self.is_frozen:
            self._codebooks = None
        self._decoder = None

    @property
    def decoder(self) -> AnyDecoder | None:
        """What chooses words and reconstructs vectors in place of the codewords, if anything.

        Setting raises DimensionError if it does not fit the codebooks, InputError if these are
        frozen: their words are those of the nearest codewords.
        """
        return self._decoder

    @decoder.setter
    def decoder(self, value: AnyDecoder | None) -> None:
        if value is not None and self.is_frozen:
            raise InputError(f"expected no decoder for a {type(self).__name__}, got one")
        if value is not None and value.shape != (self.M, self.ksub, self.M * self.dsub):
            wanted = self.M, self.ksub, self.M * self.dsub
            raise DimensionError(f"expected a decoder (M, ksub, d) = {wanted}, got {value.shape}")
        self._decoder = value

    def _as_books(self, value: Any) -> Floats:
        """Copy an array (M, ksub, dsub) of finite numbers."""
        books = as_floats(value, "codebooks")
        if books.ndim != 3 or books.shape[:2] != (self.M, self.ksub) or books.shape[2] < 1:
            raise DimensionError(
                f"expected codebooks of shape ({self.M}, {self.ksub}, dsub), got {books.shape}"
            )
        if not np.isfinite(books).all():
            raise InputError("expected finite codebooks, got NaN or infinity")
        return books

    def fresh(self) -> ProductQuantizer:
        """Make a quantizer of the same kind, M, nbits and threads that has learned nothing."""
        other = type(self)(self.M, self.nbits)
        other.num_threads = self.num_threads
        return other

    def take(self, other: ProductQuantizer) -> None:
        """Take over the codewords and the decoder of a quantizer of the same M and nbits."""
        self.share(other.trained())
        self._decoder = other._decoder

    def share(self, codebooks: Floats) -> None:
        """Use these codebooks without a copy; a decoder stays."""
        self._codebooks = codebooks

    def train(
        self,
        z: Floats,
        *,
        iterations: int = 25,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Fit the codebooks by Lloyd's k-means, from the present ones if there are any.

        Frozen ones stay, and `z` is only checked. From new ones on, the first steps see a part of
        the rows, at least 4,096 and 16 a codeword, and the last quarter of them sees all.

        Parameters
        ----------
        z : ndarray of float32, (n, M * dsub)
            Training vectors, at least `least_rows`.
        iterations : int
            Lloyd steps.
        seed : int
            Seed of the start and of the re-seeding of empty cells.
        progress : callable, optional
            Called after each step with {"stage": "codebooks", "iteration": i, "error": e},
            e the mean squared distance of a vector to its reconstruction.

        Raises
        ------
        DimensionError
            If the columns of `z` cannot be split into M, or do not fit the codebooks.
        InputError
            If there are too few rows, or NaN or infinity among them.
        """
        z = self._as_rows(z)
        if not _scan.all_finite(z):
            raise InputError("expected finite training vectors, got NaN or infinity")
        if self.is_frozen:
            return
        rng = np.random.default_rng(seed)
        if self._codebooks is None:
            self.draw(z, rng)
            parts = growing(z, iterations, self.ksub, rng)
        else:
            parts = repeat(z, iterations)
        for i, part in enumerate(parts):
            error = self.update(part, self.assign(part), rng)
            if progress is not None:
                progress({"stage": "codebooks", "iteration": i, "error": error})

    def draw(self, z: Floats, rng: np.random.Generator) -> None:
        """Take ksub distinct rows of `z` as the codewords, the same rows in every sub-space."""
        self.require_rows(len(z))
        rows = z[rng.choice(len(z), self.ksub, replace=False)]
        self.codebooks = rows.reshape(self.ksub, self.M, -1).transpose(1, 0, 2)

    def update(self, z: Floats, words: Words, rng: np.random.Generator) -> float:
        """Move every codeword to the mean of its cell; the second half of a Lloyd step.

        A codeword whose cell is empty moves onto a row drawn with a probability
        proportional to its squared error, so that no step can raise the error.

        Returns
        -------
        float
            Mean squared distance of the rows to the means of their cells.
        """
        sums, counts, energy = _scan.accumulate(z, words, self.ksub)
        means = sums / np.maximum(counts, 1)[:, :, None]
        books = np.where(counts[:, :, None] > 0, means, self.trained()).astype(np.float32)
        for m in np.flatnonzero((counts == 0).any(axis=1)):
            fill_empty_cells(books[m], counts[m], sub_vectors(z, self.M, int(m)), words[:, m], rng)
        self.share(books)
        return max(0.0, energy - float((sums * means).sum())) / len(z)

    def sum_cells(self, x: Floats, words: Words) -> tuple[Floats, NDArray[np.int64]]:
        """Add up the rows (n, d) with each word of one sub-space: sums (ksub, d), numbers (ksub,).

        `words` are (n,); the sums are in single precision.
        """
        return _scan.sum_cells(x, words, self.ksub)

    def with_threads(self, count: int) -> ProductQuantizer:
        """Make one of the same numbers, which are shared, that works in so many threads."""
        if count == self.num_threads:
            return self
        other = copy.copy(self)
        other.num_threads = count
        return other

    def assign(self, z: Floats) -> Words:
        """Words of the nearest codewords, (n, M) uint8, or uint16 for nbits > 8."""
        words: Words = _scan.assign(self._as_rows(z), self.trained(), num_threads=self.num_threads)
        return words

    def gather(self, words: Words) -> Floats:
        """Codewords (n, M * dsub) float32 of unpacked words (n, M)."""
        books = self.trained()
        z = np.empty((len(words), self.M, self.dsub), dtype=np.float32)
        for m in range(self.M):
            z[:, m] = books[m][words[:, m]]
        return z.reshape(len(words), self.M * self.dsub)

    def choose(self, z: Floats, cells: InCells | None = None) -> Words:
        """Words (n, M) that vectors (n, M * dsub) are stored as: the decoder's choice, if any.

        Else those of the nearest codewords. `cells` are for a decoder that knows them.
        """
        if self._decoder is None:
            return self.assign(z)
        z = np.ascontiguousarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self._decoder.width:
            z = self._as_rows(z)
        return self._decoder.choose(z, self.num_threads, cells)

    def encode(self, z: Floats, cells: InCells | None = None) -> Codes:
        """Packed codes (n, code_size) uint8 of the vectors (n, M * dsub): see `choose`."""
        return pack(self.choose(z, cells), self.nbits)

    def decode(self, codes: Codes, cells: InCells | None = None) -> Floats:
        """Reconstructions (n, M * dsub) float32 of packed codes (n, code_size)."""
        return self.reconstruct(unpack(codes, self.M, self.nbits), cells)

    def reconstruct(self, words: Words, cells: InCells | None = None) -> Floats:
        """Reconstructions (n, M * dsub) float32 of words (n, M): by the decoder, if any.

        Its `weight` mixes them with the codewords, its `level` gives them their lengths.
        """
        return self.wide(self._reconstruct_narrow(words, cells))

    def _reconstruct_narrow(self, words: Words, cells: InCells | None) -> Floats:
        """Reconstructions (n, width) of words (n, M), as by `narrow`."""
        decoder = self._decoder
        if decoder is None:
            return self.gather(words)
        z = decoder.decode(words, self.num_threads, cells)
        if decoder.weight != 1:
            z = decoder.weight * z + (1 - decoder.weight) * self.gather(words)
        return decoder.level(z, cells)

    def narrow(self, z: Floats) -> Floats:
        """Vectors (n, width) that stand for embeddings (n, M * dsub) where those are compared.

        They are the same but with an additive decoder: see `decoders.additive`.
        """
        return z if self._decoder is None else self._decoder.narrow(z)

    def wide(self, z: Floats) -> Floats:
        """Embeddings (n, M * dsub) for which `narrow` vectors stand; others stay as they are."""
        if self._decoder is None or z.shape[1] == self.M * self.dsub:
            return z
        return self._decoder.wide(z)

    def decode_narrow(self, codes: Codes, cells: InCells | None = None) -> Floats:
        """Reconstructions (n, width) float32 of packed codes (n, code_size), as by `narrow`."""
        return self._reconstruct_narrow(unpack(codes, self.M, self.nbits), cells)

    def lookup_tables(self, zq: Floats, metric: int = METRIC_L2) -> Floats:
        """Tables whose sum over the words of a code is its distance to the query.

        Parameters
        ----------
        zq : ndarray of float32, (nq, M * dsub)
            Queries.
        metric : int
            METRIC_L2 (squared distances, computed as (z - c)^2 without cancellation) or
            METRIC_INNER_PRODUCT.

        Returns
        -------
        ndarray of float32, (nq, M, ksub)
        """
        books = self.trained()
        parts = self._as_rows(zq).reshape(-1, self.M, self.dsub)
        luts = np.zeros((len(parts), self.M, self.ksub), dtype=np.float32)
        if metric == METRIC_INNER_PRODUCT:
            by_sub_space = luts.transpose(1, 0, 2)
            np.matmul(parts.transpose(1, 0, 2), books.transpose(0, 2, 1), out=by_sub_space)
            return luts
        if metric != METRIC_L2:
            raise InputError(f"expected metric 1 (L2) or 0 (inner product), got {metric}")
        for j in range(self.dsub):
            luts += np.square(parts[:, :, j, None] - books[None, :, :, j])
        return luts

    def trained(self) -> Floats:
        """Codebooks, (M, ksub, dsub) float32. Raises StateError before training."""
        if self._codebooks is None:
            raise StateError("expected a trained quantizer, got one without codebooks")
        return self._codebooks

    def _as_rows(self, z: Floats) -> Floats:
        z = np.ascontiguousarray(z, dtype=np.float32)
        if z.ndim != 2 or z.shape[1] == 0 or z.shape[1] % self.M:
            raise DimensionError(f"expected rows of a multiple of M = {self.M}, got {z.shape}")
        if self._codebooks is not None and z.shape[1] != self.M * self.dsub:
            raise DimensionError(f"expected {self.M * self.dsub} columns, got {z.shape[1]}")
        return z
