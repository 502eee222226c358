"""Re-ranking: the first results of a scan, ordered by scores of their decoded vectors.

Where decoded vectors are not kept, and the decoder has a number `spare`, not all results are
decoded: sums of its summands, in 8 bits, say which may be among the k best, and 2 k + spare are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq import _decode, _scan
from deepq._common.neighbours import TINY, unit_of_tiny
from deepq._common.threads import run_blocks
from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids, Words
from deepq.decoders.panels import in_bytes, widened
from deepq.decoders.plain import AnyDecoder
from deepq.quantizers.product import ProductQuantizer

_NUMBERS = 1 << 22  # of decoded vectors that a thread holds at a time
_NUMBERS_KEPT = 1 << 24  # of decoded vectors that are kept from one search to the next
_MOST_WORDS = 258  # of a code whose summands in 8 bits have sums in 16


class _Rough(NamedTuple):
    """Summands in 8 bits, which rank roughly as the decoder does.

    A code decodes to about offset + unit * (sum of summands), in all that `settings` say of it.
    """

    decoder: AnyDecoder
    settings: dict[str, Any]
    codebooks: Floats
    summands: NDArray[np.int8]
    offset: Floats
    unit: np.float32

    @classmethod
    def of(cls, quantizer: ProductQuantizer, decoder: AnyDecoder) -> _Rough:
        """Round the summands of a quantizer's decoder."""
        M, ksub, d = decoder.shape
        books = quantizer.trained()
        summands = np.float32(decoder.weight * decoder.shrink) * decoder.summands()
        if decoder.weight != 1:
            own = summands.reshape(M, ksub, M, d // M)
            own[np.arange(M), :, np.arange(M)] += np.float32(1 - decoder.weight) * books
        whole, offset, unit = in_bytes(summands)
        offset += np.float32(decoder.weight * (1 - decoder.shrink)) * decoder.arrays["centre"]
        return cls(decoder, decoder.settings, books, whole, offset, unit)

    def is_of(self, quantizer: ProductQuantizer, decoder: AnyDecoder) -> bool:
        """Whether nothing that it was made of has changed."""
        return (
            self.decoder is decoder
            and self.codebooks is quantizer.codebooks
            and self.settings == decoder.settings
        )

    def first(self, queries: Floats, ids: Ids, words: Words, count: int, metric: int) -> Ids:
        """Ids (nq, count) of the best for each query out of ids (nq, n), of words (nq * n, M)."""
        inner_product = metric == METRIC_INNER_PRODUCT
        moved = queries if inner_product else (queries - self.offset) / self.unit
        return _decode.roughly_first(
            widened(moved), ids, words, self.summands, count, inner_product
        )


class _Kept(NamedTuple):
    """Decoded vectors by id, and what each was decoded from."""

    decoder: AnyDecoder
    settings: dict[str, Any]
    codes: Codes
    vectors: Floats
    known: NDArray[np.uint8]


class Decoded:
    """What stored codes decode to, kept for the next search where few vectors are stored.

    Decoding is most of the work of a search in a small index. An entry is good as long as the code
    beside it is the one that is stored, so whoever changes codes need not know of this. Searches at
    the same time may write the same entry: what says that it is good is written last.

    Parameters
    ----------
    keeps : bool
        Whether to keep any.
    prunes : bool
        Whether those that are not kept are pruned before they are decoded.
    """

    def __init__(self, *, keeps: bool = True, prunes: bool = True) -> None:
        self._keeps, self._prunes = keeps, prunes
        self._kept: _Kept | None = None
        self._rough: _Rough | None = None

    def rerank(
        self,
        queries: Floats,
        found: Ids,
        codes: Codes,
        quantizer: ProductQuantizer,
        metric: int,
        D: Floats,
        I: Ids,
        *,
        num_threads: int = 1,
    ) -> None:
        """Fill D and I with the k best of some results, in the order of their decoded vectors.

        Parameters
        ----------
        queries : (nq, d) float32
            Embeddings of queries.
        found : (nq, n) int64
            Ids; -1 where there is none.
        codes : (ntotal, code_size) uint8
            All that is stored.
        quantizer : ProductQuantizer
            What decodes.
        metric : int
            METRIC_L2 or METRIC_INNER_PRODUCT.

        D : (nq, k) float32
            Squared distances, ascending, or inner products, descending; FLT_MAX or -FLT_MAX
            beside the id -1. k is at most n.
        I : (nq, k) int64
            Ids; equal scores in ascending order of id; -1 where there is none.
        num_threads : int
            Threads that share the queries.
        """
        k, queries = D.shape[1], quantizer.narrow(queries)
        nq, d = queries.shape
        kept = self._room(codes, quantizer.decoder)

        def work(block: slice) -> None:
            rows, ids, best = (
                np.ascontiguousarray(queries[block]),
                found[block],
                (D[block], I[block]),
            )
            if kept is None:
                if self._prunes:
                    ids = self._worth(rows, ids, k, codes, quantizer, metric)
                distinct, places = _distinct(np.maximum(ids, 0))
                vectors = np.ascontiguousarray(quantizer.decode_narrow(codes[distinct]))
            else:
                vectors, places = self._refreshed(kept, ids, codes, quantizer), ids
            rank(rows, vectors, ids, places, metric, *best)

        if k:
            share_queries(work, nq, found.shape[1] * d, num_threads)

    def _worth(
        self,
        queries: Floats,
        ids: Ids,
        k: int,
        codes: Codes,
        quantizer: ProductQuantizer,
        metric: int,
    ) -> Ids:
        """Those of the ids (nq, n) that are worth decoding, if k are asked for."""
        decoder = quantizer.decoder
        count = ids.shape[1] if decoder is None or not decoder.spare else 2 * k + decoder.spare
        if decoder is None or count >= ids.shape[1] or quantizer.M > _MOST_WORDS:
            return ids
        rough = self._rough
        if rough is None or not rough.is_of(quantizer, decoder):
            self._rough = rough = _Rough.of(quantizer, decoder)
        some = codes[np.maximum(ids, 0).ravel()]
        words = some if quantizer.nbits == 8 else _scan.unpack(some, quantizer.M, quantizer.nbits)
        return rough.first(queries, ids, words, count, metric)

    def _refreshed(
        self, kept: _Kept, ids: Ids, codes: Codes, quantizer: ProductQuantizer
    ) -> Floats:
        """Return the vectors that are kept, those of the ids (nq, n) decoded."""
        new = _decode.unknown(ids, codes, kept.codes, kept.known)
        if len(new):
            rows = np.unique(new)
            wanted = codes[rows]
            kept.vectors[rows] = quantizer.decode_narrow(wanted)
            kept.codes[rows] = wanted
            kept.known[rows] = 1
        return kept.vectors

    def _room(self, codes: Codes, decoder: AnyDecoder | None) -> _Kept | None:
        """Return where to keep vectors of that many codes; None where they would be too many."""
        if decoder is None or not self._keeps or not are_kept(len(codes), decoder):
            self._kept = None
            return None
        kept, most = self._kept, _NUMBERS_KEPT // decoder.width
        if (
            kept is None
            or kept.decoder is not decoder
            or kept.settings != decoder.settings
            or len(codes) > len(kept.codes)
        ):
            room = min(most, len(codes) + len(codes) // 4)  # for what is added one by one
            self._kept = kept = _Kept(
                decoder,
                decoder.settings,
                np.empty((room, codes.shape[1]), np.uint8),
                np.empty((room, decoder.width), np.float32),
                np.zeros(room, np.uint8),
            )
        return kept


def are_kept(n: int, decoder: AnyDecoder) -> bool:
    """Whether an index of n vectors keeps them decoded."""
    return 0 < n <= _NUMBERS_KEPT // decoder.width


def share_queries(work: Callable[[slice], None], nq: int, numbers: int, num_threads: int) -> None:
    """Call `work` for blocks of queries; what each decodes holds so many numbers."""
    run_blocks(work, nq, max(1, _NUMBERS // max(1, numbers)), num_threads)


def rank(
    queries: Floats, vectors: Floats, ids: Ids, places: Ids, metric: int, D: Floats, I: Ids
) -> None:
    """Fill D and I (nq, k) with the best of ids (nq, n), whose vectors are at `places` (nq, n)."""
    unit = np.float32(1)
    if len(vectors) and not _decode.reaches(queries, TINY):
        vectors = vectors[np.maximum(places, 0)].reshape(-1, queries.shape[1])
        places = np.arange(len(vectors)).reshape(ids.shape)
        unit = unit_of_tiny(queries, vectors)
        queries, vectors = queries * unit, vectors * unit
    _decode.rank(queries, vectors, ids, places, metric == METRIC_INNER_PRODUCT, D, I)
    if unit != 1:
        good = I >= 0
        D[good] = D[good] / unit / unit


def _distinct(ids: Ids) -> tuple[Ids, Ids]:
    """Return the distinct ids, ascending, and where among them each of `ids` is."""
    most = int(ids.max(initial=-1)) + 1
    if most > 4 * ids.size:
        distinct, places = np.unique(ids, return_inverse=True)
        return distinct, places.reshape(ids.shape)
    seen = np.zeros(most, np.bool_)
    seen[ids] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[ids]
