"""What is right: distances from an index's own codebooks and codes, in NumPy and float64."""

from __future__ import annotations

import faiss
import numpy as np
from faiss.contrib.inspect_tools import get_invlist

RTOL = 2e-5
WORST = {faiss.METRIC_L2: np.finfo("f4").max, faiss.METRIC_INNER_PRODUCT: np.finfo("f4").min}


def codes(index):
    """Return the stored codes, (ntotal, code_size) uint8; in cells stand-alone ones, by id."""
    if isinstance(index, faiss.IndexIVF):
        lists = index.invlists
        parts = [get_invlist(lists, cell) for cell in range(index.nlist)]
        cells = np.repeat(np.arange(index.nlist), [len(ids) for ids, _ in parts])
        joined = np.hstack(
            [cells[:, None].astype(np.uint8), np.vstack([part for _, part in parts])]
        )
        return joined[np.argsort(np.concatenate([ids for ids, _ in parts]), kind="stable")]
    return faiss.vector_to_array(index.codes).reshape(-1, index.code_size)


def codebooks(index):
    """Return the codewords, (M, ksub, dsub) float32."""
    pq = index.pq
    return faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub)


def words(index, packed=None):
    """Unpack codes, by default the stored ones, to code indices, (n, M)."""
    packed = codes(index) if packed is None else packed
    packed = packed[:, packed.shape[1] - index.code_size :]  # the number of the cell is before
    M, nbits = index.pq.M, index.pq.nbits
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : M * nbits]
    return bits.reshape(-1, M, nbits) @ (1 << np.arange(nbits))


def codewords(index, packed=None):
    """Return the quantized vectors behind codes, (n, M * dsub) float32."""
    packed = codes(index) if packed is None else packed
    C, w = codebooks(index), words(index, packed)
    z = C[np.arange(len(C)), w].reshape(len(w), -1)
    if isinstance(index, faiss.IndexIVF) and index.by_residual:
        z = z + index.quantizer.reconstruct_n(0, index.nlist)[packed[:, 0]]
    return z


def embed(index, x):
    """Map raw vectors to the space of the codebooks."""
    encoder = getattr(index, "encoder", None)
    return x if encoder is None else encoder.encode(x)


def decode(index, z):
    """Map quantized vectors to the space of the raw ones."""
    encoder = getattr(index, "encoder", None)
    return z if encoder is None else encoder.decode(z)


def lookup_tables(index, xq):
    """Score each query's sub-vectors against each codeword, (nq, M, ksub) float64."""
    C = codebooks(index).astype(np.float64)
    z = embed(index, xq).astype(np.float64).reshape(len(xq), len(C), 1, -1)
    if index.metric_type == faiss.METRIC_L2:
        return ((z - C) ** 2).sum(-1)
    return (z * C).sum(-1)


def scores(index, xq):
    """Score all queries against all stored vectors, (nq, ntotal) float64."""
    if isinstance(index, faiss.IndexIVF):
        z, stored = (each.astype(np.float64) for each in (embed(index, xq), codewords(index)))
        if index.metric_type == faiss.METRIC_INNER_PRODUCT:
            return z @ stored.T
        return ((z[:, None] - stored) ** 2).sum(-1)
    luts, w = lookup_tables(index, xq), words(index)
    return luts[:, np.arange(w.shape[1]), w].sum(-1)


def top(all_scores, k, metric):
    """Sort by (better score, ascending id) and pad to k columns."""
    worst, shape = WORST[metric], (len(all_scores), k)
    D, I = np.full(shape, worst, np.float32), np.full(shape, -1, np.int64)
    keys = all_scores if metric == faiss.METRIC_L2 else -all_scores
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    n = order.shape[1]
    D[:, :n], I[:, :n] = np.take_along_axis(all_scores, order, axis=1), order
    return D, I


def search(index, xq, k):
    """Search as ``index.search`` should."""
    return top(scores(index, xq), k, index.metric_type)


def hamming(a, b):
    """Count the differing bits of each pair of codes, (len(a), len(b))."""
    return np.unpackbits(a[:, None] ^ b[None], axis=2).sum(-1, dtype=np.int32)


def assert_same_neighbours(got, want, *, rtol=RTOL):
    """Hold (D, I) against a right answer that may have more columns.

    Distances agree within ``rtol`` of the row's largest (or of 1). Ids agree except inside a
    group of equal distances; the extra columns of ``want`` show which tie with the last one.
    """
    (D, I), (D_want, I_want) = got, want
    assert D.dtype == np.float32
    assert I.dtype == np.int64
    assert D.shape == I.shape
    assert len(D) == len(D_want)
    k = D.shape[1]
    for d, ids, d_want, ids_want in zip(D, I, D_want.astype(np.float64), I_want, strict=True):
        tolerance = rtol * np.abs(d_want[ids_want >= 0]).max(initial=1)
        np.testing.assert_allclose(d, d_want[:k], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(ids < 0, ids_want[:k] < 0)
        found = ids[ids >= 0]
        assert len(np.unique(found)) == len(found), f"an id comes twice: {ids}"
        group = np.cumsum(np.abs(np.diff(d_want, prepend=d_want[:1])) > 2 * tolerance)
        for i, g in zip(ids, group[:k], strict=True):
            assert i in ids_want[group == g], f"id {i} is not among {ids_want[group == g]}"


def assert_same_range(got, all_scores, radius, metric, *, rtol=RTOL):
    """Hold (lims, D, I) of a range search against all scores; at the very edge both are right."""
    lims, D, I = got
    assert (lims.dtype, D.dtype, I.dtype) == (np.uint64, np.float32, np.int64)
    assert len(lims) == len(all_scores) + 1
    assert lims[0] == 0
    assert lims[-1] == len(D) == len(I)
    sign = 1 if metric == faiss.METRIC_L2 else -1
    for row, start, end in zip(all_scores, lims[:-1], lims[1:], strict=True):
        ids, d = I[int(start) : int(end)], D[int(start) : int(end)]
        tolerance = rtol * np.abs(row).max(initial=1)
        assert len(np.unique(ids)) == len(ids)
        np.testing.assert_allclose(d, row[ids], rtol=0, atol=tolerance)
        assert set(np.flatnonzero(sign * (row - radius) < -tolerance)) <= set(ids)
        assert set(ids) <= set(np.flatnonzero(sign * (row - radius) < tolerance))
