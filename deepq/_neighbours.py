"""True neighbours of known queries, and how many of them look-up tables find."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np

from deepq import _scan
from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids
from deepq.quantizers import ProductQuantizer

TOP = 10  # neighbours that count

_FEWEST = 256  # queries, whatever finding their neighbours costs
_MOST_PRODUCTS = 1 << 40  # multiplications spent on finding true neighbours


@dataclass(frozen=True)
class Neighbours:
    """Queries and their true neighbours among embedded vectors.

    Attributes
    ----------
    base : (n, d_out) float32
        Embeddings that are searched.
    queries : (nq, d_out) float32
        Embeddings of queries.
    true : (nq, TOP) int64
        Rows of `base` nearest to each query, best first.
    own : (nq,) int64
        The row of `base` that is the query itself, -1 for none.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    """

    base: Floats
    queries: Floats
    true: Ids
    own: Ids
    metric: int

    @classmethod
    def among(cls, z: Floats, nq: int, metric: int, rng: np.random.Generator) -> Neighbours:
        """Draw at most `nq` queries among the rows of `z` (n, d_out), which stay in the base."""
        nq = min(nq, len(z), max(_FEWEST, _MOST_PRODUCTS // z.size))
        own = np.sort(rng.choice(len(z), nq, replace=False))
        near = faiss.knn(z[own], z, TOP + 1, metric=metric)[1]
        others = near != own[:, None]
        others[others.all(axis=1), -1] = False  # equal rows came before the query itself
        return cls(z, z[own], near[others].reshape(nq, TOP), own, metric)

    @classmethod
    def apart(cls, z: Floats, nq: int, metric: int) -> Neighbours:
        """Take the first `nq` rows of `z` (n, d_out) as queries, and the others as base."""
        queries, base = z[:nq], np.ascontiguousarray(z[nq:])
        true = faiss.knn(queries, base, TOP, metric=metric)[1]
        return cls(base, queries, true, np.full(len(queries), -1), metric)

    def recall(self, found: Ids) -> Floats:
        """10-recall@10 of every query (nq,), given the rows (nq, 10 or more) found for it."""
        hits = (found[:, :TOP, None] == self.true[:, None]).any(axis=1)
        parts: Floats = hits.mean(axis=1, dtype=np.float32)
        return parts


def scan(quantizer: ProductQuantizer, codes: Codes, queries: Floats, k: int, metric: int) -> Ids:
    """Positions (nq, k) of the codes that the tables put first; k at most as many as there are."""
    I = np.empty((len(queries), k), np.int64)
    _scan.search(
        codes,
        quantizer.M,
        quantizer.nbits,
        np.empty(I.shape, np.float32),
        I,
        queries=queries,
        codebooks=quantizer.trained(),
        inner_product=metric == METRIC_INNER_PRODUCT,
        num_threads=quantizer.num_threads,
    )
    return I
