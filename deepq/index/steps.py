"""A search in steps, which different processes may take: encode, find, rank anew.

`search` does the same in one process, and gives the same results, bit for bit: see `distributed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.types import Codes, Floats, Ids
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.queries import Queries
from deepq.quantizers.reranking import Decoded, are_kept

INDEXES = (DeepQuantIndex, DeepQuantIVFIndex)
Index = DeepQuantIndex | DeepQuantIVFIndex
Limits = NDArray[np.uint64]


def embedded(index: Index, x: Any) -> tuple[int, slice | Ids, Floats]:
    """Encode queries: their number, which are finite, and the embeddings (m, d_out) of those."""
    x = index._vectors(x)
    index._require_trained()
    with index._lock.reading():
        return len(x), *index._encode_queries(x)


def padded(index: Index, n: int, k: int) -> tuple[Floats, Ids]:
    """Results (n, k) of nothing: the worst score beside the id -1."""
    return np.full((n, k), index._worst, np.float32), np.full((n, k), -1)


def spread(n: int, usable: slice | Ids, lims: Limits) -> Limits:
    """Where the results of n queries end, of which the usable ones have those up to `lims`."""
    return Queries._limits(n, usable, lims)


def rerank_count(index: Index, params: Any) -> int:
    """How many results of a scan are ranked anew in a call; 0 for none."""
    return index._rerank_count(params)


def found(index: Index, z: Floats, k: int, params: Any = None) -> tuple[Floats, Ids, Codes]:
    """Search for embeddings (n, d_out), without ranking anew.

    Returns D and I (n, k) as `search`, and codes (n, k, sa_code_size) uint8, in cells with the
    number of the cell, zeros beside the id -1.
    """
    D, I = index._outputs(z, k, None, None)
    codes = np.zeros((*I.shape, int(index.sa_code_size())), np.uint8)
    if isinstance(index, DeepQuantIndex):
        mode = index._mode(params)
        with index._lock.reading():
            index._search_codes(slice(None), z, params, mode, 0, D, I)
            codes[I >= 0] = index._native.codes[I[I >= 0]]
        return D, I, codes
    index._require_trained()
    with index._lock.reading():
        places = index._search_cells(slice(None), z, params, 0, D, I)
        places = places[I >= 0]
        codes[I >= 0] = index._joined(index._native.table.codes_at(places), places >> 32)
    return D, I, codes


def stored_ids(index: Index) -> Ids:
    """Ids (ntotal,) of all that is stored, ascending."""
    if isinstance(index, DeepQuantIndex):
        return np.arange(index.ntotal)
    with index._lock.reading():
        return np.sort(index._native.table.entries()[0])


def within(index: Index, z: Floats, thresh: float, params: Any) -> tuple[Limits, Floats, Ids]:
    """`range_search` for embeddings (n, d_out)."""
    index._require_trained()
    with index._lock.reading():
        if isinstance(index, DeepQuantIndex):
            return index._within(z, thresh, params)
        return index._within(slice(None), z, thresh, params)


class Ranker:
    """Ranks candidates anew, as an index of `stored` vectors does with its own.

    Parameters
    ----------
    index : DeepQuantIndex or DeepQuantIVFIndex
        One of the same training; what it stores does not matter.
    stored : int
        Vectors in all.
    """

    def __init__(self, index: Index, stored: int) -> None:
        self._index = index
        decoder = index.product_quantizer.decoder
        self._decoded = Decoded(
            keeps=False, prunes=decoder is not None and not are_kept(stored, decoder)
        )

    def rank(self, z: Floats, ids: Ids, codes: Codes, k: int) -> tuple[Floats, Ids]:
        """Scores and ids (n, k), best first, of candidates `ids` (n, R), by their decoded codes.

        `codes` are (n, R, code_size) uint8, as `found` returns them; R is at least k.
        """
        index, threads = self._index, self._index._threads()
        if not (ids >= 0).any():
            return padded(index, len(z), k)
        distinct, first = np.unique(ids, return_index=True)
        own = codes.reshape(-1, codes.shape[-1])[first[distinct >= 0]]
        distinct = distinct[distinct >= 0]
        rows = np.where(ids < 0, -1, np.searchsorted(distinct, ids))
        D, I = np.empty((len(z), k), np.float32), np.empty((len(z), k), np.int64)
        if isinstance(index, DeepQuantIndex):
            self._decoded.rerank(
                *(z, rows, own, index.product_quantizer, index.metric_type, D, I),
                num_threads=threads,
            )
            return D, np.where(I < 0, -1, distinct[np.maximum(I, 0)])
        pure, cells = index._split(own)
        D, I, _ = index._rank_anew(
            *(z, ids, rows, k, threads),
            decode=lambda rows: index._decode_in_cells(pure[rows], cells[rows]),
        )
        return D, I
