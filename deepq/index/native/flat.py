"""The faiss object under a flat index: an ``IndexPreTransform(chain, IndexPQ)``.

The chain holds the encoder, the IndexPQ holds the codebooks and the codes, once.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import DimensionError, InputError, StateError
from deepq._common.safe_files import InFile
from deepq._common.threads import openmp_threads
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder
from deepq.index.native import mapped
from deepq.index.native.chain import IndexPreTransform, Memory, NativeChain
from deepq.index.native.originals import downcast_index
from deepq.index.native.plain import PlainIndex

# Kept at import: a program may put DeepQuantIndex in its place.
IndexPQ = faiss.IndexPQ


class NativeFlat(NativeChain):
    """A chain before a faiss.IndexPQ, whose codes lie one after the other."""

    def __init__(self, chain: Any) -> None:
        super().__init__(chain)
        self._code_size = self.pq_index.code_size
        self._bytes = self.pq_index.codes  # the vector itself, wherever it has its memory
        self._seen: tuple[Any, Codes] = None, np.empty((0, 0), np.uint8)

    @classmethod
    def build(cls, encoder: Encoder, M: int, nbits: int, metric: int) -> NativeFlat:
        """Make an empty, untrained object for an encoder. Raises InputError where faiss refuses."""
        try:
            pq_index = IndexPQ(encoder.d_out, M, nbits, metric)
        except RuntimeError as error:
            raise InputError(str(error)) from error
        return cls.around(pq_index, encoder, M)

    @classmethod
    def of(cls, index: Any) -> NativeFlat | None:
        """Take an index of faiss's that is an IndexPQ behind transforms; None for another."""
        chain = downcast_index(index)
        is_flat = isinstance(chain, IndexPreTransform) and isinstance(
            downcast_index(chain.index), IndexPQ
        )
        return cls(chain) if is_flat else None

    def plain(self, network: Any = None) -> PlainIndex:
        """Describe it, without settings; codes and codebooks are its own, not copies.

        Raises as `read_encoder` does, and FormatError if what it carries is damaged.
        """
        index = self.pq_index
        trained = bool(self.chain.is_trained)
        return PlainIndex(
            encoder=self.read_encoder(network),
            is_trained=trained,
            M=index.pq.M,
            nbits=index.pq.nbits,
            metric=index.metric_type,
            codebooks=self.codebooks if index.is_trained else None,
            codes=self.codes if trained else self.codes[:0],
            settings={},
            carried=self.carried(),
        )

    # ---- codes ------------------------------------------------------------------------------

    @property
    def codes(self) -> Codes:
        """View (ntotal, code_size) of the codes. They move when rows are added: hold a lock."""
        index = self.pq_index
        n, code_size, size = index.ntotal, self._code_size, self._bytes.size()
        if n * code_size > size:
            raise StateError(f"expected {n} codes, got {size} bytes of them")
        if not n:
            return np.empty((n, code_size), np.uint8)
        place = int(self._bytes.data()), n, code_size
        seen, codes = self._seen
        if seen != place:
            codes = np.asarray(Memory(self, place[0], place[1:], "|u1"))
            self._seen = place, codes
        return codes

    def append(self, codes: Codes) -> None:
        """Add packed codes (n, code_size)."""
        if len(codes):
            self.pq_index.add_sa_codes_c(len(codes), faiss.swig_ptr(codes), None)
        self.chain.ntotal = self.pq_index.ntotal

    def fill(self, codes: Codes | InFile) -> None:
        """Take packed codes (n, code_size) that may be in a file; there may be none before."""
        index = self.pq_index
        if not isinstance(codes, InFile):
            self.append(codes)
            return
        if codes.shape[1] != index.code_size:
            wanted = f"(n, {index.code_size})"
            raise DimensionError(f"expected codes of shape {wanted}, got {codes.shape}")
        if codes.maps:
            mapped.place_codes(index, codes.map())
        elif len(codes):
            index.codes.resize(len(codes) * index.code_size)
            memory = Memory(self, index.codes.data(), codes.shape, "|u1", writes=True)
            codes.read(np.asarray(memory))
            index.ntotal = len(codes)
        self.chain.ntotal = index.ntotal

    @property
    def is_mapped(self) -> bool:
        """Whether the codes are in a file; nothing but `reset` is possible with them then."""
        return not self._bytes.is_owned

    def remove(self, selector: Any) -> int:
        """Remove the vectors that a faiss.IDSelector picks, or an int64 array lists."""
        if isinstance(selector, np.ndarray):
            selector = faiss.IDSelectorBatch(selector)
        removed = int(self.pq_index.remove_ids_c(selector))
        self.chain.ntotal = self.pq_index.ntotal
        return removed

    def reset(self) -> None:
        """Remove all vectors, and let go of a mapped file."""
        self.pq_index.reset()
        self.chain.ntotal = 0

    def permute(self, perm: NDArray[np.int64]) -> None:
        """Put the vector of position perm[i] at position i."""
        self.pq_index.permute_entries_c(faiss.swig_ptr(perm))

    def finish_training(self) -> None:
        """Declare encoder and codebooks complete; symmetric tables of older ones are forgotten."""
        super().finish_training()
        self.pq_index.pq.sdc_table.resize(0)
        self.settle_symmetric()

    # ---- faiss's own ways --------------------------------------------------------------------
    # By the raw methods: faiss.contrib.torch_utils replaces the wrappers that take arrays.

    def search(
        self, z: Floats, k: int, params: Any, threads: int, D: Floats, I: NDArray[np.int64]
    ) -> None:
        """Search for embeddings with faiss, in whatever mode is set or asked for."""
        pointers = [faiss.swig_ptr(array) for array in (z, D, I)]
        with openmp_threads(threads):
            self.pq_index.search_c(len(z), pointers[0], k, *pointers[1:], params)

    def range_search(
        self, z: Floats, thresh: float, params: Any, threads: int
    ) -> tuple[Any, Any, Any]:
        """Return lims, D, I of faiss's range search for embeddings."""
        result = faiss.RangeSearchResult(len(z))
        with openmp_threads(threads):
            self.pq_index.range_search_c(len(z), faiss.swig_ptr(z), thresh, result, params)
        lims = faiss.rev_swig_ptr(result.lims, len(z) + 1).copy()
        found = int(lims[-1])
        D, I = (
            faiss.rev_swig_ptr(part, found).copy() for part in (result.distances, result.labels)
        )
        return lims, D, I

    def settle_symmetric(self) -> None:
        """Prepare symmetric search if it is set and can be."""
        index = self.pq_index
        if index.search_type == IndexPQ.ST_SDC and self.chain.is_trained and index.pq.nbits == 8:
            self.prepare_symmetric()

    def prepare_symmetric(self) -> None:
        """Fill the (M, ksub, ksub) tables of symmetric search, if they are not.

        Raises InputError for other words than those of 8 bits, with which faiss cannot search so.
        """
        pq = self.pq_index.pq
        if pq.nbits != 8:
            raise InputError(f"expected nbits = 8 for symmetric search (ST_SDC), got {pq.nbits}")
        if pq.sdc_table.size() != pq.M * pq.ksub * pq.ksub:
            with openmp_threads():
                pq.compute_sdc_table()
