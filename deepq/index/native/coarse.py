"""Coarse quantizers: faiss indexes whose vectors are the centres of cells."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import require_usable
from deepq._common.checks import as_integer, as_metric, as_size
from deepq._common.errors import FormatError, InputError, KindError, StateError
from deepq._common.types import METRIC_INNER_PRODUCT, Floats
from deepq.index.native.originals import downcast_index

FLAT, GRAPH, MULTI = "flat", "hnsw", "imi"


def make_coarse(kind: str, d: int, nlist: int, metric: int) -> Any:
    """Make an untrained coarse quantizer "kmeans" or "imi". Raises InputError for another kind."""
    if kind == "kmeans":
        return _flat(d, metric)
    if kind != "imi":
        raise InputError(f'expected coarse to be "kmeans" or "imi", got {kind!r}')
    bits = (nlist.bit_length() - 1) // 2
    if not bits or nlist != 1 << 2 * bits or d % 2:
        got = f"nlist = {nlist}, d = {d}"
        raise InputError(f"expected nlist = 4**b and an even d for a multi-index, got {got}")
    if d == 4 and bits < 3:  # which faiss's search in two dimensions does not take
        raise InputError(
            f"expected nlist of at least 64 for a multi-index of 4 numbers, got {nlist}"
        )
    return faiss.MultiIndexQuantizer(d, 2, bits)


def _flat(d: int, metric: int) -> Any:
    return faiss.IndexFlatIP(d) if metric == METRIC_INNER_PRODUCT else faiss.IndexFlatL2(d)


def trains_alone(coarse: Any) -> bool:
    """Whether a coarse quantizer learns its own centres, and is not given those of k-means."""
    return isinstance(downcast_index(coarse), faiss.MultiIndexQuantizer)


def centres_in(coarse: Any, nlist: int) -> Floats:
    """Copy of the centres of nlist cells, (parts, per_part, d / parts).

    Raises StateError if the coarse quantizer has others.
    """
    if not coarse.is_trained or coarse.ntotal != nlist:
        raise StateError(
            f"expected a coarse quantizer with {nlist} centres, got one with {coarse.ntotal}"
        )
    coarse = downcast_index(coarse)
    if isinstance(coarse, faiss.MultiIndexQuantizer):
        pq = coarse.pq
        return np.array(faiss.vector_to_array(pq.centroids).reshape(pq.M, pq.ksub, pq.dsub))
    found = np.empty((1, nlist, coarse.d), np.float32)
    coarse.reconstruct_n_c(0, nlist, faiss.swig_ptr(found))
    return found


def coarse_state(coarse: Any) -> dict[str, Any]:
    """Describe a coarse quantizer: kind, settings, centres. Raises KindError for an unknown one."""
    coarse = downcast_index(coarse)
    known = {"d": int(coarse.d), "metric": int(coarse.metric_type)}
    if isinstance(coarse, faiss.MultiIndexQuantizer):
        pq = coarse.pq
        centres = (
            faiss.vector_to_array(pq.centroids) if coarse.is_trained else np.empty(0, np.float32)
        )
        return {"kind": MULTI, **known, "M": int(pq.M), "nbits": int(pq.nbits), "centres": centres}
    centres = np.empty((coarse.ntotal, coarse.d), np.float32)
    if isinstance(coarse, faiss.IndexHNSWFlat):
        kind = {
            "kind": GRAPH,
            "M": int(coarse.hnsw.nb_neighbors(1)),
            "efSearch": int(coarse.hnsw.efSearch),
            "efConstruction": int(coarse.hnsw.efConstruction),
            "graph": _graph_state(coarse.hnsw),
        }
    elif type(coarse) in (faiss.IndexFlat, faiss.IndexFlatL2, faiss.IndexFlatIP):
        kind = {"kind": FLAT}
    else:
        got = type(coarse).__name__
        raise KindError(
            f"expected IndexFlat, IndexHNSWFlat or MultiIndexQuantizer to keep, got {got}"
        )
    if len(centres):
        coarse.reconstruct_n_c(0, len(centres), faiss.swig_ptr(centres))
    return {**kind, **known, "centres": centres}


def coarse_of(state: dict[str, Any]) -> Any:
    """Make a coarse quantizer of its description; raises FormatError where that is not one."""
    kind, d, metric = state["kind"], as_size(state["d"], "d"), as_metric(state["metric"])
    centres = np.ascontiguousarray(state["centres"], np.float32)
    require_usable(centres.reshape(-1, d), "centres")
    if kind == MULTI:
        coarse = faiss.MultiIndexQuantizer(
            d, as_size(state["M"], "M"), as_size(state["nbits"], "nbits")
        )
        if centres.size not in (0, coarse.pq.centroids.size()):
            raise FormatError(f"{centres.size} numbers of centres for {coarse.pq.centroids.size()}")
        if centres.size:
            faiss.copy_array_to_vector(centres.ravel(), coarse.pq.centroids)
            coarse.is_trained, coarse.ntotal = True, 1 << coarse.pq.M * coarse.pq.nbits
        return coarse
    if kind == GRAPH:
        coarse = faiss.IndexHNSWFlat(d, as_size(state["M"], "M"), metric)
        coarse.hnsw.efSearch = as_size(state["efSearch"], "efSearch")
        coarse.hnsw.efConstruction = as_size(state["efConstruction"], "efConstruction")
    elif kind == FLAT:
        coarse = _flat(d, metric)
    else:
        raise FormatError(f"a coarse quantizer of the kind {kind!r}")
    if centres.ndim != 2 or centres.shape[1] != d:
        raise FormatError(f"centres of shape {centres.shape} for {d} numbers")
    if len(centres):
        store = downcast_index(coarse.storage) if kind == GRAPH else coarse
        store.add_c(len(centres), faiss.swig_ptr(centres))
    if kind == GRAPH:
        _put_graph(coarse, state["graph"], len(centres))
    return coarse


def _graph_state(hnsw: Any) -> dict[str, Any]:
    """Describe the graph of an HNSW: levels of nodes (n,), and the neighbours of all, in order."""
    levels, neighbors = (
        faiss.vector_to_array(part).astype(np.int64) for part in (hnsw.levels, hnsw.neighbors)
    )
    return {"levels": levels, "neighbors": neighbors, "entry_point": int(hnsw.entry_point)}


def _put_graph(coarse: Any, graph: dict[str, Any], n: int) -> None:
    """Give an empty HNSW a graph of n nodes.

    Raises FormatError for one that a search could leave.
    """
    hnsw, levels, neighbors = coarse.hnsw, graph["levels"], graph["neighbors"]
    entry = as_integer(graph["entry_point"], "entry_point")
    ends = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
    if levels.shape != (n,) or (n and not 1 <= levels.min() <= levels.max() < len(ends)):
        raise FormatError(f"a graph of {len(levels)} nodes for {n} centres, or of other levels")
    offsets = np.concatenate([[0], np.cumsum(ends[levels])])
    if neighbors.shape != (offsets[-1],):
        raise FormatError(f"a graph of {len(neighbors)} neighbours instead of {offsets[-1]}")
    if n:
        # A neighbour must be on the level where it is one.
        places = np.arange(len(neighbors)) - np.repeat(offsets[:-1], ends[levels])
        level = np.searchsorted(ends, places, side="right")
        known = neighbors != -1
        if (
            not ((neighbors >= -1) & (neighbors < n)).all()
            or not (levels[neighbors[known]] >= level[known]).all()
        ):
            raise FormatError("a graph with neighbours that there are not")
    highest = int(levels.max(initial=0))
    if not (0 <= entry < n and levels[entry] == highest if n else entry == -1):
        raise FormatError(f"a graph that begins with node {entry}")
    for part, numbers in (
        (hnsw.levels, levels.astype(np.int32)),
        (hnsw.offsets, offsets.astype(np.uint64)),
        (hnsw.neighbors, neighbors.astype(np.int32)),
    ):
        faiss.copy_array_to_vector(numbers, part)
    hnsw.entry_point, hnsw.max_level, coarse.ntotal = entry, highest - 1, n
