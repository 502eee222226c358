"""Codes that lie one after the other: adding, reading, changing and merging them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import as_array, as_codes, as_ids, as_output
from deepq._common.checks import as_integer, as_size, require_float32
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.safe_files import InFile
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder
from deepq.index.merging import Merging
from deepq.index.native.flat import NativeFlat
from deepq.index.tensors import accepts_tensors
from deepq.index.training_data import rows_to_add
from deepq.quantizers.product import ProductQuantizer


class FlatCodes(Merging):
    """The strand of an index whose codes lie one after the other: position is id."""

    kind = "flat"
    settings = (
        "do_polysemous_training",
        "encode_signs",
        "metric_arg",
        "polysemous_ht",
        "search_type",
        "verbose",
    )
    _native: NativeFlat

    @property
    def quantizer(self) -> ProductQuantizer:
        """The same as `product_quantizer`."""
        return self.product_quantizer

    def _build(self, encoder: Encoder, quantizer: ProductQuantizer, metric: int) -> NativeFlat:
        return NativeFlat.build(encoder, quantizer.M, quantizer.nbits, metric)

    def _stored(self, *, empty: bool = False) -> dict[str, Any]:
        codes = self._native.codes
        return {"codes": codes[:0] if empty else codes}

    def _store(self, state: dict[str, Any]) -> None:
        codes = state["codes"]
        if not isinstance(codes, InFile):
            codes = as_codes(codes, self.code_size)
        if len(codes):
            self._require_trained()
        self._native.fill(codes)

    # ---- reading -----------------------------------------------------------------------------

    def code_blocks(self, n: int = 1 << 14) -> Iterator[Codes]:
        """Yield copies of the stored codes (n or fewer, code_size) uint8, block after block.

        Each is of the moment when it is asked for.
        """
        n, first = as_size(n, "n"), 0
        while True:
            with self._lock.reading():
                codes = np.array(self._native.codes[first : first + n])
            if not len(codes):
                return
            yield codes
            first += n

    @accepts_tensors
    def reconstruct(self, key: int, x: Any = None) -> Floats:
        """Decode stored vector `key` into (d,) float32.

        Raises InputError if there is no such vector.
        """
        out = as_output(x, (self.d,), np.float32, "x")
        self.reconstruct_batch(np.array([as_integer(key, "key")]), out[None])
        return out

    @accepts_tensors
    def reconstruct_batch(self, key: Any, x: Any = None) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32."""
        with self._lock.reading():
            keys = as_ids(key, self.ntotal, "key")
            out = as_output(x, (len(keys), self.d), np.float32, "x")
            return self._decode(self._native.codes[keys], out)

    @accepts_tensors
    def reconstruct_n(self, n0: int = 0, ni: int = -1, x: Any = None) -> Floats:
        """Decode `ni` stored vectors from `n0` on (-1: all that follow) into (ni, d) float32."""
        n0, ni = as_integer(n0, "n0"), as_integer(ni, "ni")
        ni = self.ntotal - n0 if ni == -1 else ni
        if ni < 0:
            raise InputError(f"expected ni of at least 0, or -1, got {ni} from {n0} on")
        if ni and not 0 <= n0 <= self.ntotal - ni:
            raise InputError(f"expected rows from 0 to {self.ntotal}, got {ni} from {n0} on")
        return self.reconstruct_batch(np.arange(n0, n0 + ni), x)

    # ---- adding and changing -----------------------------------------------------------------

    @accepts_tensors
    def add(self, x: Any, numeric_type: int = 0) -> None:
        """Encode the rows of `x` and append their codes; ids follow on from ntotal.

        Parameters
        ----------
        x : (n, d) array or RowSource
            Finite vectors. Those that are mapped from a file, or come from a source, are read block
            by block.
        numeric_type : int
            faiss.Float32.

        Raises
        ------
        StateError
            If the index is not trained, or is mapped from a file.
        InputError
            If there is a NaN or an infinity. Nothing is added by a call that fails.
        DimensionError, KindError
            If `x` is not an (n, d) array of real numbers.
        """
        require_float32(numeric_type)
        x = rows_to_add(self._encoder, x)
        with self._lock.changing():
            self._native.require_memory()
            codes = self._encode(x, progress=bool(self.verbose))
            with self._lock.exclusive():
                self._native.append(codes)

    @contextmanager
    def _rewriting(self, *, resets: bool = False) -> Iterator[None]:
        """Keep everybody else out; raise StateError if the codes must not change otherwise."""
        with self._lock.changing(), self._lock.exclusive():
            if not resets:
                self._native.require_memory()
            yield

    @accepts_tensors
    def add_sa_codes(self, codes: Any, ids: Any = None) -> None:
        """Append packed codes (n, code_size) uint8; `ids` must be None, as for IndexPQ."""
        if ids is not None:
            raise InputError("expected ids=None: this index numbers its vectors itself, got ids")
        codes = as_codes(codes, self.code_size)
        self._require_trained()
        with self._rewriting():
            self._native.append(codes)

    @accepts_tensors
    def add_with_ids(self, x: Any, ids: Any, numeric_type: int = 0) -> None:  # noqa: ARG002
        """Not supported, as in IndexPQ: raises StateError (RuntimeError)."""
        raise StateError(
            f"expected add(x) on {type(self).__name__}, got ids: IndexIDMap2 around it keeps them"
        )

    def reset(self) -> None:
        """Remove all vectors; the training stays. A mapped file is let go of."""
        with self._rewriting(resets=True):
            self._native.reset()

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id and close the gaps: later ids move down.

        Parameters
        ----------
        x : (n,) array of integers, or faiss.IDSelector
            Ids to remove; those that are not stored are passed over.

        Returns
        -------
        int
            How many were removed.
        """
        if not isinstance(x, faiss.IDSelector):
            given = type(x).__name__
            x = as_array(x, "x") if hasattr(x, "shape") else None  # lists: faiss refuses them, too
            if x is None or x.dtype.kind not in "iu":
                got = given if x is None else x.dtype
                raise KindError(f"expected an array of integer ids or an IDSelector, got {got}")
            if x.ndim != 1:
                raise DimensionError(f"expected ids of shape (n,), got {x.shape}")
            x = np.ascontiguousarray(x, dtype=np.int64)
        with self._rewriting():
            return self._native.remove(x)

    @accepts_tensors
    def permute_entries(self, perm: Any) -> None:
        """Reorder the stored vectors: position i then holds what was at perm[i].

        Raises InputError if `perm` (ntotal,) is not a permutation of 0 .. ntotal - 1.
        """
        with self._rewriting():
            perm = as_ids(perm, self.ntotal, "perm")
            if len(perm) != self.ntotal:
                raise DimensionError(f"expected perm of shape ({self.ntotal},), got {perm.shape}")
            if len(np.unique(perm)) != self.ntotal:
                raise InputError("expected a permutation, got an id twice")
            self._native.permute(perm)

    def merge_from(self, otherIndex: Any, add_id: int = 0) -> None:
        """Append the codes of an index with the same encoder and codebooks, and empty that.

        Besides a DeepQuantIndex it may be what faiss has read from a file or copied of one.

        Raises InputError if the two differ in anything but their codes, or `add_id` is not 0.
        """
        if as_integer(add_id, "add_id") != 0:
            raise InputError(f"expected add_id = 0: ids are positions here, got {add_id}")
        with self._with_other(otherIndex) as other:
            self._native.require_memory()
            self._native.append(other.codes)
            other.reset()
