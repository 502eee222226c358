"""Coarse quantizers: faiss indexes whose vectors are the centres of cells."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from deepq._common.checks import as_metric, as_size
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.types import METRIC_INNER_PRODUCT

_FLAT, _GRAPH, _MULTI = "flat", "hnsw", "imi"


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
    return isinstance(faiss.downcast_index(coarse), faiss.MultiIndexQuantizer)


def coarse_state(coarse: Any) -> dict[str, Any]:
    """Describe a coarse quantizer: kind, settings, centres. Raises KindError for an unknown one."""
    coarse = faiss.downcast_index(coarse)
    known = {"d": int(coarse.d), "metric": int(coarse.metric_type)}
    if isinstance(coarse, faiss.MultiIndexQuantizer):
        pq = coarse.pq
        centres = (
            faiss.vector_to_array(pq.centroids) if coarse.is_trained else np.empty(0, np.float32)
        )
        return {"kind": _MULTI, **known, "M": int(pq.M), "nbits": int(pq.nbits), "centres": centres}
    centres = np.empty((coarse.ntotal, coarse.d), np.float32)
    if isinstance(coarse, faiss.IndexHNSWFlat):
        kind = {
            "kind": _GRAPH,
            "M": int(coarse.hnsw.nb_neighbors(1)),
            "efSearch": int(coarse.hnsw.efSearch),
            "efConstruction": int(coarse.hnsw.efConstruction),
        }
    elif type(coarse) in (faiss.IndexFlat, faiss.IndexFlatL2, faiss.IndexFlatIP):
        kind = {"kind": _FLAT}
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
    if not np.isfinite(centres).all():
        raise FormatError("centres with NaN or infinity")
    if kind == _MULTI:
        coarse = faiss.MultiIndexQuantizer(
            d, as_size(state["M"], "M"), as_size(state["nbits"], "nbits")
        )
        if centres.size not in (0, coarse.pq.centroids.size()):
            raise FormatError(f"{centres.size} numbers of centres for {coarse.pq.centroids.size()}")
        if centres.size:
            faiss.copy_array_to_vector(centres.ravel(), coarse.pq.centroids)
            coarse.is_trained, coarse.ntotal = True, 1 << coarse.pq.M * coarse.pq.nbits
        return coarse
    if kind == _GRAPH:
        coarse = faiss.IndexHNSWFlat(d, as_size(state["M"], "M"), metric)
        coarse.hnsw.efSearch = as_size(state["efSearch"], "efSearch")
        coarse.hnsw.efConstruction = as_size(state["efConstruction"], "efConstruction")
    elif kind == _FLAT:
        coarse = _flat(d, metric)
    else:
        raise FormatError(f"a coarse quantizer of the kind {kind!r}")
    if centres.ndim != 2 or centres.shape[1] != d:
        raise FormatError(f"centres of shape {centres.shape} for {d} numbers")
    if len(centres):
        coarse.add_c(len(centres), faiss.swig_ptr(centres))
    return coarse
