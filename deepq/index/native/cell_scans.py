"""faiss's own scan of codes in cells, for words of a width that our kernels do not take."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.threads import openmp_threads
from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids
from deepq.index.native.cells import IndexIVFPQ, NativeCells

_NUMBERS = 1 << 24  # in the centres that a block of queries looks into

Allowed = dict[int, Codes]


def search(
    native: NativeCells,
    z: Floats,
    cells: Ids,
    scores: Floats,
    ids: Ids,
    places: Ids,
    *,
    allowed: Allowed | None,
    threads: int,
) -> None:
    """Fill scores, ids and places (n, k) as `_cells.search` does, up to ties at the cut."""
    worst = np.finfo(np.float32).max * (-1 if _is_ip(native) else 1)
    scores.fill(worst)
    places.fill(-1)
    allowed = _unless_polysemous(native, cells, allowed)
    index, k = _restricted(native, allowed), scores.shape[1]
    params = faiss.SearchParametersIVF(nprobe=cells.shape[1])
    for part in _blocks(z, cells):
        own, chosen = z[part], np.ascontiguousarray(cells[part])
        if not own.size or not chosen.size:
            continue
        arrays = own, chosen, _distances(native, own, chosen), scores[part], places[part]
        x, keys, near, D, I = map(faiss.swig_ptr, arrays)
        with openmp_threads(threads):
            index.search_preassigned_c(len(own), x, k, keys, near, D, I, allowed is None, params)
    found = places >= 0
    ids.fill(-1)
    ids[found] = native.table.ids_at(places[found])
    order = np.lexsort((ids, scores if worst > 0 else -scores, ~found), axis=1)
    for each in (scores, ids, places):
        each[...] = np.take_along_axis(each, order, axis=1)


def range_search(
    native: NativeCells,
    z: Floats,
    cells: Ids,
    thresh: float,
    *,
    allowed: Allowed | None,
    threads: int,
) -> tuple[NDArray[np.uint64], Floats, Ids]:
    """Return lims, D and I as `_cells.range_search` does."""
    allowed = _unless_polysemous(native, cells, allowed)
    index = _restricted(native, allowed)
    params = faiss.SearchParametersIVF(nprobe=cells.shape[1])
    counts, D, I = [np.zeros(1, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for part in _blocks(z, cells):
        own, chosen = z[part], np.ascontiguousarray(cells[part])
        if not own.size or not chosen.size:
            counts.append(np.zeros(len(own), np.int64))
            continue
        arrays = own, chosen, _distances(native, own, chosen)
        x, keys, near = map(faiss.swig_ptr, arrays)
        result = faiss.RangeSearchResult(len(own))
        with openmp_threads(threads):
            index.range_search_preassigned_c(
                len(own), x, thresh, keys, near, result, allowed is None, params
            )
        ends = faiss.rev_swig_ptr(result.lims, len(own) + 1).astype(np.int64)
        sizes, total = np.diff(ends), int(ends[-1])
        near_ones = faiss.rev_swig_ptr(result.distances, total).copy()
        ids = native.table.ids_at(faiss.rev_swig_ptr(result.labels, total).copy())
        order = np.lexsort((ids, np.repeat(np.arange(len(own)), sizes)))
        counts.append(sizes)
        D.append(near_ones[order])
        I.append(ids[order])
    lims = np.cumsum(np.concatenate(counts)).astype(np.uint64)
    return lims, np.concatenate(D), np.concatenate(I)


def _is_ip(native: NativeCells) -> bool:
    return bool(native.pq_index.metric_type == METRIC_INNER_PRODUCT)


def _blocks(z: Floats, cells: Ids) -> list[slice]:
    """Blocks of queries whose centres are not too many numbers."""
    size = max(1, _NUMBERS // max(1, cells.shape[1] * z.shape[1]))
    return [slice(i, i + size) for i in range(0, len(z), size)]


def _distances(native: NativeCells, z: Floats, cells: Ids) -> Floats:
    """Scores (n, nprobe) of the centres of cells: where faiss has tables, it adds them."""
    centres = native.centres_of(np.maximum(cells, 0).ravel()).reshape(*cells.shape, -1)
    if _is_ip(native):
        scores: Floats = np.einsum("nd,npd->np", z, centres)
    else:
        scores = np.square(z[:, None] - centres).sum(axis=2)
    return np.ascontiguousarray(scores, np.float32)


def _unless_polysemous(native: NativeCells, cells: Ids, allowed: Allowed | None) -> Allowed | None:
    """Allow every code by itself where the index would pass over some, by Hamming distance."""
    if allowed is not None or not native.pq_index.polysemous_ht:
        return allowed
    sizes = native.table.sizes()
    visited = np.unique(cells[cells >= 0]).tolist()
    return {cell: np.full((sizes[cell] + 7) // 8, 255, np.uint8) for cell in visited}


def _restricted(native: NativeCells, allowed: Allowed | None) -> Any:
    """Return the index itself, or one of the codes that are allowed, with their places as ids."""
    index = native.pq_index
    if allowed is None:
        return index
    part = IndexIVFPQ(
        index.quantizer, index.d, index.nlist, index.pq.M, index.pq.nbits, index.metric_type
    )
    part.by_residual, part.is_trained = index.by_residual, True
    faiss.copy_array_to_vector(native.codebooks.ravel(), part.pq.centroids)
    for cell, bits in allowed.items():
        codes = native.table.list_of(cell)[0]
        rows = np.flatnonzero(np.unpackbits(bits, count=len(codes), bitorder="little"))
        if len(rows):
            chosen, own = np.ascontiguousarray(codes[rows]), cell << 32 | rows
            part.invlists.add_entries(cell, len(rows), faiss.swig_ptr(own), faiss.swig_ptr(chosen))
    part.ntotal = part.invlists.compute_ntotal()
    return part
