"""Re-ranking: the first results of a scan, ordered by scores of their decoded vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.neighbours import unit_of_tiny
from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids
from deepq.decoders import Decoder
from deepq.quantizers.product import ProductQuantizer

_NUMBERS = 1 << 24  # of decoded vectors that are held at a time
_NUMBERS_KEPT = 1 << 24  # of decoded vectors that are kept from one search to the next


def rerank(queries: Floats, found: Ids, decode: Callable[[Ids], Floats], metric: int) -> Floats:
    """Put each row of `found` into the order of the decoded vectors, in place.

    Parameters
    ----------
    queries : (nq, d) float32
        Embeddings of queries.
    found : (nq, k) int64
        Ids; -1 where there is none, which comes last.
    decode : callable
        Gives the vectors (n, d) float32 of ids (n,). It is asked once for every id in a block of
        queries.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.

    Returns
    -------
    (nq, k) float32
        Squared distances, ascending, or inner products, descending; equal ones in ascending
        order of id. Beside -1 infinity, or minus infinity.
    """
    inner_product = metric == METRIC_INNER_PRODUCT
    scores = np.empty(found.shape, np.float32)
    step = max(1, _NUMBERS // max(1, found.shape[1] * queries.shape[1]))
    for first in range(0, len(queries), step):
        block = slice(first, first + step)
        ids = np.sort(found[block], axis=1)
        distinct, places = _distinct(np.maximum(ids, 0))
        vectors = np.ascontiguousarray(decode(distinct))
        rows = np.ascontiguousarray(queries[block])
        unit = unit_of_tiny(rows, vectors)
        if unit != 1:
            rows, vectors = rows * unit, vectors * unit
        costs = _scan.costs(rows, vectors, places, inner_product)
        costs[ids < 0] = np.inf
        order = np.argsort(costs, axis=1, kind="stable")
        found[block] = np.take_along_axis(ids, order, axis=1)
        scores[block] = np.take_along_axis(costs, order, axis=1)
        if unit != 1:
            scores[block] = scores[block] / unit / unit
    return np.negative(scores, out=scores) if inner_product else scores


class _Kept(NamedTuple):
    """Decoded vectors by id, and what each was decoded from."""

    decoder: Decoder
    settings: dict[str, Any]
    codes: Codes
    vectors: Floats
    known: NDArray[np.bool_]


class Decoded:
    """What stored codes decode to, kept for the next search where few vectors are stored.

    Decoding is most of the work of a search in a small index. An entry is good as long as the code
    beside it is the one that is stored, so whoever changes codes need not know of this. Searches at
    the same time may write the same entry: what says that it is good is written last.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def get(self, ids: Ids, codes: Codes, quantizer: ProductQuantizer) -> Floats:
        """Vectors (n, d) of ids (n,) among the stored codes (ntotal, code_size)."""
        wanted, kept = codes[ids], self._room(codes, quantizer.decoder)
        if kept is None:
            return quantizer.decode(wanted)
        new = ~kept.known[ids] | (kept.codes[ids] != wanted).any(axis=1)
        if new.any():
            rows = ids[new]
            kept.vectors[rows] = quantizer.decode(wanted[new])
            kept.codes[rows] = wanted[new]
            kept.known[rows] = True
        return kept.vectors[ids]

    def _room(self, codes: Codes, decoder: Decoder | None) -> _Kept | None:
        """Return where to keep vectors of that many codes; None where they would be too many."""
        most = 0 if decoder is None else _NUMBERS_KEPT // decoder.shape[2]
        if decoder is None or not 0 < len(codes) <= most:
            self._kept = None
            return None
        kept = self._kept
        if (
            kept is None
            or (kept.decoder, kept.settings) != (decoder, decoder.settings)
            or len(codes) > len(kept.codes)
        ):
            room = min(most, len(codes) + len(codes) // 4)  # for what is added one by one
            self._kept = kept = _Kept(
                decoder,
                decoder.settings,
                np.empty((room, codes.shape[1]), np.uint8),
                np.empty((room, decoder.shape[2]), np.float32),
                np.zeros(room, np.bool_),
            )
        return kept


def _distinct(ids: Ids) -> tuple[Ids, Ids]:
    """Return the distinct ids, ascending, and where among them each of `ids` is."""
    most = int(ids.max(initial=-1)) + 1
    if most > 4 * ids.size:
        distinct, places = np.unique(ids, return_inverse=True)
        return distinct, places.reshape(ids.shape)
    seen = np.zeros(most, np.bool_)
    seen[ids] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[ids]
