"""What to do with indexes of faiss's that cannot be converted."""

from __future__ import annotations

_OF_VECTORS = (
    "train a DeepQuantIndex(d, M) or DeepQuantIVFIndex(d, nlist, M) on its vectors, "
    "index.reconstruct_n(), and add them"
)
_OF_OTHER_CODES = (
    "its codes are of another kind: convert the IndexPQ or IndexIVFPQ that it was made of, or "
    "train an index of deepq on the original vectors"
)
_BITS = "from_faiss converts an IndexBinaryFlat with its codes"

_ADVICE = {
    **dict.fromkeys(("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexHNSWFlat"), _OF_VECTORS),
    **dict.fromkeys(("IndexIVFFlat", "IndexIVFFlatDedup"), _OF_VECTORS),
    **dict.fromkeys(("IndexScalarQuantizer", "IndexIVFScalarQuantizer"), _OF_OTHER_CODES),
    **dict.fromkeys(("IndexPQFastScan", "IndexIVFPQFastScan", "IndexIVFPQR"), _OF_OTHER_CODES),
    **dict.fromkeys(("IndexBinaryFlat", "IndexBinaryIVF", "IndexBinaryHNSW"), _BITS),
}


def advice_for(kind: str) -> str:
    """Return what to do with a class of faiss's, to end a sentence; "" where nothing is known."""
    return f": {_ADVICE[kind]}" if kind in _ADVICE else ""
