"""Two indexes of the same codebooks and codes, deepq's and faiss's, and searches of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.harness import calls, versus
from benchmarks.common.vectors import Floats, Vectors

METRICS = {"L2": faiss.METRIC_L2, "IP": faiss.METRIC_INNER_PRODUCT}
ENCODERS: dict[str, Any] = {
    "rotation": deepq.encoders.Rotation,
    "identity": deepq.encoders.Identity,
}

# D and I of every call.
Answers = list[tuple[NDArray[Any], NDArray[Any]]]

# What a round takes at least: much less would time the caches that the other index has emptied.
_LEAST_QUERIES, _MOST_QUERIES = 32, 1024
_LEAST_SCORES, _MOST_RESULTS = 1 << 25, 1 << 20
# Speed depends on the codebooks only through pruning, so a short training does.
_TRAINING = deepq.TrainConfig(epochs=4, max_points=20_000)


@dataclass(frozen=True)
class Pair:
    """Our index, and one of faiss's with the same codes."""

    ours: deepq.DeepQuantIndex
    theirs: Any


@dataclass(frozen=True, eq=False)
class Load:
    """Searches of a pair: nq queries in a call, k results; each index has its form of queries."""

    pair: Pair
    queries: Floats
    encoded: NDArray[Any]
    nq: int
    k: int
    repeats: int

    def ours(self, **options: Any) -> Callable[[], Answers]:
        """Return a function that searches our index."""
        search = self.pair.ours.search
        return calls(lambda x: search(x, self.k, **options), self.queries, self.nq)

    def theirs(self) -> Callable[[], Answers]:
        """Return a function that searches faiss's index."""
        return calls(lambda x: self.pair.theirs.search(x, self.k), self.encoded, self.nq)

    def versus(self) -> tuple[dict[str, Any], Answers, Answers]:
        """Time searches of both; return the figures and what both have found."""
        figures, ours, theirs = versus(self.ours(), self.theirs(), self.repeats)
        us = self.us_per_query(figures["seconds"]["deepq"])
        return {"us_per_query": us, **figures}, ours, theirs

    def us_per_query(self, seconds: list[float]) -> float:
        """Return the time of one query in the median round."""
        return median(seconds) / len(self.queries) * 1e6


def queries_for(nq: int, n: int, k: int) -> int:
    """Return how many queries to time nq at once with: several calls if those are short."""
    least = max(_LEAST_QUERIES, min(_LEAST_SCORES // n, _MOST_RESULTS // k, _MOST_QUERIES))
    return max(nq, least // nq * nq)


def joined(answers: Answers) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return D and I of all calls."""
    D, I = (np.concatenate(part) for part in zip(*answers, strict=True))
    return D, I


def agreement(ours: Answers, theirs: Answers) -> dict[str, float]:
    """Return the shares of equal ids, and of scores that differ by no more than rounding."""
    (D, I), (D_faiss, I_faiss) = joined(ours), joined(theirs)
    close = np.isclose(D, D_faiss, rtol=1e-4, atol=1e-5 * np.abs(D_faiss).max())
    return {"ids_equal": float((I_faiss == I).mean()), "scores_equal": float(close.mean())}


def trained(vectors: Vectors, M: int, nbits: int, encoder: str) -> deepq.DeepQuantIndex:
    """Train an empty index on the training part."""
    d = vectors.d
    index = deepq.DeepQuantIndex(d, M, nbits, encoder=ENCODERS[encoder](d), training=_TRAINING)
    index.train(vectors.train)
    return index


def codes_of(index: deepq.DeepQuantIndex, vectors: Vectors, n: int) -> NDArray[np.uint8]:
    """Return the codes of the n vectors to store."""
    return np.concatenate([index.sa_encode(block) for block in vectors.blocks(n)])


def empty_twin(index: deepq.DeepQuantIndex) -> faiss.IndexPQ:
    """Return faiss's index with the codebooks and the metric of ours."""
    M, ksub, dsub = index.codebooks.shape
    twin = faiss.IndexPQ(M * dsub, M, ksub.bit_length() - 1, index.metric_type)
    faiss.copy_array_to_vector(index.codebooks.ravel(), twin.pq.centroids)
    twin.is_trained = True
    return twin


def pair(index: deepq.DeepQuantIndex, codes: NDArray[np.uint8], metric: str) -> Pair:
    """Put codes into both indexes, with the encoder and codebooks of a trained one."""
    ours = deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder, METRICS[metric])
    both = Pair(ours, empty_twin(ours))
    for side in (both.ours, both.theirs):
        side.add_sa_codes(codes)
    return both


def stored(index: deepq.DeepQuantIndex) -> NDArray[np.uint8]:
    """Return the codes in an index."""
    return faiss.vector_to_array(index.codes).reshape(index.ntotal, -1)
