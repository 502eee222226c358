"""Codes in cells: adding and reading them; `cell_editing` changes what is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepq import _scan
from deepq._common.arrays import as_array, as_codes, as_free_ids, as_output, require_finite
from deepq._common.checks import as_integer, require_float32
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Codes, Floats, Ids
from deepq.encoders.base import embed
from deepq.index.cell_lists import CellLists
from deepq.index.tensors import accepts_tensors
from deepq.index.training_data import checked_blocks, rows_to_add

_LARGEST_ID = np.iinfo(np.int64).max


class CellCodes(CellLists):
    """The strand of an index whose codes lie in cells, each with an id."""

    # ---- reading -----------------------------------------------------------------------------

    def _decode_places(self, places: Ids) -> Floats:
        """Embeddings (n, d_out) that the codes at places decode to."""
        return self._decode_in_cells(self._native.table.codes_at(places), places >> 32)

    def _decode_in_cells(self, codes: Codes, cells: Ids) -> Floats:
        """Embeddings (n, d_out) of codes (n, code_size) in cells (n,)."""
        if not self.by_residual:
            return self.product_quantizer.decode(codes)
        known = self._in_cells(cells)
        z = self.product_quantizer.decode(codes, known)
        return z + known.centres[known.cells]

    @accepts_tensors
    def reconstruct(self, key: int, x: Any = None) -> Floats:
        """Decode the stored vector of id `key` into (d,) float32.

        Raises InputError if there is no such vector.
        """
        out = as_output(x, (self.d,), np.float32, "x")
        self.reconstruct_batch(np.array([as_integer(key, "key")]), out[None])
        return out

    @accepts_tensors
    def reconstruct_batch(self, key: Any, x: Any = None) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32."""
        self._require_trained()
        self._require_decoding()
        keys = as_array(key, "key")  # or a list, as in faiss
        keys = as_free_ids(keys if keys.size else keys.astype(np.int64), "key", least=None)
        with self._lock.reading():
            out = as_output(x, (len(keys), self.d), np.float32, "x")
            out[...] = self.encoder.decode(self._decode_places(self._native.places_of(keys)))
        return out

    @accepts_tensors
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Any = None) -> Floats:
        """Decode the vectors of ids n0 to n0 + ni - 1 (-1: to ntotal - 1) into (ni, d) float32."""
        n0, ni = as_integer(n0, "n0"), as_integer(ni, "ni")
        ni = self.ntotal - n0 if ni == -1 else ni
        if ni < 0:
            raise InputError(f"expected ni of at least 0, or -1, got {ni} from {n0} on")
        return self.reconstruct_batch(np.arange(n0, n0 + ni), x)

    # ---- adding ------------------------------------------------------------------------------

    def add(self, x: Any, numeric_type: int = 0) -> None:
        """Encode the rows of `x` and put their codes into cells; ids follow the largest so far.

        See `add_with_ids`. Before anything is removed or given an id these are the numbers from
        ntotal on, as in faiss.
        """
        self.add_with_ids(x, None, numeric_type)

    @accepts_tensors
    def add_with_ids(self, x: Any, ids: Any, numeric_type: int = 0) -> None:
        """Encode the rows of `x` and put their codes into cells under ids of the caller's.

        Parameters
        ----------
        x : (n, d) array or RowSource
            Finite vectors. Those outside of memory are read block by block.
        ids : (n,) array of integers from 0 on, or None
            None for the numbers that follow the largest so far.
        numeric_type : int
            faiss.Float32.

        Raises
        ------
        StateError
            If the index is not trained.
        InputError
            If there is a NaN or an infinity, or an id is negative. Nothing is added by a call that
            fails.
        DimensionError, KindError
            If `x` is not an (n, d) array of real numbers, or `ids` not (n,) integers.
        """
        require_float32(numeric_type)
        x = rows_to_add(self._encoder, x)
        given = None if ids is None else as_free_ids(ids, "ids")
        if given is not None and len(given) != len(x):
            raise DimensionError(f"expected ids of shape ({len(x)},), got {given.shape}")
        with self._lock.changing():
            self._native.require_memory()
            codes, cells = self._encode_in_cells(x, progress=bool(self.verbose))
            self._append(codes, cells, given)

    def _append(self, codes: Codes, cells: Ids, ids: Ids | None) -> None:
        """Add codes; the caller keeps other writers out."""
        with self._lock.exclusive():
            self._native.append(codes, cells, self._numbers(len(codes)) if ids is None else ids)

    def _numbers(self, n: int) -> Ids:
        """Return the n ids that follow the largest so far."""
        if not n:
            return np.empty(0, np.int64)
        first = self._native.next_id
        if first > _LARGEST_ID - n:
            raise InputError(f"expected ids below {_LARGEST_ID}, got {first} for the next vector")
        return np.arange(first, first + n)

    def _encode_in_cells(self, x: Floats, *, progress: bool = False) -> tuple[Codes, Ids]:
        """Codes (n, code_size) and cells (n,) of vectors, block by block."""
        self._require_trained()
        encoder, threads = self.encoder, self._threads()
        quantizer = self.product_quantizer.with_threads(threads)
        codes, cells = np.empty((len(x), quantizer.code_size), np.uint8), np.empty(len(x), np.int64)
        for i, block in checked_blocks(x, progress=progress):
            if not _scan.all_finite(z := embed(encoder, block)):
                require_finite(z, "embeddings", i)
            own = self._native.cells_of(z, 1, threads)[:, 0]
            if len(own) and own.min() < 0:
                raise InputError("expected a coarse quantizer with a cell for any vector, got none")
            known = self._in_cells(own) if self.by_residual else None
            if known is not None:
                z = z - known.centres[known.cells]
            rows = slice(i, i + len(z))
            codes[rows], cells[rows] = quantizer.encode(z, known), own
        return codes, cells

    # ---- stand-alone codes -------------------------------------------------------------------

    def sa_code_size(self) -> int:
        """Bytes of one stand-alone code: the number of its cell, and the code."""
        return int(self._native.pq_index.sa_code_size())

    @accepts_tensors
    def sa_encode(self, x: Any, codes: Any = None) -> Codes:
        """Encode finite vectors `x` (n, d) into stand-alone codes (n, sa_code_size()) uint8."""
        x = self._vectors(x, finite=True, keep_bytes=True)
        out: Codes = as_output(codes, (len(x), self.sa_code_size()), np.uint8, "codes")
        with self._lock.reading():
            own, cells = self._encode_in_cells(x)
        out[...] = self._joined(own, cells)
        return out

    def _joined(self, codes: Codes, cells: Ids) -> Codes:
        """Stand-alone codes: the number of the cell, little-endian, before each code."""
        size = self.sa_code_size() - codes.shape[1]
        numbers = cells.astype("<i8").view(np.uint8).reshape(-1, 8)
        return np.concatenate([numbers[:, :size], codes], axis=1)

    def _split(self, codes: Codes) -> tuple[Codes, Ids]:
        """Codes and cells of stand-alone codes. Raises InputError for a cell that there is not."""
        size = codes.shape[1] - self.code_size
        whole = np.zeros((len(codes), 8), np.uint8)
        whole[:, :size] = codes[:, :size]
        cells = whole.view("<i8")[:, 0].astype(np.int64)
        if len(cells) and cells.max() >= self.nlist:
            raise InputError(f"expected cells below {self.nlist}, got {int(cells.max())}")
        return np.ascontiguousarray(codes[:, size:]), cells

    @accepts_tensors
    def sa_decode(self, codes: Any, x: Any = None) -> Floats:
        """Decode stand-alone codes (n, sa_code_size()) into vectors (n, d) float32."""
        self._require_trained()
        self._require_decoding()
        own, cells = self._split(as_codes(codes, self.sa_code_size()))
        out = as_output(x, (len(own), self.d), np.float32, "x")
        out[...] = self.encoder.decode(self._decode_in_cells(own, cells))
        return out

    @accepts_tensors
    def add_sa_codes(self, codes: Any, ids: Any = None) -> None:
        """Append stand-alone codes (n, sa_code_size()) uint8; `ids` as in `add_with_ids`."""
        own, cells = self._split(as_codes(codes, self.sa_code_size()))
        self._require_trained()
        given = None if ids is None else as_free_ids(ids, "ids")
        if given is not None and len(given) != len(own):
            raise DimensionError(f"expected ids of shape ({len(own)},), got {given.shape}")
        with self._lock.changing():
            self._native.require_memory()
            self._append(own, cells, given)
