"""Searching codes in cells: by deepq's kernels, and by faiss where those have no say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq import _cells
from deepq._common.arrays import as_array, as_output
from deepq._common.checks import as_real, require_float32
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Codes, Floats, Ids
from deepq.index.cell_editing import CellEditing
from deepq.index.cell_parameters import Allowed, CellParameters, limited, members, parameters_of
from deepq.index.native import cell_scans
from deepq.index.queries import Queries
from deepq.index.tensors import accepts_tensors
from deepq.quantizers.reranking import rank, share_queries


class CellSearch(Queries, CellEditing):
    """The strand of an index that looks into the cells nearest to a query."""

    nprobe: int
    max_codes: int

    @accepts_tensors
    def search(
        self,
        x: Any,
        k: int,
        *,
        params: Any = None,
        D: Any = None,
        I: Any = None,
        numeric_type: int = 0,
    ) -> tuple[Floats, Ids]:
        """Find the k nearest stored vectors of every query, in the `nprobe` cells nearest to it.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        params : deepq.SearchParameters or faiss.SearchParametersIVF, optional
            Of this call: `nprobe`, how many results are re-ranked, a selector of the ids that may
            be found, a number of threads. One of faiss's class has its own `nprobe`, 1 by default,
            and its own `max_codes`, after so many scored codes a query stops.
        D, I : (n, k) arrays of float32 and int64, optional
            Where results go.
        numeric_type : int
            faiss.Float32.

        Returns
        -------
        D : (n, k) float32
            Scores, best first, as in `DeepQuantIndex.search`.
        I : (n, k) int64
            Ids; equal scores in ascending order of id; -1 where there is none.

        Raises
        ------
        StateError
            If the index is not trained.
        DimensionError, KindError
            If `x`, `k`, `D` or `I` has the wrong shape or kind, or `params` is of another class.
        InputError
            If `nprobe` is out of range.
        """
        require_float32(numeric_type)
        x = self._vectors(x)
        D, I = self._outputs(x, k, D, I)
        self._require_trained()
        with self._lock.reading():
            self._search(x, params, D, I)
        return D, I

    @accepts_tensors
    def search_preassigned(
        self,
        x: Any,
        k: int,
        Iq: Any,
        Dq: Any,  # noqa: ARG002 - a part of faiss's signature
        *,
        params: Any = None,
        D: Any = None,
        I: Any = None,
    ) -> tuple[Floats, Ids]:
        """`search` in cells `Iq` (n, nprobe) int64 that the caller has chosen; -1 for none.

        `Dq`, the distances to their centres, is not needed, and may be None.
        """
        x = self._vectors(x)
        D, I = self._outputs(x, k, D, I)
        cells = self._as_cells(Iq, len(x))
        self._require_trained()
        with self._lock.reading():
            self._search(x, params, D, I, cells)
        return D, I

    def _as_cells(self, cells: Any, n: int) -> Ids:
        """Cells (n, nprobe) of a caller's: numbers below nlist, or -1."""
        cells = as_array(cells, "Iq")
        if cells.dtype.kind not in "iu" or cells.ndim != 2 or len(cells) != n:
            raise DimensionError(
                f"expected Iq of integers ({n}, nprobe), got {cells.dtype} {cells.shape}"
            )
        own: Ids = np.array(cells, np.int64)
        if own.size and not (own.min() >= -1 and own.max() < self.nlist):
            raise InputError(
                f"expected cells from -1 to {self.nlist - 1}, got {own.min()} to {own.max()}"
            )
        for column in range(1, own.shape[1]):  # a cell that comes twice is looked into once
            own[(own[:, column, None] == own[:, :column]).any(axis=1), column] = -1
        order = np.argsort(own < 0, axis=1, kind="stable")[:, : self.nlist]
        return np.take_along_axis(own, order, axis=1)

    @accepts_tensors
    def search_and_return_codes(
        self,
        x: Any,
        k: int,
        *,
        include_listnos: bool = False,
        params: Any = None,
        D: Any = None,
        I: Any = None,
        codes: Any = None,
    ) -> tuple[Floats, Ids, Codes]:
        """`search`, and the codes (n, k, code_size) uint8 of results, zeros where the id is -1.

        With `include_listnos` they begin with the numbers of their cells: stand-alone codes.
        """
        x = self._vectors(x)
        D, I = self._outputs(x, k, D, I)
        self._require_trained()
        with self._lock.reading():
            places = self._search(x, params, D, I)
            found = places >= 0
            own = self._native.table.codes_at(places[found])
        own = self._joined(own, places[found] >> 32) if include_listnos else own
        size = self.sa_code_size() if include_listnos else self.code_size
        codes = as_output(codes, (*I.shape, size), np.uint8, "codes")
        codes.fill(0)
        codes[found] = own
        return D, I, codes

    def _search(self, x: Floats, params: Any, D: Floats, I: Ids, cells: Ids | None = None) -> Ids:
        """Fill D and I, and return the places of results; the caller holds the lock."""
        usable, z = self._encode_queries(x)
        return self._search_cells(usable, z, params, self._rerank_count(params), D, I, cells)

    def _search_cells(
        self,
        usable: slice | Ids,
        z: Floats,
        params: Any,
        count: int,
        D: Floats,
        I: Ids,
        cells: Ids | None = None,
    ) -> Ids:
        """`_search` for the usable queries; the best `count` are re-ranked, unless it is 0."""
        asked = parameters_of(params, self.nprobe, self.max_codes)
        cells = self._cells_for(z, asked, params, usable, cells)
        threads = self._threads(params)
        k, width = D.shape[1], max(D.shape[1], count)
        shape = len(z), width
        whole = shape == D.shape  # with nothing between the search and its results
        scores, ids = (D, I) if whole else (np.empty(shape, np.float32), np.empty(shape, np.int64))
        found = scores, ids, np.empty(shape, np.int64)
        table = self._native.table
        allowed = members(table, cells, asked.sel)
        if asked.max_codes:
            sizes = table.sizes()
            for q, (own, chosen) in enumerate(limited(cells, sizes, allowed, asked, k)):
                one = slice(q, q + 1)
                part = found[0][one], found[1][one], found[2][one]
                self._scan(table, z[one], own, chosen, 1, *part)
        else:
            self._scan(table, z, cells, allowed, threads, *found)
        if count and width:
            found = self._rank_anew(z, found[1], found[2], k, threads, self._decode_places)
        elif whole:
            return found[2]
        scores, ids, places = found
        D.fill(self._worst)
        I.fill(-1)
        D[usable], I[usable] = scores, ids
        every = np.full(D.shape, -1, np.int64)
        every[usable] = places
        return every

    def _scan(
        self,
        table: _cells.Cells,
        z: Floats,
        cells: Ids,
        allowed: Allowed | None,
        threads: int,
        scores: Floats,
        ids: Ids,
        places: Ids,
    ) -> None:
        """Fill in the best codes in cells: by our kernels, or by faiss for words of odd widths."""
        if 8 % self._quantizer.nbits:
            cell_scans.search(
                self._native, z, cells, scores, ids, places, allowed=allowed, threads=threads
            )
            return
        _cells.search(table, z, cells, scores, ids, places, allowed=allowed, num_threads=threads)

    def _rank_anew(
        self,
        z: Floats,
        ids: Ids,
        places: Ids,
        k: int,
        threads: int,
        decode: Callable[[Ids], Floats],
    ) -> tuple[Floats, Ids, Ids]:
        """Scores, ids and places (n, k) of the best out of R, by what `decode` makes of places."""
        by_id = np.lexsort((ids, ids < 0), axis=1)  # of equal scores the first column wins
        ids, places = (np.take_along_axis(each, by_id, axis=1) for each in (ids, places))
        columns = np.where(places < 0, -1, np.arange(places.shape[1]))
        scores, best = np.empty((len(z), k), np.float32), np.empty((len(z), k), np.int64)

        def work(block: slice) -> None:
            own = places[block]
            distinct = np.unique(own[own >= 0])
            rows = np.where(own < 0, 0, np.searchsorted(distinct, own))
            vectors, found = decode(distinct), (scores[block], best[block])
            rank(z[block], vectors, columns[block], rows, self.metric_type, *found)

        share_queries(work, len(z), places.shape[1] * z.shape[1], threads)
        none, at = best < 0, np.maximum(best, 0)
        ids, places = (
            np.where(none, -1, np.take_along_axis(each, at, axis=1)) for each in (ids, places)
        )
        return scores, ids, places

    def _cells_for(
        self,
        z: Floats,
        asked: CellParameters,
        params: Any,
        usable: slice | Ids,
        cells: Ids | None,
    ) -> Ids:
        """Cells (n, nprobe) that the usable queries look into: nearest first, or given ones."""
        if cells is not None:
            return np.ascontiguousarray(cells[usable])
        count, threads = min(asked.nprobe, self.nlist), self._threads(params)
        return self._native.cells_of(z, count, threads, asked.inner)

    @accepts_tensors
    def range_search(
        self, x: Any, thresh: float, *, params: Any = None
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        """Find all vectors in the cells of a query that score better than `thresh`, by codewords.

        Parameters and results are those of `search` and of `DeepQuantIndex.range_search`.
        """
        x = self._vectors(x)
        thresh = as_real(thresh, "thresh")
        return self._range_search(x, thresh, params, None)

    @accepts_tensors
    def range_search_preassigned(
        self,
        x: Any,
        thresh: float,
        Iq: Any,
        Dq: Any,  # noqa: ARG002
        *,
        params: Any = None,
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        """`range_search` in cells `Iq` (n, nprobe) int64; `Dq` is not needed."""
        x = self._vectors(x)
        return self._range_search(x, as_real(thresh, "thresh"), params, self._as_cells(Iq, len(x)))

    def _range_search(
        self, x: Floats, thresh: float, params: Any, cells: Ids | None
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        self._require_trained()
        with self._lock.reading():
            usable, z = self._encode_queries(x)
            lims, D, I = self._within(usable, z, thresh, params, cells)
        return self._limits(len(x), usable, lims), D, I

    def _within(
        self,
        usable: slice | Ids,
        z: Floats,
        thresh: float,
        params: Any,
        cells: Ids | None = None,
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        """`range_search` for the usable queries; the caller holds the lock."""
        asked = parameters_of(params, self.nprobe, 0)
        cells = self._cells_for(z, asked, params, usable, cells)
        allowed = members(self._native.table, cells, asked.sel)
        threads = self._threads(params)
        if 8 % self._quantizer.nbits:
            return cell_scans.range_search(
                self._native, z, cells, thresh, allowed=allowed, threads=threads
            )
        return _cells.range_search(
            self._native.table, z, cells, thresh, allowed=allowed, num_threads=threads
        )

    @accepts_tensors
    def search_and_reconstruct(
        self, x: Any, k: int, *, params: Any = None, D: Any = None, I: Any = None, R: Any = None
    ) -> tuple[Floats, Ids, Floats]:
        """`search`, and the decoded vectors (n, k, d) float32; NaN where the id is -1.

        Raises StateError if the encoder cannot be undone, as a network.
        """
        x = self._vectors(x)
        self._require_decoding()
        D, I = self._outputs(x, k, D, I)
        R = as_output(R, (*I.shape, self.d), np.float32, "R")
        self._require_trained()
        with self._lock.reading():
            places = self._search(x, params, D, I)
            z = self._decode_places(places[places >= 0])
        R.fill(np.nan)
        R[places >= 0] = self.encoder.decode(z)
        return D, I, R

    @accepts_tensors
    def assign(self, x: Any, k: int, labels: Any = None) -> Ids:
        """Ids (n, k) int64 of the k stored vectors that `search` finds."""
        return self.search(x, k, I=labels)[1]
