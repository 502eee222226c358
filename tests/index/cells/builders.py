"""Small indexes of cells, with the same codes in faiss's class and in ours."""

from __future__ import annotations

import copy
from functools import cache

import faiss
import numpy as np

import deepq

DIM, NLIST, M = 16, 12, 4
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
_RNG = np.random.default_rng(0)
X = (_RNG.standard_normal((1500, DIM)) @ _RNG.standard_normal((DIM, DIM))).astype(np.float32)
XQ = X[:20] + np.float32(0.05)
EVERYWHERE = deepq.SearchParameters(nprobe=NLIST)


@cache
def _trained(nbits: int, metric: int, by_residual: bool) -> faiss.IndexIVFPQ:
    """Return faiss's own index, trained and empty, its centres among the first rows."""
    coarse = faiss.IndexFlat(DIM, metric)
    index = faiss.IndexIVFPQ(coarse, DIM, NLIST, M, nbits, metric)
    index.by_residual, index.cp.niter, index.pq.cp.niter = by_residual, 4, 4
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(X)
    return index


def plain(
    nbits: int = 4, metric: int = L2, *, by_residual: bool = True, n: int = len(X)
) -> faiss.IndexIVFPQ:
    """Return an index of faiss's with the first n rows."""
    index = faiss.clone_index(_trained(nbits, metric, by_residual))
    index.nprobe = 4
    index.add(X[:n])
    return index


@cache
def _empty(nbits: int, metric: int, by_residual: bool) -> deepq.DeepQuantIVFIndex:
    return deepq.from_faiss(plain(nbits, metric, by_residual=by_residual, n=0))


def ours(
    nbits: int = 4, metric: int = L2, *, by_residual: bool = True, n: int = len(X)
) -> deepq.DeepQuantIVFIndex:
    """Return an index of ours with the same cells and codebooks, and the first n rows."""
    index = copy.deepcopy(_empty(nbits, metric, by_residual))
    index.add(X[:n])
    return index


def assert_same_results(got, right):
    """Hold D and I to each other up to ties and the last digits."""
    np.testing.assert_allclose(got[0], right[0], rtol=1e-4, atol=1e-3)
    for mine, theirs, scores in zip(got[1], right[1], right[0], strict=True):
        clear = np.ones(len(scores), bool)
        close = np.abs(np.diff(scores)) < 1e-3 * np.abs(scores[1:]).clip(1)
        clear[1:] &= ~close
        clear[:-1] &= ~close
        clear[-1:] &= theirs[-1:] < 0  # what comes behind is not known
        np.testing.assert_array_equal(mine[clear], theirs[clear])
