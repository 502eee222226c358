"""Codes in cells changed: removed, replaced and merged, in lists that may be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import as_free_ids
from deepq._common.checks import as_count, as_flag, as_integer
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.types import Codes, Ids
from deepq.index.cell_codes import CellCodes
from deepq.index.cell_lists import DIRECT_MAPS
from deepq.index.merging import Merging
from deepq.index.tensors import accepts_tensors

_LARGEST_ID = np.iinfo(np.int64).max


class CellEditing(CellCodes, Merging):
    """The strand of an index whose cells change."""

    _lists: Any = None  # those of a user's, which C++ code uses

    @contextmanager
    def _rewriting(self, *, resets: bool = False) -> Iterator[None]:
        """Keep everybody else out; raise StateError if the lists must not change otherwise."""
        with self._lock.changing(), self._lock.exclusive():
            if not resets:
                self._native.require_memory()
            yield

    def reset(self) -> None:
        """Remove all vectors; the training stays, and ids begin with 0 again.

        A mapped file is let go of.
        """
        with self._rewriting(resets=True):
            self._native.reset()

    @accepts_tensors
    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id; the others keep theirs, and no id is given again.

        A direct map of the type Array, which has no gaps, is let go of.

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

    def _remove_through(self, sel: Any, mapped: int | None) -> int:
        """Remove for a composite. An IDMap takes ids for positions, and so they are afterwards."""
        if mapped is None:
            return self.remove_ids(sel)
        with self._rewriting():
            ids = np.sort(self._native.table.entries()[0])
            if mapped != len(ids) or not np.array_equal(ids, np.arange(mapped)):
                raise StateError(
                    f"expected ids from 0 to {mapped - 1} inside an IDMap that removes, "
                    "got others: somebody has changed the index inside"
                )
            removed = self._native.remove(sel)
            self._native.renumber()
        return removed

    def merge_from(self, otherIndex: Any, add_id: int | None = None) -> None:
        """Append the codes of an index of the same training, and empty that.

        Parameters
        ----------
        otherIndex : DeepQuantIVFIndex
            With the same encoder, cells and codebooks; or what faiss has read or copied of one.
        add_id : int, optional
            What is added to the ids of the other; None for the number that follows the largest id
            here, so that none collide.

        Raises
        ------
        InputError
            If the two differ in their training, or are one, or ids do not suit.
        """
        shift = None if add_id is None else as_integer(add_id, "add_id")
        with self._with_other(otherIndex) as other:
            self._native.require_memory()
            ids, places = other.table.entries()
            shift = self._native.next_id if shift is None else shift
            if len(ids) and not 0 <= int(ids.min()) + shift <= int(ids.max()) + shift < _LARGEST_ID:
                raise InputError(
                    f"expected ids from 0 to {_LARGEST_ID - 1}, got {ids.min()} to {ids.max()}, "
                    f"and {shift} to add to them"
                )
            self._native.append(other.table.codes_at(places), places >> 32, ids + shift)
            self._native.reserve(shift + other.next_id)
            other.reset()

    def _merge_through(self, other: Any, add_id: int) -> bool:
        """Merge for a composite, which asks for 0 where it does not know of ids."""
        if other is None:
            raise StateError("expected an index of deepq in both composites to merge, got another")
        self.merge_from(other, add_id or None)
        return True

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
            self._native.require_memory()
            self._native.places_of(keys)
            if self._native.count(keys) != len(keys):
                raise InputError("expected ids of one vector each, got one of several")
            codes, cells = self._encode_in_cells(x)
            with self._lock.exclusive():
                kind = self._native.direct_map_type
                self._native.set_direct_map(faiss.DirectMap.NoMap)
                self._native.remove(keys)
                self._native.append(codes, cells, keys)
                self._native.set_direct_map(kind)

    def copy_subset_to(self, other: Any, subset_type: int, a1: int, a2: int) -> None:
        """Append some of the codes to those of an index of the same training, as in faiss.

        `subset_type` is faiss.InvertedLists.SUBSET_TYPE_ID_RANGE (ids from a1 to a2 - 1) and the
        like. Raises InputError if the two differ in their training.
        """
        with self._with_other(other) as target:
            target.require_memory()
            if target.direct_map_type != faiss.DirectMap.NoMap:
                raise StateError("expected an index without a direct map to copy to, got one with")
            try:
                self._native.pq_index.copy_subset_to(target.pq_index, subset_type, a1, a2)
            except RuntimeError as error:
                raise InputError(f"expected a subset that faiss knows, got {error}") from error
            target.changed()
            target.reserve(self._native.next_id)

    # ---- lists and maps ----------------------------------------------------------------------

    @property
    def invlists(self) -> Any:
        """The lists of codes and ids, a faiss.InvertedLists.

        Whoever changes codes in them asks for this again before the next search, which looks at
        them anew then.
        """
        self._native.changed()
        return faiss.downcast_InvertedLists(self._native.pq_index.invlists)

    def replace_invlists(self, il: Any, own: bool = False) -> None:
        """Use other lists, a faiss.ArrayInvertedLists of as many cells and bytes.

        The index keeps them alive, or, if they are its `own`, ends them.
        """
        own = as_flag(own, "own")
        lists = faiss.downcast_InvertedLists(il) if isinstance(il, faiss.InvertedLists) else il
        if not isinstance(lists, faiss.ArrayInvertedLists):
            raise KindError(f"expected faiss.ArrayInvertedLists, got {type(lists).__name__}")
        if (lists.nlist, lists.code_size) != (self.nlist, self.code_size):
            raise InputError(
                f"expected {self.nlist} lists of codes of {self.code_size} bytes, "
                f"got {lists.nlist} of {lists.code_size}"
            )
        with self._rewriting(resets=True):
            self._native.set_direct_map(faiss.DirectMap.NoMap)
            self._native.pq_index.replace_invlists(lists, own)
            self._native.pq_index.ntotal = lists.compute_ntotal()
            self._native.changed()
            if own:
                il.this.disown()
            self._lists = il

    def get_list_size(self, list_no: int) -> int:
        """Return how many vectors are in a cell. Raises InputError for a cell there is not."""
        return int(self._native.pq_index.get_list_size(self._as_cell(list_no)))

    def get_list(self, list_no: int) -> tuple[Ids, Codes]:
        """Copy the ids (n,) int64 and the codes (n, code_size) uint8 in a cell."""
        cell = self._as_cell(list_no)
        self._require_trained()
        with self._lock.reading():
            codes, ids = self._native.table.list_of(cell)
        return ids, codes

    def _as_cell(self, list_no: Any) -> int:
        cell = as_count(list_no, "list_no")
        if cell >= self.nlist:
            raise InputError(f"expected list_no below {self.nlist}, got {cell}")
        return cell

    def make_direct_map(self, new_maintain_direct_map: bool = True) -> None:
        """Let faiss find vectors by their ids, too. See `set_direct_map_type`."""
        kind = faiss.DirectMap.Array if new_maintain_direct_map else faiss.DirectMap.NoMap
        self.set_direct_map_type(kind)

    def set_direct_map_type(self, type: int) -> None:
        """Choose faiss's map from ids: faiss.DirectMap.NoMap, Array or Hashtable.

        An index with one takes no id twice, and with Array none but those that follow. Raises
        InputError if that is so already.
        """
        kind = as_integer(type, "type")
        if kind not in DIRECT_MAPS:
            raise InputError(f"expected a type of direct map from 0 to 2, got {kind}")
        with self._rewriting():
            self._native.set_direct_map(kind)
