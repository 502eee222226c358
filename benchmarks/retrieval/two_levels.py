"""Indexes of cells and codes of residuals that were learned by hand."""

from __future__ import annotations

import faiss

import deepq
from deepq.quantizers import ProductQuantizer
from deepq.training.cells import CentreQuantizer, TwoLevels


def cells_of(kind: str, bits: int) -> ProductQuantizer:
    """Return 2 ** bits centres to be learned, of the kind "imi" or "kmeans"."""
    return ProductQuantizer(2, bits // 2) if kind == "imi" else CentreQuantizer(1 << bits)


def index_of(learned: TwoLevels, metric: int) -> deepq.DeepQuantIVFIndex:
    """Make an empty index of learned cells and codebooks."""
    books, fine = learned.coarse.trained(), learned.fine
    halves, size, dsub = books.shape
    d = halves * dsub
    if halves == 1:
        quantizer = faiss.IndexFlatL2(d)
        quantizer.add(books[0])
    else:
        quantizer = faiss.MultiIndexQuantizer(d, halves, learned.coarse.nbits)
        faiss.copy_array_to_vector(books.ravel(), quantizer.pq.centroids)
        quantizer.is_trained, quantizer.ntotal = True, size**halves
    plain = faiss.IndexIVFPQ(quantizer, d, size**halves, fine.M, fine.nbits, metric)
    plain.do_polysemous_training = False
    faiss.copy_array_to_vector(fine.trained().ravel(), plain.pq.centroids)
    plain.is_trained = True
    return deepq.from_faiss(plain)
