"""The strands of an index can be joined over another class of faiss's: here over IndexIVFPQ."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq._common.types import Floats
from deepq.encoders import Encoder, Rotation
from deepq.index.learned import LearnedIndex
from deepq.index.native.chain import NativeChain
from deepq.index.state import held_state, make_index
from deepq.index.surface import Table, surface
from deepq.index.tensors import accepts_tensors
from deepq.quantizers import METRIC_L2, ProductQuantizer

IndexIVFPQ = faiss.IndexIVFPQ
D, NLIST, M, NBITS = 8, 4, 4, 4

CELLS = Table(
    inner=("nlist", "nprobe", "invlists", "pq", "by_residual", "do_polysemous_training"),
    both=("ntotal", "verbose"),
    of_vectors=("search_c", "add_c", "reconstruct_c", "remove_ids_c"),
    of_codes=("get_list_size",),
)


class NativeCells(NativeChain):
    """A chain before an IndexIVFPQ: all that a kind adds to what is known of chains."""

    @classmethod
    def build(cls, encoder: Encoder, quantizer: ProductQuantizer, metric: int) -> NativeCells:
        coarse = faiss.IndexFlatL2(encoder.d_out)
        inner = IndexIVFPQ(coarse, encoder.d_out, NLIST, quantizer.M, quantizer.nbits, metric)
        inner.own_fields = True
        coarse.this.disown()
        inner.by_residual = False
        return cls.around(inner, encoder, quantizer.M)


class Cells(LearnedIndex):
    """The strand of codes in cells, far enough to add and to search."""

    kind = "cells"
    _native: NativeCells

    def _build(self, encoder: Encoder, quantizer: ProductQuantizer, metric: int) -> NativeCells:
        return NativeCells.build(encoder, quantizer, metric)

    @accepts_tensors
    def add(self, x: Any) -> None:
        self._require_trained()
        x = self._vectors(x, finite=True)
        with self._lock.changing(), self._lock.exclusive():
            self._native.chain.add_c(len(x), faiss.swig_ptr(x))

    @accepts_tensors
    def search(self, x: Any, k: int) -> tuple[Floats, Any]:
        x = self._vectors(x)
        D, I = np.empty((len(x), k), np.float32), np.empty((len(x), k), np.int64)
        with self._lock.reading():
            self._native.chain.search_c(len(x), faiss.swig_ptr(x), k, *map(faiss.swig_ptr, (D, I)))
        return D, I


class CellIndex(Cells, surface(IndexIVFPQ, CELLS)):  # type: ignore[misc]
    """The join."""

    def __init__(self) -> None:
        self._assemble(METRIC_L2, Rotation(D), ProductQuantizer(M, NBITS), None)


@pytest.fixture(scope="module")
def x() -> Floats:
    return np.random.default_rng(0).standard_normal((500, D), dtype=np.float32)


@pytest.fixture(scope="module")
def index(x: Floats) -> CellIndex:
    made = CellIndex()
    made.pq.cp.niter = 5
    made.train(x)
    inner = made._native.pq_index
    inner.quantizer.add(made.encoder.encode(x[:NLIST]))
    inner.precompute_table()
    made.add(x)
    return made


def test_it_is_built_and_searched(index: CellIndex, x: Floats) -> None:
    assert isinstance(index, faiss.IndexIVFPQ)
    assert (index.d, index.nlist, index.ntotal, index.is_trained) == (D, NLIST, len(x), True)
    assert sum(index.get_list_size(cell) for cell in range(NLIST)) == len(x)
    index.nprobe = NLIST
    D_, I = index.search(x[:20], 3)
    decoded = index.sa_decode(index.sa_encode(x))
    exact = np.square(x[:20, None] - decoded).sum(axis=2)
    np.testing.assert_allclose(D_, np.sort(exact, axis=1)[:, :3], rtol=1e-3, atol=1e-4)
    assert (I >= 0).all()
    with pytest.raises(AttributeError, match="'CellIndex' object has no attribute 'nporbe'"):
        index.nporbe = 3


def test_faiss_writes_reads_and_wraps_it(index: CellIndex, x: Floats, tmp_path: Any) -> None:
    index.nprobe = NLIST
    right = index.search(x[:20], 3)
    faiss.write_index(index, str(tmp_path / "cells.faiss"))
    back = faiss.read_index(str(tmp_path / "cells.faiss"))
    inner = faiss.downcast_index(faiss.extract_index_ivf(back))
    assert isinstance(inner, IndexIVFPQ)
    inner.nprobe = NLIST
    np.testing.assert_allclose(back.search(x[:20], 3)[0], right[0], rtol=1e-5)
    shards = faiss.IndexShards(D)
    shards.add_shard(index)
    np.testing.assert_array_equal(shards.search(x[:20], 3)[1], right[1])


def test_a_state_of_another_kind_is_refused(x: Floats) -> None:
    flat = deepq.DeepQuantIndex(D, M, NBITS)
    flat.train(x)
    with held_state(flat) as state:
        assert "kind" not in state  # as in the first files
        with pytest.raises(deepq.FormatError, match="kind 'flat', which a CellIndex is not"):
            make_index(state, CellIndex)


def test_a_kind_that_files_do_not_know_yet_is_refused(index: CellIndex, tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="expected a DeepQuantIndex"):
        deepq.write_index(index, tmp_path / "cells.dpq")
