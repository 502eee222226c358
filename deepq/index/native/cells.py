"""The faiss object under an index of cells: an ``IndexPreTransform(chain, IndexIVFPQ)``.

The chain holds the encoder; the IndexIVFPQ the coarse quantizer, whose vectors are the centres of
cells, the codebooks, and a list of codes and ids for every cell, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from deepq import _cells
from deepq._common.errors import InputError
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2, Codes, Floats, Ids
from deepq.encoders.base import Encoder
from deepq.index.native.centres import NativeCentres
from deepq.index.native.chain import IndexPreTransform
from deepq.index.native.coarse import coarse_state
from deepq.index.native.lists import CellList, Lists, StoredLists, make_room, vectors_in
from deepq.index.native.mapped_lists import is_mapped, place_lists
from deepq.index.native.originals import downcast_index
from deepq.index.native.plain import PlainCells, PlainIndex

# Kept at import: a program may put DeepQuantIVFIndex in its place.
IndexIVFPQ = faiss.IndexIVFPQ

_FEW = 1000  # ids that are looked up one by one


class NativeCells(NativeCentres):
    """A chain before a faiss.IndexIVFPQ, whose codes lie in lists, one for every cell."""

    watched = False  # whether somebody may write codewords at any time

    def __init__(self, chain: Any) -> None:
        super().__init__(chain)
        self._made: tuple[Any, _cells.Cells] | None = None  # a table, and what it was made for
        self._sorted: tuple[Ids, Ids] | None = None  # all ids in ascending order, and their places
        self._next_id, self._counted = 0, 0  # the latter vectors are known to be below the former

    @classmethod
    def build(
        cls, coarse: Any, encoder: Encoder, nlist: int, M: int, nbits: int, metric: int
    ) -> NativeCells:
        """Make an empty object over a coarse quantizer, which stays the caller's.

        Raises InputError where faiss refuses.
        """
        try:
            pq_index = IndexIVFPQ(coarse, encoder.d_out, nlist, M, nbits, metric)
        except RuntimeError as error:
            raise InputError(str(error)) from error
        native = cls.around(pq_index, encoder, M)
        native.chain.is_trained = False
        return native

    @classmethod
    def of(cls, index: Any) -> NativeCells | None:
        """Take an index of faiss's that is an IndexIVFPQ behind transforms; None for another."""
        chain = downcast_index(index)
        is_cells = (
            isinstance(chain, IndexPreTransform)
            and type(downcast_index(chain.index)) is IndexIVFPQ  # an IVFPQR has more codes
        )
        return cls(chain) if is_cells else None

    def plain(self, network: Any = None) -> PlainIndex:
        """Describe it, with the settings that are not deepq's; lists are views.

        Raises as `read_encoder` does, FormatError if what it carries is damaged, and KindError for
        a coarse quantizer that is not known.
        """
        index = self.pq_index
        return PlainIndex(
            encoder=self.read_encoder(network),
            is_trained=bool(self.chain.is_trained),
            M=index.pq.M,
            nbits=index.pq.nbits,
            metric=index.metric_type,
            codebooks=self.codebooks if index.is_trained else None,
            codes=PlainCells(
                index.nlist,
                bool(index.by_residual),
                coarse_state(index.quantizer),
                int(index.direct_map.type),
                self.lists() if self.chain.is_trained else (),
            ),
            settings={},
            carried=self.carried(),
        )

    # ---- lists ------------------------------------------------------------------------------

    def centres_of(self, cells: Ids) -> Floats:
        """Centres (n, d) of cells (n,)."""
        centres = self.table.centres
        parts, per_part = centres.shape[:2]
        numbers = [cells // per_part**part % per_part for part in range(parts)]
        return np.concatenate(
            [centres[part][rows] for part, rows in enumerate(numbers)], axis=1, dtype=np.float32
        )

    def cells_of(self, z: Floats, nprobe: int, threads: int, params: Any = None) -> Ids:
        """Cells (n, nprobe) nearest to embeddings (n, d), the nearest first; -1 for none.

        Where the coarse quantizer compares with all centres by L2, our kernels do: what they find
        does not depend on the other embeddings of a call.
        """
        coarse = downcast_index(self.pq_index.quantizer)
        exhaustive = type(coarse) in (faiss.IndexFlat, faiss.IndexFlatL2)
        if exhaustive and coarse.metric_type == METRIC_L2 and params is None and len(z):
            cells = np.empty((len(z), nprobe), np.int64)
            if self.table.nearest(z, cells, threads):
                return cells
        return self.nearest_cells(z, nprobe, threads, params)[1]

    @property
    def table(self) -> _cells.Cells:
        """The lists as the kernels see them.

        It is made anew after a training, and where C++ code has changed something meanwhile.
        """
        made_for, made = self._state(), self._made
        if made is None or not self.pq_index.ntotal or made[0] != made_for:
            self._made = made = made_for, self._make_table()
            self._sorted = None
        return made[1]

    def _state(self) -> tuple[Any, ...]:
        """Return what a table is made for, as far as it can be seen in no time."""
        index = self.pq_index
        return (
            index.ntotal,
            index.nlist,
            bool(index.by_residual),
            index.metric_type,
            int(index.invlists.this),
            int(index.quantizer.this),
            self.codebooks.tobytes() if self.watched else b"",
        )

    def _make_table(self) -> _cells.Cells:
        index = self.pq_index
        table = _cells.Cells(
            index.nlist,
            self.codebooks,
            self.centres,
            index.pq.nbits,
            bool(index.by_residual),
            index.metric_type == METRIC_INNER_PRODUCT,
        )
        table.place(*vectors_in(index.invlists))
        return table

    def changed(self) -> None:
        """Take notice that lists have changed other than by growing, or the training has."""
        self._made = self._sorted = None
        self.chain.ntotal = self.pq_index.ntotal

    def lists(self) -> Iterator[CellList]:
        """Yield views of lists that are not empty. They move when rows are added: hold a lock."""
        lists, code_size = self.pq_index.invlists, self.pq_index.code_size
        for cell in range(self.pq_index.nlist):
            n = lists.list_size(cell)
            if n:
                ids = faiss.rev_swig_ptr(lists.get_ids(cell), n)
                codes = faiss.rev_swig_ptr(lists.get_codes(cell), n * code_size)
                yield CellList(cell, ids, codes.reshape(n, code_size))

    def fill(self, lists: Lists, next_id: int) -> None:
        """Take over lists, where there are none. No id below `next_id` is given any more.

        Those that are to stay in a file are not read. Raises InputError for a negative id.
        """
        index = self.pq_index
        if isinstance(lists, StoredLists) and lists.maps:
            place_lists(index, lists.content.map(), lists.ids_at, lists.codes_at, lists.sizes)
            lists = ()
        for cell, ids, codes in lists:
            if ids.min() < 0:
                raise InputError(f"expected ids from 0 on, got {ids.min()}")
            index.invlists.add_entries(cell, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(codes))
            index.ntotal += len(ids)
            next_id = max(next_id, int(ids.max()) + 1)
        self.changed()
        self._next_id, self._counted = next_id, index.ntotal

    @property
    def is_mapped(self) -> bool:
        """Whether the lists are in a file; they cannot change but by `reset` then."""
        return is_mapped(self.pq_index)

    def meaning(self, encoder: Encoder | None = None) -> tuple[Any, ...]:
        """Everything that gives codes their meaning; compared with ==."""
        centres = self.centres.tobytes() if self.has_cells else b""
        return (*super().meaning(encoder), bool(self.pq_index.by_residual), centres)

    def finish_training(self) -> None:
        """Declare encoder, cells and codebooks complete."""
        super().finish_training()
        if self.pq_index.precomputed_table.size():  # which faiss would go on using
            self.pq_index.precompute_table()
        self.changed()

    # ---- ids --------------------------------------------------------------------------------

    @property
    def next_id(self) -> int:
        """The number that follows the largest id so far, whoever added it."""
        if self.pq_index.ntotal != self._counted:
            self.reserve(int(self.table.entries()[0].max(initial=-1)) + 1)
            self._counted = self.pq_index.ntotal
        return self._next_id

    def reserve(self, number: int) -> None:
        """Give no id below `number` of ours own accord."""
        self._next_id = max(self._next_id, number)

    def places_of(self, keys: Ids) -> Ids:
        """Places (n,) of the vectors of ids: cell << 32 | row. Raises InputError for others."""
        table, known_places = self.table, self._sorted
        if known_places is None:
            ids, places = table.entries()
            order = np.argsort(ids, kind="stable")
            self._sorted = known_places = ids[order], places[order]
        ids, places = known_places
        at = np.searchsorted(ids, keys)
        known = at < len(ids)
        known[known] = ids[at[known]] == keys[known]
        if not known.all():
            raise InputError(f"expected ids of stored vectors, got {int(keys[~known][0])}")
        found: Ids = places[at]
        return found

    def count(self, keys: Ids) -> int:
        """How many vectors of one of the ids are stored."""
        if self.direct_map_type == faiss.DirectMap.Hashtable and len(keys) < _FEW:
            return sum(map(self._is_mapped, keys.tolist()))
        return int(np.isin(self.table.entries()[0], keys).sum())

    def _is_mapped(self, key: int) -> bool:
        try:
            self.pq_index.direct_map.get(key)
        except RuntimeError:
            return False
        return True

    # ---- changing ---------------------------------------------------------------------------

    def append(self, codes: Codes, cells: Ids, ids: Ids) -> None:
        """Add codes (n, code_size) with their cells and ids (n,) to the lists.

        Raises InputError where a direct map cannot hold the ids; nothing is added then.
        """
        index, following = self.pq_index, self.next_id
        if not len(codes):
            return
        in_order = self._check_direct_map(ids)
        kept = self._made if self._made and self._made[0] == self._state() else None
        prefix = np.ascontiguousarray(cells, "<i8").view(np.uint8).reshape(-1, 8)
        whole = np.concatenate([prefix[:, : index.coarse_code_size()], codes], axis=1)
        pointer = None if in_order else faiss.swig_ptr(ids)
        make_room(index.invlists, cells)
        index.add_sa_codes_c(len(whole), faiss.swig_ptr(whole), pointer)
        self.chain.ntotal = self._counted = index.ntotal
        self._next_id = max(following, int(ids.max()) + 1)
        self._made, self._sorted = kept and (self._state(), kept[1]), None

    def _check_direct_map(self, ids: Ids) -> bool:
        """Whether faiss must number the vectors itself, as with an array for a direct map."""
        kind, ntotal = self.direct_map_type, self.pq_index.ntotal
        if kind == faiss.DirectMap.Array:
            if not np.array_equal(ids, np.arange(ntotal, ntotal + len(ids))):
                raise InputError(
                    f"expected ids from {ntotal} on, in order, for a direct map of the type Array, "
                    f"got {int(ids[0])}"
                )
            return True
        if kind == faiss.DirectMap.Hashtable and (
            len(np.unique(ids)) < len(ids) or self.count(ids)
        ):
            raise InputError("expected each id once with a direct map, got one twice")
        return False

    def remove(self, selector: Any) -> int:
        """Remove the vectors that a faiss.IDSelector picks, or an int64 array lists."""
        index, kind, following = self.pq_index, self.direct_map_type, self.next_id
        by_table = kind == faiss.DirectMap.Hashtable and isinstance(selector, np.ndarray)
        if isinstance(selector, np.ndarray):
            selecting = faiss.IDSelectorArray if by_table else faiss.IDSelectorBatch
            selector = selecting(np.unique(selector))
        if not by_table:
            self.set_direct_map(faiss.DirectMap.NoMap)
        removed = int(index.remove_ids_c(selector))
        self.changed()
        self._next_id, self._counted = following, index.ntotal
        if kind == faiss.DirectMap.Hashtable:
            self.set_direct_map(kind)
        return removed

    def renumber(self) -> None:
        """Let ids follow each other from 0 on, in the order that they are in."""
        ids = self.table.entries()[0]
        rank = np.empty(len(ids), np.int64)
        rank[np.argsort(ids, kind="stable")] = np.arange(len(ids))
        lists, first = self.pq_index.invlists, 0
        for cell, size in enumerate(self.table.sizes().tolist()):
            if size:
                codes, own = self.table.list_of(cell)[0], rank[first : first + size]
                lists.update_entries(cell, 0, size, faiss.swig_ptr(own), faiss.swig_ptr(codes))
            first += size
        self.changed()
        self._next_id, self._counted = len(ids), len(ids)

    def reset(self) -> None:
        """Remove all vectors; ids begin with 0 again."""
        self.pq_index.reset()
        self.changed()
        self._next_id = self._counted = 0

    # ---- direct maps ------------------------------------------------------------------------

    @property
    def direct_map_type(self) -> int:
        """One of faiss.DirectMap's types: what faiss itself finds vectors by their ids with."""
        return int(self.pq_index.direct_map.type)

    def set_direct_map(self, kind: int) -> None:
        """Make a direct map of a type, or none.

        Raises InputError if the ids do not suit: an array holds those from 0 to ntotal - 1, and no
        map an id twice.
        """
        if kind == self.direct_map_type:
            return
        if kind != faiss.DirectMap.NoMap and self.pq_index.ntotal:
            ids = np.sort(self.table.entries()[0])
            if (np.diff(ids) == 0).any():
                raise InputError("expected each id once for a direct map, got one twice")
            if kind == faiss.DirectMap.Array and (ids[0] != 0 or ids[-1] != len(ids) - 1):
                raise InputError(
                    f"expected ids from 0 to {len(ids) - 1} for a direct map of the type Array, "
                    f"got {ids[0]} to {ids[-1]}"
                )
        self.pq_index.set_direct_map_type(kind)
