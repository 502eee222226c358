"""The cells of a faiss.IndexIVFPQ: the vectors of its coarse quantizer."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from deepq._common.errors import StateError
from deepq._common.threads import openmp_threads
from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Ids
from deepq.index.native.chain import NativeChain
from deepq.index.native.coarse import centres_in
from deepq.index.native.originals import downcast_index

_ITERATIONS = 10  # of faiss's training of cells, unless somebody asks for others


class NativeCentres(NativeChain):
    """A chain before a faiss.IndexIVFPQ, as far as its coarse quantizer goes."""

    def changed(self) -> None:
        """Take notice that cells or lists have changed."""
        raise NotImplementedError

    @property
    def centres(self) -> Floats:
        """Copy of the centres, (parts, per_part, d / parts): see `_cells.Cells`.

        Raises StateError if the coarse quantizer has other ones than one for each cell.
        """
        return centres_in(self.pq_index.quantizer, self.pq_index.nlist)

    @property
    def has_cells(self) -> bool:
        """Whether the coarse quantizer is trained and has its centres."""
        coarse = self.pq_index.quantizer
        return bool(coarse.is_trained and coarse.ntotal == self.pq_index.nlist)

    @property
    def has_own_training(self) -> bool:
        """Whether the coarse quantizer is other than flat, for L2, or its training was changed."""
        index, cp = self.pq_index, self.pq_index.cp
        coarse = downcast_index(index.quantizer)
        usual = faiss.ClusteringParameters()
        return (
            type(coarse) not in (faiss.IndexFlat, faiss.IndexFlatL2)
            or METRIC_INNER_PRODUCT in (coarse.metric_type, index.metric_type)
            or index.clustering_index is not None
            or (cp.niter, cp.nredo, cp.seed) != (_ITERATIONS, usual.nredo, usual.seed)
            or bool(cp.spherical)
        )

    def require_cells(self) -> None:
        """Raise StateError unless the coarse quantizer has its centres."""
        if not self.has_cells:
            index = self.pq_index
            raise StateError(
                f"expected a coarse quantizer with {index.nlist} centres before the codebooks, "
                f"got one with {index.quantizer.ntotal}"
            )

    def learn_cells(self, z: Floats, threads: int) -> None:
        """Train the coarse quantizer for embeddings (n, d) as faiss does, unless it has centres."""
        index = self.pq_index
        with openmp_threads(threads):
            index.train_q1(len(z), faiss.swig_ptr(z), index.verbose, index.metric_type)
        self.changed()

    def forget_cells(self) -> None:
        """Take away the centres, for another training."""
        coarse = downcast_index(self.pq_index.quantizer)
        if isinstance(coarse, faiss.MultiIndexQuantizer):  # which has no vectors of its own
            coarse.is_trained, coarse.ntotal = False, 0
        else:
            coarse.reset()

    def put_back(self, centres: Floats) -> None:
        """Make `centres` what it was when that was read."""
        coarse = downcast_index(self.pq_index.quantizer)
        if isinstance(coarse, faiss.MultiIndexQuantizer):
            faiss.copy_array_to_vector(centres.ravel(), coarse.pq.centroids)
            coarse.is_trained, coarse.ntotal = True, self.pq_index.nlist
            self.changed()
        else:
            self.replace_centres(centres[0])

    def replace_centres(self, centres: Floats) -> None:
        """Put other centres (nlist, d) into a coarse quantizer that stores vectors."""
        coarse, centres = self.pq_index.quantizer, np.ascontiguousarray(centres, np.float32)
        coarse.reset()
        coarse.add_c(len(centres), faiss.swig_ptr(centres))
        self.changed()

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
