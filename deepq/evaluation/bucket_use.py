"""How the buckets of a hash table are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deepq.evaluation.measures import require_some
from deepq.hash_table.index import HashTableIndex
from deepq.quantizers.usage import Counts, entropies


@dataclass(frozen=True, eq=False)
class BucketUse:
    """How the buckets of a hash table are used.

    Attributes
    ----------
    n : int
        Vectors that were looked at.
    sizes : (buckets,) int64
        Vectors in each bucket; with a sparsity of s one vector counts in s of them.
    words : (levels, width) int64
        Entries of buckets with each word on each level.
    """

    n: int
    sizes: Counts
    words: Counts

    @property
    def empty(self) -> int:
        """Buckets without a vector."""
        return int((self.sizes == 0).sum())

    @property
    def imbalance(self) -> float:
        """How many times more rows a search for one of the vectors meets than in equal buckets.

        B sum n_b^2 / (sum n_b)^2 for B buckets of n_b vectors: 1 where all are equal.
        """
        return float(len(self.sizes) * np.square(self.sizes / self.sizes.sum()).sum())

    @property
    def perplexity(self) -> float:
        """2**H, H the entropy of the buckets in bits: as many of equal size would tell as much."""
        return _perplexity(self.sizes)

    @property
    def candidates(self) -> float:
        """Share of the vectors in one bucket of a vector, on average over vectors."""
        return float(np.square(self.sizes / self.n).sum() / (self.sizes.sum() / self.n))

    def __str__(self) -> str:
        lines = [
            f"{self.n:,} vectors in {len(self.sizes):,} buckets of up to {self.sizes.max():,}: "
            f"{self.empty:,} empty, perplexity {self.perplexity:,.1f}, "
            f"imbalance {self.imbalance:.2f}, {self.candidates:.3%} of the vectors in one",
            "level  words used  perplexity",
        ]
        for level, counts in enumerate(self.words):
            used = f"{(counts > 0).sum():,} of {len(counts):,}"
            lines.append(f"{level:5}  {used:>10}  {_perplexity(counts):10.1f}")
        return "\n".join(lines)


def bucket_use(index: HashTableIndex, x: Any = None) -> BucketUse:
    """Return how the buckets are used, by the stored vectors or by `x`: see `diagnose`."""
    if x is None:
        n, sizes = index.ntotal, index.bucket_sizes
    else:
        buckets = index.bucket_ids(x)
        n, sizes = len(buckets), np.bincount(buckets.ravel(), minlength=index.buckets)
    if not n:
        require_some(np.empty(0))
    grid = sizes.reshape((index.width,) * index.levels)
    axes = range(index.levels)
    words = [grid.sum(axis=tuple(a for a in axes if a != axis)) for axis in axes]
    return BucketUse(n, sizes.astype(np.int64), np.array(words, np.int64))


def _perplexity(counts: Counts) -> float:
    return float(np.exp2(entropies(counts[None])[0]))
