"""Codes in cells: adding, reading, removing and merging."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import as_codes, as_free_ids, as_output
from deepq._common.checks import as_count, as_integer, require_float32
from deepq._common.errors import DimensionError, FormatError, InputError, KindError
from deepq._common.safe_files import InFile
from deepq._common.types import Codes, Floats, Ids
from deepq.encoders.base import embed
from deepq.index.cell_training import CellTraining
from deepq.index.native.cells import NativeCells
from deepq.index.native.coarse import coarse_state
from deepq.index.tensors import accepts_tensors

_ROWS_PER_CELL, _LEAST_ROWS = 64, 100_000  # of which cells are learned, at most


class CellCodes(CellTraining):
    """The strand of an index whose codes lie in cells, each with an id."""

    kind = "cells"
    settings = (
        "do_polysemous_training",
        "max_codes",
        "metric_arg",
        "nprobe",
        "parallel_mode",
        "polysemous_ht",
        "verbose",
    )
    _next_id: int = 0
    _places: tuple[Ids, Ids] | None = None

    # ---- state -------------------------------------------------------------------------------

    def _stored(self) -> dict[str, Any]:
        table = self._native.table if self.is_trained else None
        ids, places = (np.empty(0, np.int64),) * 2 if table is None else table.entries()
        codes = np.empty((0, self.code_size), np.uint8) if table is None else table.codes_at(places)
        sizes = np.zeros(self.nlist, np.int64) if table is None else table.sizes()
        return {
            "nlist": int(self.nlist),
            "by_residual": bool(self.by_residual),
            "coarse": coarse_state(self._native.pq_index.quantizer),
            "cp": {name: getattr(self._native.pq_index.cp, name) for name in ("niter", "seed")},
            "next_id": self._next_id,
            "ids": ids,
            "sizes": sizes,
            "codes": codes,
        }

    def _store(self, state: dict[str, Any]) -> None:
        sizes, ids, codes = state["sizes"], state["ids"], state["codes"]
        if isinstance(codes, InFile):
            memory = np.empty(codes.shape, np.uint8)
            codes.read(memory)
            codes = memory
        codes = as_codes(codes, self.code_size)
        for name in ("niter", "seed"):
            setattr(self._native.pq_index.cp, name, as_integer(state["cp"][name], name))
        if sizes.shape != (self.nlist,) or (sizes < 0).any() or len(codes) != len(ids):
            raise FormatError(
                f"lists of {len(ids)} ids and {len(codes)} codes in {len(sizes)} cells"
            )
        if sizes.sum() != len(codes) or (len(ids) and ids.min() < 0):
            raise FormatError(f"{sizes.sum()} entries of lists for {len(codes)} codes")
        if len(codes):
            self._require_trained()
        self._native.append(codes, np.repeat(np.arange(self.nlist), sizes), ids)
        self._next_id = max(as_count(state["next_id"], "next_id"), int(ids.max(initial=-1)) + 1)

    def _take(self, other: NativeCells) -> None:
        """Copy the codes of C++ objects with the same cells and codebooks; there are none here."""
        ids, places = other.table.entries()
        if len(ids) and ids.min() < 0:
            raise InputError(f"expected ids from 0 on, got {int(ids.min())}")
        self._native.append(other.table.codes_at(places), places >> 32, ids)
        self._next_id = int(ids.max(initial=-1)) + 1

    # ---- reading -----------------------------------------------------------------------------

    def _place_of(self, keys: Ids) -> Ids:
        """Places of the vectors of ids, which must be stored."""
        if self._places is None:
            ids, places = self._native.table.entries()
            order = np.argsort(ids, kind="stable")
            self._places = ids[order], places[order]
        ids, places = self._places
        at = np.searchsorted(ids, keys)
        known = at < len(ids)
        known[known] = ids[at[known]] == keys[known]
        if not known.all():
            raise InputError(f"expected ids of stored vectors, got {int(keys[~known][0])}")
        found: Ids = places[at]
        return found

    def _decode_places(self, places: Ids) -> Floats:
        """Embeddings (n, d_out) that the codes at places decode to."""
        quantizer = self._quantizer
        z = quantizer.decode(self._native.table.codes_at(places))
        if self.by_residual:
            z = z + self._native.centres_of(places >> 32)
        return z

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
        keys = as_free_ids(key, "key")
        with self._lock.reading():
            out = as_output(x, (len(keys), self.d), np.float32, "x")
            out[...] = self.encoder.decode(self._decode_places(self._place_of(keys)))
        return out

    @accepts_tensors
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Any = None) -> Floats:
        """Decode the vectors of ids n0 to n0 + ni - 1 (-1: to ntotal - 1) into (ni, d) float32."""
        n0, ni = as_integer(n0, "n0"), as_integer(ni, "ni")
        ni = self.ntotal - n0 if ni == -1 else ni
        if ni < 0:
            raise InputError(f"expected ni of at least 0, or -1, got {ni} from {n0} on")
        return self.reconstruct_batch(np.arange(n0, n0 + ni), x)

    # ---- adding and changing -----------------------------------------------------------------

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
        x : (n, d) array
            Finite vectors.
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
        x = self._vectors(x, finite=True, keep_bytes=True)
        given = None if ids is None else as_free_ids(ids, "ids")
        if given is not None and len(given) != len(x):
            raise DimensionError(f"expected ids of shape ({len(x)},), got {given.shape}")
        with self._lock.changing():
            codes, cells = self._encode_in_cells(x)
            self._append(codes, cells, given)

    def _append(self, codes: Codes, cells: Ids, ids: Ids | None) -> None:
        """Add codes; the caller keeps other writers out."""
        if ids is None:
            ids = np.arange(self._next_id, self._next_id + len(codes))
        with self._lock.exclusive():
            self._native.append(codes, cells, ids)
            self._next_id = max(self._next_id, int(ids.max()) + 1) if len(ids) else self._next_id
            self._places = None

    def _encode_in_cells(self, x: Floats) -> tuple[Codes, Ids]:
        """Codes (n, code_size) and cells (n,) of vectors, block by block."""
        self._require_trained()
        quantizer, threads, size = self.product_quantizer, self._threads(), 1 << 16
        codes, cells = np.empty((len(x), quantizer.code_size), np.uint8), np.empty(len(x), np.int64)
        for i in range(0, len(x), size):
            z = embed(self.encoder, np.asarray(x[i : i + size], np.float32))
            own = self._native.cells_of(z, 1, threads)[:, 0]
            if self.by_residual:
                z = z - self._native.centres_of(own)
            codes[i : i + size], cells[i : i + size] = quantizer.encode(z), own
        return codes, cells

    @contextmanager
    def _rewriting(self) -> Iterator[None]:
        """Keep everybody else out."""
        with self._lock.changing(), self._lock.exclusive():
            yield
            self._places = None

    @contextmanager
    def _both(self, other: CellCodes) -> Iterator[None]:
        """Keep everybody else out of two indexes."""
        with ExitStack() as held:
            for index in sorted((self, other), key=id):  # one order for all: no deadlock
                held.enter_context(index._rewriting())
            yield

    def reset(self) -> None:
        """Remove all vectors; the training stays, and ids begin with 0 again."""
        with self._rewriting():
            self._native.pq_index.reset()
            self._native.changed()
            self._next_id = 0

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id; the others keep theirs, and no id is given again.

        Parameters
        ----------
        x : (n,) array of integers, or faiss.IDSelector
            Ids to remove; those that are not stored are passed over.

        Returns
        -------
        int
            How many were removed.
        """
        selector = x if isinstance(x, faiss.IDSelector) else as_free_ids(x, "x", least=None)
        with self._rewriting():
            return self._native.remove(selector)

    def merge_from(self, otherIndex: Any, add_id: int | None = None) -> None:
        """Append the codes of an index of the same training, and empty that.

        Parameters
        ----------
        otherIndex : DeepQuantIVFIndex
            With the same encoder, cells and codebooks.
        add_id : int, optional
            What is added to the ids of the other; None for the number that follows the largest id
            here, so that none collide.

        Raises InputError if the two differ in their training, or are one.
        """
        self.check_compatible_for_merge(otherIndex)
        with self._both(otherIndex):
            shift = self._next_id if add_id is None else as_count(add_id, "add_id")
            ids, places = otherIndex._native.table.entries()
            codes = otherIndex._native.table.codes_at(places)
            self._native.append(codes, places >> 32, ids + shift)
            self._next_id = max(self._next_id, shift + otherIndex._next_id)
            otherIndex._native.pq_index.reset()
            otherIndex._native.changed()

    def check_compatible_for_merge(self, otherIndex: Any) -> None:
        """Raise InputError unless `otherIndex` has the same training and may be merged."""
        if not isinstance(otherIndex, CellCodes):
            raise KindError(
                f"expected a {type(self).__name__} to merge, got {type(otherIndex).__name__}"
            )
        if otherIndex is self:
            raise InputError("expected another index to merge, got the same one")
        if self._fingerprint() != otherIndex._fingerprint():
            raise InputError(
                "expected an index with the same encoder, cells and codebooks, got another"
            )

    def _fingerprint(self) -> tuple[Any, ...]:
        centres = self._native.centres.tobytes() if self._native.has_cells else b""
        return (*super()._fingerprint(), bool(self.by_residual), centres)

    @accepts_tensors
    def update_vectors(self, keys: Any, x: Any) -> None:
        """Put the rows of `x` (n, d) in the places of the stored vectors of ids `keys` (n,).

        Raises InputError if an id is not stored, or comes twice; nothing is changed then.
        """
        x = self._vectors(x, finite=True, keep_bytes=True)
        keys = as_free_ids(keys, "keys")
        if len(keys) != len(x):
            raise DimensionError(f"expected keys of shape ({len(x)},), got {keys.shape}")
        if len(np.unique(keys)) != len(keys):
            raise InputError("expected each id once, got one twice")
        with self._lock.changing():
            self._place_of(keys)
            codes, cells = self._encode_in_cells(x)
            with self._lock.exclusive():
                self._native.remove(keys)
                self._native.append(codes, cells, keys)
                self._places = None

    def copy_subset_to(self, other: Any, subset_type: int, a1: int, a2: int) -> None:
        """Append some of the codes to those of an index of the same training, as in faiss.

        `subset_type` is faiss.InvertedLists.SUBSET_TYPE_ID_RANGE (ids from a1 to a2 - 1) and the
        like. Raises InputError if the two differ in their training.
        """
        self.check_compatible_for_merge(other)
        with self._both(other):
            self._native.pq_index.copy_subset_to(other._native.pq_index, subset_type, a1, a2)
            other._native.changed()
            other._next_id = max(other._next_id, self._next_id)

    @property
    def invlists(self) -> Any:
        """The lists of codes and ids, a faiss.InvertedLists.

        Whoever changes codes in them asks for this again before the next search, which looks at
        them anew then.
        """
        self._native.changed()
        self._places = None
        return faiss.downcast_InvertedLists(self._native.pq_index.invlists)

    def replace_invlists(self, il: Any, own: bool = False) -> None:
        """Use other lists, a faiss.ArrayInvertedLists of as many cells and bytes."""
        if not isinstance(il, faiss.ArrayInvertedLists):
            raise KindError(f"expected faiss.ArrayInvertedLists, got {type(il).__name__}")
        with self._rewriting():
            self._native.pq_index.replace_invlists(il, own)
            self._native.pq_index.ntotal = il.compute_ntotal()
            self._native.changed(training=True)
            ids = self._native.table.entries()[0] if self.is_trained else np.empty(0, np.int64)
            self._next_id = max(self._next_id, int(ids.max(initial=-1)) + 1)

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
        z = self.product_quantizer.decode(own)
        out[...] = self.encoder.decode(
            z + self._native.centres_of(cells) if self.by_residual else z
        )
        return out

    @accepts_tensors
    def add_sa_codes(self, codes: Any, ids: Any = None) -> None:
        """Append stand-alone codes (n, sa_code_size()) uint8; `ids` as in `add_with_ids`."""
        own, cells = self._split(as_codes(codes, self.sa_code_size()))
        self._require_trained()
        given = None if ids is None else as_free_ids(ids, "ids")
        with self._lock.changing():
            self._append(own, cells, given)
