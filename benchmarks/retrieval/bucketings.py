"""Other ways to put embeddings into buckets, as hash tables: all but the hasher is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq import HashTableIndex
from deepq.encoders import Affine, Chain, Encoder
from deepq.quantizers import ProductQuantizer

Floats = NDArray[np.float32]
_BITS = 10  # of hashes: 1,024 buckets


def table(embedder: Encoder, scores: Encoder, levels: int, width: int) -> HashTableIndex:
    """Make a hash table whose scores are of embeddings."""
    hasher = Chain([*embedder.members, scores])
    return HashTableIndex(embedder, hasher, levels, width)


def cells(embedder: Encoder, z: Floats, seed: int, number: int) -> HashTableIndex:
    """k-means cells: the nearest centres c score best by 2 z.c - |c|^2."""
    number = min(number, len(z))
    kmeans = faiss.Kmeans(z.shape[1], number, niter=25, seed=seed, min_points_per_centroid=1)
    kmeans.train(z)
    return table(embedder, _nearest(kmeans.centroids), 1, number)


def _nearest(centres: Floats) -> Affine:
    return Affine(2 * centres, -np.square(centres).sum(axis=1))


def product_codes(embedder: Encoder, z: Floats, seed: int, words: int) -> HashTableIndex:
    """Codes of a product quantizer of two halves: its words are those of two levels."""
    quantizer = ProductQuantizer(2, int(np.log2(words)))
    quantizer.train(z, seed=seed)
    books = quantizer.trained()
    A = np.zeros((2 * words, z.shape[1]), np.float32)
    for half, book in enumerate(books):
        rows = slice(half * words, (half + 1) * words)
        A[rows, half * quantizer.dsub : (half + 1) * quantizer.dsub] = 2 * book
    return table(embedder, Affine(A, -np.square(books).sum(axis=2).ravel()), 2, words)


def lsh(embedder: Encoder, z: Floats, seed: int, bits: int) -> HashTableIndex:
    """Signs of random projections (Charikar, STOC 2002); the least sure bits change first."""
    directions = np.random.default_rng(seed).standard_normal((bits, z.shape[1]))
    return _of_signs(embedder, directions.astype(np.float32), np.zeros(bits))


def signs(embedder: Encoder, z: Floats, seed: int, bits: int) -> HashTableIndex:  # noqa: ARG001
    """Signs of the principal axes: a binary hash, "th" of the paper for codes of bits."""
    mean = z.mean(axis=0)
    _, _, axes = np.linalg.svd(z - mean, full_matrices=False)
    return _of_signs(embedder, axes[:bits], -axes[:bits] @ mean)


def _of_signs(embedder: Encoder, directions: Floats, offsets: Any) -> HashTableIndex:
    A = np.stack([-directions, directions], axis=1).reshape(-1, directions.shape[1])
    b = np.stack([-offsets, offsets], axis=1).ravel()
    return table(embedder, Affine(A, b), len(directions), 2)


def largest(embedder: Encoder, z: Floats, seed: int, _: int) -> HashTableIndex:  # noqa: ARG001
    """Take the largest number of an embedding: "th" of the paper of 2018, with one a row."""
    m = z.shape[1]
    return table(embedder, Affine(np.eye(m, dtype=np.float32)), 1, m)


BUCKETINGS: dict[str, tuple[Callable[..., HashTableIndex], int]] = {
    "k-means, 16 cells": (cells, 16),
    "k-means, 64 cells": (cells, 64),
    "k-means, 256 cells": (cells, 256),
    "k-means, 1,024 cells": (cells, 1024),
    "k-means, 2,048 cells": (cells, 2048),
    "PQ codes, 2 x 32 words": (product_codes, 32),
    "LSH, 10 bits": (lsh, _BITS),
    "PCA signs, 10 bits": (signs, _BITS),
    "largest number": (largest, 0),
}
