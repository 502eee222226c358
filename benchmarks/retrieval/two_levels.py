"""Cells and codes of residuals as one quantizer, so that both can be learned with a network."""

from __future__ import annotations

import faiss
import numpy as np

import deepq
from deepq._common.types import Floats, Words
from deepq.quantizers import ProductQuantizer
from deepq.training.cells import CentreQuantizer

_ITERATIONS = 25


class TwoLevels:
    """Codebooks of residuals, and the centres that the residuals are of.

    A training of networks takes it for a `ProductQuantizer`.

    Parameters
    ----------
    coarse : ProductQuantizer
        Of centres: two codebooks for an inverted multi-index, one for cells of k-means.
    fine : ProductQuantizer
        Of residuals.
    """

    def __init__(self, coarse: ProductQuantizer, fine: ProductQuantizer) -> None:
        self.coarse, self.fine = coarse, fine
        self.least_rows = max(coarse.least_rows, fine.least_rows)

    @property
    def codebooks(self) -> Floats | None:
        """Those of residuals; None before there are any."""
        return self.fine.codebooks

    def train(self, z: Floats, *, iterations: int = 0, seed: int = 1234) -> None:
        """Learn centres, then codebooks of what is left; then let both move by turns.

        In a turn codewords go to the means of the residuals, and centres to the means of what the
        codewords leave of their vectors.
        """
        if self.codebooks is None:
            self.coarse.train(z, iterations=_ITERATIONS, seed=seed)
            self.fine.train(z - self._centres(z)[1], iterations=_ITERATIONS, seed=seed)
        rng = np.random.default_rng(seed)
        for _ in range(iterations):
            cells, centres = self._centres(z)
            words = self.fine.assign(z - centres)
            self.fine.update(z - centres, words, rng)
            self.coarse.update(z - self.fine.gather(words), cells, rng)

    def assign(self, z: Floats) -> tuple[Words, Words]:
        """Words of the nearest centres, and of what is left."""
        cells, centres = self._centres(z)
        return cells, self.fine.assign(z - centres)

    def gather(self, words: tuple[Words, Words]) -> Floats:
        """Centres and codewords (n, d), summed up."""
        whole: Floats = self.coarse.gather(words[0]) + self.fine.gather(words[1])
        return whole

    def error(self, z: Floats) -> float:
        """Mean squared distance of vectors to what they are quantized to."""
        return float(np.square(z - self.gather(self.assign(z))).sum(axis=1).mean())

    def _centres(self, z: Floats) -> tuple[Words, Floats]:
        cells = self.coarse.assign(z)
        return cells, self.coarse.gather(cells)

    def index(self, metric: int) -> deepq.DeepQuantIVFIndex:
        """Make an empty index of these cells and codebooks."""
        books = self.coarse.trained()
        halves, size, dsub = books.shape
        d = halves * dsub
        if halves == 1:
            quantizer = faiss.IndexFlatL2(d)
            quantizer.add(books[0])
        else:
            quantizer = faiss.MultiIndexQuantizer(d, halves, self.coarse.nbits)
            faiss.copy_array_to_vector(books.ravel(), quantizer.pq.centroids)
            quantizer.is_trained, quantizer.ntotal = True, size**halves
        plain = faiss.IndexIVFPQ(quantizer, d, size**halves, self.fine.M, self.fine.nbits, metric)
        plain.do_polysemous_training = False
        faiss.copy_array_to_vector(self.fine.trained().ravel(), plain.pq.centroids)
        plain.is_trained = True
        return deepq.from_faiss(plain)


def cells_of(kind: str, bits: int) -> ProductQuantizer:
    """Return 2 ** bits centres to be learned, of the kind "imi" or "kmeans"."""
    return ProductQuantizer(2, bits // 2) if kind == "imi" else CentreQuantizer(1 << bits)
