"""How many true neighbours codes find, and whether something learned pays: on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.neighbours import near, nearest
from deepq._common.types import METRIC_INNER_PRODUCT, Codes, Floats, Ids, InCells, Words
from deepq.quantizers.packing import pack
from deepq.quantizers.product import ProductQuantizer
from deepq.quantizers.reranking import Decoded

TOP = 10  # neighbours that count
SHORT_LIST = 100  # results of a scan that are re-ranked

_FEWEST = 256  # queries, whatever finding their neighbours costs
_MOST_PRODUCTS = 1 << 40  # multiplications spent on finding true neighbours


@dataclass(frozen=True)
class Neighbours:
    """Queries and their true neighbours among embedded vectors.

    Attributes
    ----------
    base : (n, d_out) float32
        Embeddings that are searched.
    queries : (nq, d_out) float32
        Embeddings of queries.
    true : (nq, TOP) int64
        Rows of `base` nearest to each query, best first.
    own : (nq,) int64
        The row of `base` that is the query itself, -1 for none.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    cells : InCells, optional
        Where the base lies in cells, these; codes are then of what it has besides their centres.
    probed : (nq, nprobe) int64, optional
        Cells that each query looks into; -1 for none.
    """

    base: Floats
    queries: Floats
    true: Ids
    own: Ids
    metric: int
    cells: InCells | None = None
    probed: Ids | None = None

    @property
    def coded(self) -> Floats:
        """What codes are of, (n, d_out)."""
        cells = self.cells
        return self.base if cells is None else self.base - cells.centres[cells.cells]

    def meets(self, batch: Ids, rows: Ids) -> NDArray[np.bool_]:
        """Whether queries (m,) look into the cells of rows, (n,) or (m, n), of the base: (m, n)."""
        if self.cells is None or self.probed is None:
            return np.ones((len(batch), rows.shape[-1]), np.bool_)
        looked = np.zeros((len(batch), len(self.cells.centres) + 1), np.bool_)
        np.put_along_axis(looked, self.probed[batch], True, axis=1)  # the last column is for none
        cells = np.broadcast_to(self.cells.cells[rows], (len(batch), rows.shape[-1]))
        return np.take_along_axis(looked, cells, axis=1)

    @classmethod
    def among(cls, z: Floats, nq: int, metric: int, rng: np.random.Generator) -> Neighbours:
        """Draw at most `nq` queries among the rows of `z` (n, d_out), which stay in the base.

        Their neighbours are those that single precision finds, which is good enough to learn from.
        """
        nq = min(nq, len(z), max(_FEWEST, _MOST_PRODUCTS // z.size))
        own = np.sort(rng.choice(len(z), nq, replace=False))
        found = near(z, z[own], TOP + 1, metric)
        others = found != own[:, None]
        others[others.all(axis=1), -1] = False  # equal rows came before the query itself
        return cls(z, z[own], found[others].reshape(nq, TOP), own, metric)

    @classmethod
    def apart(cls, z: Floats, nq: int, metric: int, others: Floats | None = None) -> Neighbours:
        """Take the first `nq` rows of `z` (n, d_out) as queries, the rest and others as base."""
        queries, rest = z[:nq], z[nq:]
        base = np.ascontiguousarray(rest) if others is None else np.concatenate([rest, others])
        true = nearest(base, queries, TOP, metric)[1]
        return cls(base, queries, true, np.full(len(queries), -1), metric)

    def recall(self, found: Ids) -> Floats:
        """10-recall@10 of every query (nq,), given the rows (nq, 10 or more) found for it."""
        hits = (found[:, :TOP, None] == self.true[:, None]).any(axis=1)
        parts: Floats = hits.mean(axis=1, dtype=np.float32)
        return parts


def scan(quantizer: ProductQuantizer, codes: Codes, queries: Floats, k: int, metric: int) -> Ids:
    """Positions (nq, k) of the codes that the tables put first; k at most as many as there are."""
    I = np.empty((len(queries), k), np.int64)
    _scan.search(
        codes,
        quantizer.M,
        quantizer.nbits,
        np.empty(I.shape, np.float32),
        I,
        queries=quantizer.wide(queries),
        codebooks=quantizer.trained(),
        inner_product=metric == METRIC_INNER_PRODUCT,
        num_threads=quantizer.num_threads,
    )
    return I


FEWEST_ROWS = 200  # held out, below which chance decides

_MOST_QUERIES = 1000
_STRETCHES = 16


def hold_out(n: int, count: int, rng: np.random.Generator) -> Ids:
    """Draw about `count` of `n` rows, in random order, as some stretches of neighbouring rows.

    Rows that follow each other often have one source (a photograph, a document) and are alike.
    Drawn one by one, they would lie on both sides, and what was learned by heart would pass for
    learned.
    """
    length, segment = count // _STRETCHES, n / _STRETCHES
    starts = [int(i * segment + rng.random() * (segment - length)) for i in range(_STRETCHES)]
    rows: Ids = rng.permutation(np.concatenate([np.arange(s, s + length) for s in starts]))
    return rows


class Judge:
    """Held-out rows, some as queries and the others as base.

    Parameters
    ----------
    z : (n, d_out) float32
        Embeddings of held-out rows, at least `FEWEST_ROWS`.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT.
    others : (m, d_out) float32, optional
        Rows to search among as well, even if something was learned from them: among many vectors
        neighbours are nearer, and other things pay.
    """

    def __init__(self, z: Floats, metric: int, others: Floats | None = None) -> None:
        nq = min(_MOST_QUERIES, len(z) // 4)
        self._test = Neighbours.apart(z, nq, metric, others)
        self._chosen_by: Any = None
        self._chosen: Words = np.empty((0, 0), np.uint8)
        self._listed: tuple[Floats, Words, Ids] | None = None

    @cached_property
    def length(self) -> float:
        """Root of the mean squared length of the embeddings that are searched; 1 for zeros."""
        squares = np.square(self._test.base, dtype=np.float64).sum(axis=1)
        return float(np.sqrt(squares.mean())) or 1.0

    def by_tables(self, quantizer: ProductQuantizer) -> Floats:
        """10-recall@10 (nq,) of the look-up tables."""
        return self._test.recall(self._scan(quantizer, self._words(quantizer), TOP))

    def reranked(self, quantizer: ProductQuantizer) -> Floats:
        """10-recall@10 (nq,) after the best 100 of the tables are ranked by decoded vectors."""
        return self._reranked(quantizer, self._words(quantizer))

    def nearest_suffer(self, quantizer: ProductQuantizer) -> bool:
        """Whether re-ranking finds less where words are those of the nearest codewords.

        C++ code adds such words.
        """
        words = quantizer.assign(self._test.coded)
        plain = self._test.recall(self._scan(quantizer, words, TOP))
        return bool(self._reranked(quantizer, words).mean() < plain.mean())

    def _reranked(self, quantizer: ProductQuantizer, words: Words) -> Floats:
        test, codes = self._test, pack(words, quantizer.nbits)
        found = self._short_list(quantizer, words)
        I = np.empty((len(found), TOP), np.int64)
        D = np.empty(I.shape, np.float32)
        Decoded(keeps=False).rerank(test.queries, found, codes, quantizer, test.metric, D, I)
        return test.recall(I)

    def _short_list(self, quantizer: ProductQuantizer, words: Words) -> Ids:
        """Rows (nq, SHORT_LIST or fewer) to re-rank; scanned for once in a row of trials."""
        books = quantizer.trained()
        if self._listed is not None:
            own, listed, found = self._listed
            if np.array_equal(own, books) and np.array_equal(listed, words):
                return found
        found = self._scan(quantizer, words, SHORT_LIST)
        self._listed = books.copy(), words, found
        return found

    def _scan(self, quantizer: ProductQuantizer, words: Words, k: int) -> Ids:
        """Rows (nq, k) of the base that the look-up tables put first."""
        test, codes = self._test, pack(words, quantizer.nbits)
        return scan(quantizer, codes, test.queries, min(k, len(codes)), test.metric)

    def _words(self, quantizer: ProductQuantizer) -> Words:
        """Words of the base; a decoder chooses them once, as they do not follow the tables."""
        decoder = quantizer.decoder
        if decoder is None:
            return quantizer.choose(self._test.coded)
        if self._chosen_by is None or not decoder.chooses_like(self._chosen_by):
            self._chosen_by = decoder
            self._chosen = quantizer.choose(self._test.coded, self._test.cells)
        return self._chosen


def pays(new: Floats, old: Floats) -> bool:
    """Whether recalls of the same queries (nq,) have risen by more than their standard error."""
    gain = np.asarray(new, np.float64) - old
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
