"""Searching stored codes: by deepq's kernels, and by faiss where those have no say."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq import _scan
from deepq._common.arrays import as_output
from deepq._common.checks import as_real, as_search_type, require_float32
from deepq._common.errors import InputError, KindError
from deepq._common.types import Floats, Ids
from deepq.index.flat_codes import FlatCodes
from deepq.index.queries import Queries
from deepq.index.search_parameters import ALL, selection
from deepq.index.tensors import accepts_tensors

# Look-ups below which a second thread costs more than it brings.
_LOOKUPS_PER_THREAD = 1 << 24


class FlatSearch(Queries, FlatCodes):
    """The strand of an index that scans all codes."""

    ST_PQ: int
    ST_SDC: int

    @property
    def search_type(self) -> int:
        """ST_PQ for look-up tables of queries, ST_SDC for symmetric search, or polysemous.

        Symmetric search is for nbits = 8, and takes a table of M * 2^16 numbers.
        """
        return int(self._native.pq_index.search_type)

    @search_type.setter
    def search_type(self, value: int) -> None:
        self._native.pq_index.search_type = as_search_type(value)
        self._native.settle_symmetric()

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
        """Find the k nearest stored vectors of every query.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        params : deepq.SearchParameters or faiss.SearchParameters, optional
            Of this call: how many results are re-ranked, a selector of the vectors that may be
            found, a number of threads, or, in faiss.SearchParametersPQ, search_type and
            polysemous_ht; modes other than ST_PQ are faiss's own, and take no selector and no
            re-ranking.
        D, I : (n, k) arrays of float32 and int64, optional
            Where results go.
        numeric_type : int
            faiss.Float32.

        Returns
        -------
        D : (n, k) float32
            Scores, best first: squared L2 distances to, or inner products with, the decoded
            vectors, which are those of the decoder with re-ranking, else of the codewords. Where
            there is no k-th vector, or the query is not finite, +FLT_MAX for L2 and -FLT_MAX for
            inner product.
        I : (n, k) int64
            Ids; equal scores in ascending order of id; -1 where there is none.

        Raises
        ------
        StateError
            If the index is not trained.
        DimensionError, KindError
            If `x`, `k`, `D` or `I` has the wrong shape or kind, or `params` is of another class.
        InputError
            If `params` has a selector for a mode that takes none, or another numeric type is
            asked for.
        """
        require_float32(numeric_type)
        x = self._vectors(x)
        D, I = self._outputs(x, k, D, I)
        mode = self._mode(params)
        with self._lock.reading():
            self._search(x, params, mode, D, I)
        return D, I

    def _mode(self, params: Any) -> int:
        """Return the search type of a call, prepared; refuse parameters that do not suit."""
        mode = self.search_type if params is None else self._search_type(params)
        self._require_trained()
        if mode == self.ST_SDC:
            with self._lock.changing():
                self._native.prepare_symmetric()
        return mode

    def _search_type(self, params: Any) -> int:
        """Return the search type in parameters of a call, if they are those of a flat index."""
        if not isinstance(params, faiss.SearchParameters):
            raise KindError(f"expected deepq.SearchParameters, got {type(params).__name__}")
        if isinstance(params, faiss.SearchParametersPQ):
            mode = as_search_type(params.search_type)
        elif type(params) is faiss.SearchParameters:
            mode = self.search_type
        else:
            raise InputError(f"expected deepq.SearchParameters, got {type(params).__name__}")
        if params.sel is not None and not self._scans(mode):
            raise InputError(
                "expected no selector for codes of more than 8 bits and modes other than ST_PQ, "
                f"got one for nbits = {self._quantizer.nbits}, search_type = {mode}"
            )
        return mode

    def _scans(self, mode: int) -> bool:
        """Whether deepq's kernels search, and not faiss."""
        return mode == self.ST_PQ and self._quantizer.nbits <= 8

    def _search(
        self, x: Floats, params: Any, mode: int, D: Floats, I: Ids, *, reranks: bool = True
    ) -> None:
        """Fill D and I; the caller holds the lock."""
        usable, z = self._encode_queries(x)
        count = self._rerank_count(params) if reranks else 0
        self._search_codes(usable, z, params, mode, count, D, I)

    def _search_codes(
        self,
        usable: slice | Ids,
        z: Floats,
        params: Any,
        mode: int,
        count: int,
        D: Floats,
        I: Ids,
    ) -> None:
        """`_search` for the usable queries; our scan re-ranks the best `count`, unless it is 0."""
        if self._scans(mode):
            self._search_tables(usable, z, params, count, D, I)
        else:
            self._search_native(usable, z, params, D, I)

    def _search_tables(
        self, usable: slice | Ids, z: Floats, params: Any, count: int, D: Floats, I: Ids
    ) -> None:
        """Scan for the usable queries; pad the other rows, and columns beyond what is stored.

        The best `count`, and all k if these are more, are re-ranked, unless it is 0.
        """
        part = selection(params, self.ntotal, len(z))
        scan = self._scan_arguments(z, part, params)
        k = min(D.shape[1], len(scan["codes"]))
        width = min(max(k, count), len(scan["codes"])) if count else k
        whole = len(z) == len(D) and k == D.shape[1]
        scores, ids = (D, I) if whole else _results(len(z), k)
        found = _results(len(z), width) if count else (scores, ids)
        _scan.search(D=found[0], I=found[1], **scan)
        if part is not ALL:
            part.to_ids(found[1])
        if count:
            self._decoded.rerank(
                z,
                found[1],
                self._native.codes,
                self._quantizer,
                self.metric_type,
                scores,
                ids,
                num_threads=scan["num_threads"],
            )
        if not whole:
            D.fill(self._worst)
            I.fill(-1)
            D[usable, :k], I[usable, :k] = scores, ids

    def _scan_arguments(self, z: Floats, part: Any, params: Any) -> dict[str, Any]:
        """Return what a scan of a part of the codes takes."""
        quantizer = self._quantizer
        codes = self._native.codes
        if part is not ALL:
            codes = codes[part.rows]
        num_threads = self._threads(params)
        if getattr(params, "num_threads", None) is None:
            lookups = len(z) * len(codes) * quantizer.M
            num_threads = min(num_threads, 1 + lookups // _LOOKUPS_PER_THREAD)
        return {
            "codes": codes,
            "M": quantizer.M,
            "nbits": quantizer.nbits,
            "queries": z,
            "codebooks": quantizer.codebooks,
            "inner_product": self.metric_type == faiss.METRIC_INNER_PRODUCT,
            "allowed": part.bits,
            "num_threads": num_threads,
        }

    def _search_native(
        self, usable: slice | Ids, z: Floats, params: Any, D: Floats, I: Ids
    ) -> None:
        """Search as IndexPQ does: symmetric and polysemous modes, codes of more than 8 bits."""
        shape = len(z), D.shape[1]
        scores, ids = np.empty(shape, np.float32), np.empty(shape, np.int64)
        try:
            self._native.search(z, shape[1], params, self._threads(params), scores, ids)
        except RuntimeError as error:
            raise InputError(f"expected a mode that suits this index, got {error}") from error
        D.fill(self._worst)
        I.fill(-1)
        D[usable], I[usable] = scores, ids

    @accepts_tensors
    def assign(self, x: Any, k: int, labels: Any = None) -> Ids:
        """Ids (n, k) int64 of the k stored vectors that `search` finds without re-ranking."""
        x = self._vectors(x)
        D, I = self._outputs(x, k, None, labels)
        mode = self._mode(None)
        with self._lock.reading():
            self._search(x, None, mode, D, I, reranks=False)
        return I

    @accepts_tensors
    def range_search(
        self, x: Any, thresh: float, *, params: Any = None
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        """Find all stored vectors that score better than `thresh`, by their codewords.

        Parameters
        ----------
        x : (n, d) array
            Queries; one that is not finite finds nothing.
        thresh : float
            Squared L2 distance below which, or inner product above which, a vector is returned.
        params : deepq.SearchParameters or faiss.SearchParameters, optional
            A selector of the vectors that may be found, and a number of threads.

        Returns
        -------
        lims : (n + 1,) uint64; D : (lims[n],) float32; I : (lims[n],) int64
            The results of query i are D[lims[i]:lims[i + 1]], in ascending order of id.

        Raises
        ------
        StateError, DimensionError, KindError
            As `search`.
        InputError
            If `thresh` is NaN.
        """
        x = self._vectors(x)
        thresh = as_real(thresh, "thresh")
        if params is not None and not isinstance(params, faiss.SearchParameters):
            raise KindError(f"expected deepq.SearchParameters, got {type(params).__name__}")
        self._require_trained()
        with self._lock.reading():
            usable, z = self._encode_queries(x)
            lims, D, I = self._within(z, thresh, params)
        return self._limits(len(x), usable, lims), D, I

    def _within(
        self, z: Floats, thresh: float, params: Any
    ) -> tuple[NDArray[np.uint64], Floats, Ids]:
        """`range_search` for embeddings; the caller holds the lock."""
        if self._quantizer.nbits > 8:
            return self._native.range_search(z, thresh, params, self._threads(params))
        part = selection(params, self.ntotal, len(z))
        lims, D, I = _scan.range_search(radius=thresh, **self._scan_arguments(z, part, params))
        part.to_ids(I)
        return lims, D, I

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
        mode = self._mode(params)
        with self._lock.reading():
            self._search(x, params, mode, D, I)
            found = self._native.codes[I[I >= 0]]
        R.fill(np.nan)
        R[I >= 0] = self._decode(found, np.empty((len(found), self.d), np.float32))
        return D, I, R


def _results(nq: int, k: int) -> tuple[Floats, Ids]:
    """Make room for the k results of so many queries."""
    return np.empty((nq, k), np.float32), np.empty((nq, k), np.int64)
