"""What to do with indexes of faiss's that cannot be converted."""

from __future__ import annotations

_AGAIN = "train a DeepQuantIVFIndex(d, nlist, M) on its vectors, index.reconstruct_n(), and add them"
_FROM_SOURCE = (
    "its codes are of another kind: convert the IndexIVFPQ that it was made of, or train a "
    "DeepQuantIVFIndex(d, nlist, M) on the original vectors"
)
_ADVICE = {
    "IndexFlat": "train a DeepQuantIndex(d, M) on its vectors, index.reconstruct_n(), and add them",
    "IndexHNSWFlat": _AGAIN,
    "IndexIVFFlat": f"{_AGAIN} (after index.make_direct_map())",
    "IndexIVFFlatDedup": _AGAIN,
    "IndexIVFPQFastScan": _FROM_SOURCE,
    "IndexIVFPQR": _FROM_SOURCE,
    "IndexIVFScalarQuantizer": _FROM_SOURCE,
    "IndexPQFastScan": "convert the IndexPQ that it was made of",
    "IndexScalarQuantizer": "train a DeepQuantIndex(d, M) on the original vectors",
    "IndexIDMap": "convert index.index, and put a faiss.IndexIDMap2 around the result",
    "IndexIDMap2": "convert index.index, and put a faiss.IndexIDMap2 around the result",
    "IndexRefine": "convert index.base_index, and put a faiss.IndexRefine around the result",
    "IndexRefineFlat": "convert index.base_index, and put a faiss.IndexRefineFlat around the result",
    "IndexShards": "convert each shard, and merge_from one into the other",
    "IndexShardsIVF": "convert each shard, and merge_from one into the other",
    "IndexBinaryIVF": "an IndexBinaryFlat with its codes can be converted by from_faiss",
    "IndexBinaryHNSW": "an IndexBinaryFlat with its codes can be converted by from_faiss",
    "IndexBinaryFlat": "from_faiss(faiss.read_index_binary(path)) converts it",
}
_ADVICE["IndexFlatL2"] = _ADVICE["IndexFlatIP"] = _ADVICE["IndexFlat"]


def advice_for(kind: str) -> str:
    """Return what to do with a class of faiss's, as the end of a sentence; "" if nothing is known."""
    return f": {_ADVICE[kind]}" if kind in _ADVICE else ""
