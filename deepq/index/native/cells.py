"""The faiss object under an index of cells: an ``IndexPreTransform(chain, IndexIVFPQ)``.

The chain holds the encoder; the IndexIVFPQ the coarse quantizer, whose vectors are the centres of
cells, the codebooks, and a list of codes and ids for every cell, once.
"""

from __future__ import annotations

import ctypes
from typing import Any

import faiss
import numpy as np

from deepq import _cells
from deepq._common.errors import InputError, StateError
from deepq._common.threads import openmp_threads
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2, Codes, Floats, Ids
from deepq.encoders.base import Encoder
from deepq.index.native.chain import IndexPreTransform, NativeChain

# Kept at import: a program may put DeepQuantIVFIndex in its place.
IndexIVFPQ = faiss.IndexIVFPQ

# Of a vector of codes or ids in a list of faiss's (MaybeOwnedVector): its bytes, and where in it
# the pointer to its numbers and their count are.
_VECTOR_SIZE, _POINTER_AT, _COUNT_AT = 80, 64, 72


class NativeCells(NativeChain):
    """A chain before a faiss.IndexIVFPQ, whose codes lie in lists, one for every cell."""

    def __init__(self, chain: Any) -> None:
        super().__init__(chain)
        self._table: _cells.Cells | None = None
        self._is_exhaustive = False

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
        chain = faiss.downcast_index(index)
        is_cells = isinstance(chain, IndexPreTransform) and isinstance(
            faiss.downcast_index(chain.index), IndexIVFPQ
        )
        return cls(chain) if is_cells else None

    # ---- cells ------------------------------------------------------------------------------

    @property
    def centres(self) -> Floats:
        """Copy of the centres, (parts, per_part, d / parts): see `_cells.Cells`."""
        coarse = faiss.downcast_index(self.pq_index.quantizer)
        if isinstance(coarse, faiss.MultiIndexQuantizer):
            pq = coarse.pq
            shape = pq.M, pq.ksub, pq.dsub
            return np.array(faiss.vector_to_array(pq.centroids).reshape(shape))
        nlist, d = self.pq_index.nlist, self.pq_index.d
        found = np.empty((1, nlist, d), np.float32)
        coarse.reconstruct_n_c(0, nlist, faiss.swig_ptr(found))
        return found

    def centres_of(self, cells: Ids) -> Floats:
        """Centres (n, d) of cells (n,)."""
        centres = self.table.centres
        parts, per_part = centres.shape[:2]
        numbers = [cells // per_part**part % per_part for part in range(parts)]
        return np.concatenate(
            [centres[part][rows] for part, rows in enumerate(numbers)], axis=1, dtype=np.float32
        )

    @property
    def has_cells(self) -> bool:
        """Whether the coarse quantizer is trained and has its centres."""
        coarse = self.pq_index.quantizer
        return bool(coarse.is_trained and coarse.ntotal == self.pq_index.nlist)

    def learn_cells(self, z: Floats, threads: int) -> None:
        """Train the coarse quantizer for embeddings (n, d) as faiss does, unless it has centres."""
        index = self.pq_index
        with openmp_threads(threads):
            index.train_q1(len(z), faiss.swig_ptr(z), index.verbose, index.metric_type)
        self.changed(training=True)

    def forget_cells(self) -> None:
        """Take away the centres, for another training."""
        coarse = faiss.downcast_index(self.pq_index.quantizer)
        if isinstance(coarse, faiss.MultiIndexQuantizer):  # which has no vectors of its own
            coarse.is_trained, coarse.ntotal = False, 0
        else:
            coarse.reset()

    def replace_centres(self, centres: Floats) -> None:
        """Put other centres (nlist, d) into a coarse quantizer that stores vectors."""
        coarse, centres = self.pq_index.quantizer, np.ascontiguousarray(centres, np.float32)
        coarse.reset()
        coarse.add_c(len(centres), faiss.swig_ptr(centres))
        self.changed(training=True)

    def nearest_cells(
        self, z: Floats, nprobe: int, threads: int, params: Any = None
    ) -> tuple[Floats, Ids]:
        """Return what the coarse quantizer finds for embeddings: scores, and cells, -1 for none."""
        shape = len(z), nprobe
        D, cells = np.empty(shape, np.float32), np.empty(shape, np.int64)
        pointers = [faiss.swig_ptr(array) for array in (z, D, cells)]
        with openmp_threads(threads):
            self.pq_index.quantizer.search_c(len(z), pointers[0], nprobe, *pointers[1:], params)
        return D, cells

    def cells_of(self, z: Floats, nprobe: int, threads: int, params: Any = None) -> Ids:
        """Cells (n, nprobe) nearest to embeddings (n, d), the nearest first; -1 for none.

        Where the coarse quantizer compares with all centres by L2, our kernels do: what they find
        does not depend on the other embeddings of a call.
        """
        table = self.table
        if self._is_exhaustive and params is None and len(z):
            cells = np.empty((len(z), nprobe), np.int64)
            if table.nearest(z, cells, threads):
                return cells
        return self.nearest_cells(z, nprobe, threads, params)[1]

    # ---- lists ------------------------------------------------------------------------------

    @property
    def table(self) -> _cells.Cells:
        """The lists as the kernels see them; made anew after a training."""
        if self._table is None:
            index = self.pq_index
            table = _cells.Cells(
                index.nlist,
                self.codebooks,
                self.centres,
                index.pq.nbits,
                bool(index.by_residual),
                index.metric_type == METRIC_INNER_PRODUCT,
            )
            lists = faiss.downcast_InvertedLists(index.invlists)
            if not isinstance(lists, faiss.ArrayInvertedLists):
                raise StateError(f"expected ArrayInvertedLists, got {type(lists).__name__}")
            codes, ids = (
                _first(int(getattr(part, "this", part)), index.nlist)
                for part in (lists.codes, lists.ids)
            )
            table.place(codes, ids, _VECTOR_SIZE, _POINTER_AT, _COUNT_AT)
            coarse = faiss.downcast_index(index.quantizer)
            self._is_exhaustive = (
                type(coarse) in (faiss.IndexFlat, faiss.IndexFlatL2)
                and coarse.metric_type == METRIC_L2
            )
            self._table = table
        return self._table

    def changed(self, *, training: bool = False) -> None:
        """Take notice that lists have changed other than by growing, or the training has."""
        if training:
            self._table = None
        elif self._table is not None:
            self._table.forget()
        self.chain.ntotal = self.pq_index.ntotal

    def append(self, codes: Codes, cells: Ids, ids: Ids) -> None:
        """Add codes (n, code_size) with their cells and ids (n,) to the lists."""
        index = self.pq_index
        if len(codes):
            prefix = np.ascontiguousarray(cells, "<i8").view(np.uint8).reshape(-1, 8)
            whole = np.concatenate([prefix[:, : index.coarse_code_size()], codes], axis=1)
            index.add_sa_codes_c(len(whole), faiss.swig_ptr(whole), faiss.swig_ptr(ids))
        self.chain.ntotal = index.ntotal

    def remove(self, selector: Any) -> int:
        """Remove the vectors that a faiss.IDSelector picks, or an int64 array lists."""
        if isinstance(selector, np.ndarray):
            selector = faiss.IDSelectorBatch(selector)
        removed = int(self.pq_index.remove_ids_c(selector))
        self.changed()
        return removed

    def finish_training(self) -> None:
        """Declare encoder, cells and codebooks complete."""
        super().finish_training()
        self.changed(training=True)

    # ---- faiss's own ways --------------------------------------------------------------------

    def search(
        self, z: Floats, k: int, cells: Ids, scores: Floats, threads: int, D: Floats, I: Ids
    ) -> None:
        """Search for embeddings with faiss, in the cells that are given."""
        index = self.pq_index
        pointers = [faiss.swig_ptr(array) for array in (z, cells, scores, D, I)]
        params = faiss.SearchParametersIVF(nprobe=cells.shape[1])
        with openmp_threads(threads):
            index.search_preassigned_c(len(z), pointers[0], k, *pointers[1:], False, params)


def _first(vector: int, count: int) -> int:
    """Return the address of the first element of a C++ vector of so many vectors.

    Raises StateError if they are not of the size that we know.
    """
    begin, end = (ctypes.c_uint64.from_address(vector + 8 * i).value for i in range(2))
    if end - begin != count * _VECTOR_SIZE:
        raise StateError(
            f"expected lists of {_VECTOR_SIZE} bytes, got {(end - begin) // max(count, 1)}"
        )
    return begin
