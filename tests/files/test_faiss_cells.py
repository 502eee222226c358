"""faiss's own files of indexes of cells: what faiss would find in them, or a refusal."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq._common.safe_files import Reader
from deepq.files.faiss_files import parse

D, NLIST, M, NBITS = 8, 4, 2, 4
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
X = np.random.default_rng(0).standard_normal((700, D)).astype(np.float32)
QUERIES = X[:20] + np.float32(0.1)
IDS = np.arange(40) * 7 + 100


def cells(coarse: Any = None, nlist: int = NLIST, metric: int = L2, **settings: Any) -> Any:
    coarse = faiss.IndexFlatL2(D) if coarse is None else coarse
    index = faiss.IndexIVFPQ(coarse, D, nlist, M, NBITS, metric)
    index.cp.min_points_per_centroid = 1
    for name, value in settings.items():
        setattr(index, name, value)
    return index


def graph() -> Any:
    return cells(faiss.IndexHNSWFlat(D, 4), 32)


def multi_index() -> Any:
    return cells(faiss.MultiIndexQuantizer(D, 2, 3), 64, quantizer_trains_alone=1)


def behind(transform: Any, index: Any) -> Any:
    if isinstance(transform, faiss.OPQMatrix):
        transform.niter = transform.niter_pq = 2
    return faiss.IndexPreTransform(transform, index)


def filled(index: Any) -> Any:
    index.train(X)
    index.add(X[:40])
    faiss.extract_index_ivf(index).nprobe = 3
    return index


def with_map(kind: int) -> Any:
    index = filled(cells())
    index.set_direct_map_type(kind)
    return index


def named(index: Any, outer: Any = faiss.IndexIDMap2) -> Any:
    index.train(X)
    whole = outer(index)
    whole.add_with_ids(X[:40], IDS)
    return whole


def named_inside() -> Any:
    chain = behind(faiss.RandomRotationMatrix(D, D), faiss.IndexIDMap2(cells()))
    chain.train(X)
    chain.add_with_ids(X[:40], IDS)
    return chain


KINDS = {
    "flat": lambda: filled(cells()),
    "inner product": lambda: filled(cells(faiss.IndexFlatIP(D), metric=IP)),
    "another metric": lambda: filled(cells(faiss.IndexFlatIP(D))),
    "whole vectors": lambda: filled(cells(by_residual=False)),
    "hnsw": lambda: filled(graph()),
    "imi": lambda: filled(multi_index()),
    "sparse": lambda: filled(cells(nlist=100)),
    "opq": lambda: filled(behind(faiss.OPQMatrix(D, M), cells())),
    "pca": lambda: filled(
        behind(faiss.PCAMatrix(D, 4), faiss.IndexIVFPQ(faiss.IndexFlatL2(4), 4, NLIST, M, NBITS))
    ),
    "array": lambda: with_map(faiss.DirectMap.Array),
    "hashtable": lambda: with_map(faiss.DirectMap.Hashtable),
    "idmap": lambda: named(cells(), faiss.IndexIDMap),
    "idmap2": lambda: named(cells()),
    "idmap2 around a chain": lambda: named(behind(faiss.OPQMatrix(D, M), cells())),
    "idmap2 in a chain": named_inside,
    "untrained": cells,
    "untrained imi": multi_index,
    "empty": lambda: filled(cells()).reset() or filled(cells()),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def content(index: Any) -> bytes:
    return faiss.serialize_index(index).tobytes()


def read(data: bytes) -> Any:
    return deepq.read_index(io.BytesIO(data))


def assert_same(a: Any, b: Any) -> None:
    assert repr(a) == repr(b)
    assert content(a) == content(b)


# ---- whole files ---------------------------------------------------------------------------------


@each_kind
def test_it_finds_what_faiss_finds(kind, tmp_path):
    index = KINDS[kind]()
    faiss.write_index(index, str(tmp_path / "index"))
    back = deepq.read_index(tmp_path / "index")
    assert isinstance(back, deepq.DeepQuantIVFIndex)
    assert (back.ntotal, back.is_trained) == (index.ntotal, index.is_trained)
    if not index.is_trained:
        back.train(X)
        return
    inner = faiss.extract_index_ivf(index)
    assert (back.nprobe, back.direct_map.type) == (inner.nprobe, inner.direct_map.type)
    for nprobe in (1, 3, inner.nlist):
        back.nprobe = inner.nprobe = nprobe
        D_, I = index.search(QUERIES, 5)
        found = back.search(QUERIES, 5)
        np.testing.assert_allclose(found[0], D_, rtol=1e-4, atol=1e-4)
        assert (found[1] == I).mean() > 0.8  # of equal ones faiss's order is another


@each_kind
def test_it_is_what_from_faiss_makes(kind):
    data = content(KINDS[kind]())
    again = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    assert_same(read(data), deepq.from_faiss(again))


@each_kind
def test_it_goes_to_faiss_and_back(kind):
    index = read(content(KINDS[kind]()))
    plain = deepq.to_faiss(index)
    assert_same(deepq.from_faiss(plain), index)
    again = io.BytesIO()
    deepq.write_index(index, again)
    again.seek(0)
    assert_same(deepq.read_index(again), index)


def test_ids_of_a_map_become_those_of_lists():
    back = read(content(KINDS["idmap2"]()))
    assert set(back.search(X[:40], 1)[1].ravel()) <= set(IDS)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([ids for _, ids, _ in back._native.lists()])), IDS
    )
    back.add(X[:1])
    assert IDS.max() + 1 in back.search(X[:1], 2)[1]


def test_the_graph_of_a_coarse_quantizer_is_kept():
    index = KINDS["hnsw"]()
    graph = faiss.downcast_index(index.quantizer).hnsw
    for back in (read(content(index)), deepq.from_faiss(index)):
        kept = back.quantizer.hnsw
        for name in ("levels", "offsets", "neighbors"):
            np.testing.assert_array_equal(
                *(faiss.vector_to_array(getattr(each, name)) for each in (graph, kept))
            )
        assert (kept.entry_point, kept.max_level) == (graph.entry_point, graph.max_level)
        assert (kept.efSearch, kept.efConstruction) == (graph.efSearch, graph.efConstruction)


def test_faiss_sees_nothing_of_it(monkeypatch):
    data = content(KINDS["idmap2"]())

    def refuse(*_):
        raise SystemExit("faiss has got a file")

    for name in ("deserialize_index", "read_index"):
        monkeypatch.setattr(faiss, name, refuse)
    assert read(data).ntotal == 40


# ---- damaged files -------------------------------------------------------------------------------

SMALL = {
    kind: content(KINDS[kind]())
    for kind in ("flat", "hnsw", "imi", "sparse", "opq", "hashtable", "idmap2")
}
each_small = pytest.mark.parametrize("kind", SMALL)
WORDS = (
    r"^expected an IndexPQ or IndexIVFPQ of faiss's, alone or behind transforms, in the file, got "
)


def use(data: bytes) -> bool:
    """Whether a file is accepted; it must be of use then."""
    try:
        index = read(data)
    except deepq.FormatError:
        return False
    index.nprobe = min(index.nlist, 100)
    I = index.search(QUERIES, 3)[1]
    assert I.shape == (20, 3)
    return True


@each_small
def test_every_prefix_is_refused(kind):
    for length in range(0, len(SMALL[kind]), 1 if kind == "flat" else 7):
        with pytest.raises(deepq.FormatError, match=WORDS if length >= 4 else "^expected a"):
            read(SMALL[kind][:length])


@each_small
def test_appended_bytes_are_refused(kind):
    for rest in (b"\0", SMALL[kind]):
        with pytest.raises(deepq.FormatError, match=f"{len(rest)} bytes too many"):
            read(SMALL[kind] + rest)


@each_small
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_refused_or_is_a_number(kind, mask):
    whole = SMALL[kind]
    accepted = 0
    for at in range(0, len(whole), 1 if kind == "flat" else 5):
        accepted += use(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
    assert accepted < len(whole)


@each_small
@given(st.data())
def test_fields_set_to_anything_are_refused_or_are_numbers(kind, data):
    whole = SMALL[kind]
    layout = data.draw(st.sampled_from(["<i", "<q", "<f"]))
    value: Any = data.draw(
        st.floats(width=32)
        if layout == "<f"
        else st.sampled_from([0, 1, -1, 2, 255, 1 << 20, (1 << 31) - 1, -(1 << 31)])
        if layout == "<i"
        else st.sampled_from([0, 1, -1, 7, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)])
    )
    damaged = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - struct.calcsize(layout)))
    struct.pack_into(layout, damaged, at, value)
    use(bytes(damaged))


@given(st.sampled_from([b"IwPQ", b"IxM2", b"IxMp"]), st.binary(max_size=300))
def test_random_bytes_are_refused(name, rest):
    with pytest.raises(deepq.FormatError):
        read(name + rest)


FLAT, HNSW, SPARSE, IMI, NAMED = (
    SMALL[kind] for kind in ("flat", "hnsw", "sparse", "imi", "idmap2")
)
COARSE, LISTS, SPARSE_LISTS = FLAT.index(b"IxF2"), FLAT.index(b"ilar"), SPARSE.index(b"ilar")
GRAPH, STORE = HNSW.index(b"IHNf"), HNSW.index(b"IxF2")
AFTER = COARSE + 37 + 8 + 4 * D * NLIST  # the direct map


def q8(value: int) -> bytes:
    return struct.pack("<q", value)


def edited(whole: bytes, *changes: tuple[int, bytes]) -> bytes:
    data = bytearray(whole)
    for at, value in changes:
        data[at : at + len(value)] = value
    return bytes(data)


FAULTS = {
    "no cells": (edited(FLAT, (37, q8(0))), "nlist = 0, nprobe = 3"),
    "more cells": (edited(FLAT, (37, q8(5))), "4 centres of 5 cells"),
    "no probe": (edited(FLAT, (45, q8(0))), "nprobe = 0"),
    "codes without a training": (edited(FLAT, (32, b"\0")), "40 codes in an untrained index"),
    "an untrained coarse quantizer": (edited(FLAT, (COARSE + 32, b"\0")), "4 centres of 4 cells"),
    "another width": (edited(FLAT, (COARSE + 4, b"\7")), "7 dimensions of the coarse quantizer"),
    "another coarse quantizer": (edited(FLAT, (COARSE, b"IxSQ")), "a coarse quantizer of the kind"),
    "NaN in centres": (edited(FLAT, (COARSE + 45, b"\0\0\xc0\x7f")), "NaN or infinity in row 0"),
    "a direct map": (edited(FLAT, (AFTER, b"\3")), "a direct map of the type 3"),
    "a missing direct map": (edited(FLAT, (AFTER, b"\1")), "0 places in a direct map"),
    "by_residual": (edited(FLAT, (AFTER + 9, b"\2")), "by_residual = 2"),
    "code_size": (edited(FLAT, (AFTER + 10, q8(2))), "2 bytes of a code instead of 1"),
    "other lists": (edited(FLAT, (LISTS, b"ilod")), "'ilod' instead of ArrayInvertedLists"),
    "lists of others": (edited(FLAT, (LISTS + 4, q8(9))), "9 lists instead of 4"),
    "long codes": (edited(FLAT, (LISTS + 12, q8(9))), "9 bytes of a code in a list instead of 1"),
    "a kind of lists": (edited(FLAT, (LISTS + 20, b"half")), "lists of the kind 'half'"),
    "a negative list": (edited(FLAT, (LISTS + 32, q8(-1))), "lists of -1 to"),
    "a huge list": (edited(FLAT, (LISTS + 32, q8(1 << 62))), "to 4611686018427387904 codes"),
    "another ntotal": (edited(FLAT, (8, q8(39))), "40 vectors in the lists instead of 39"),
    "a negative id": (edited(FLAT, (len(FLAT) - 8, q8(-1))), "expected ids from 0 on, got -1"),
    "cells in another order": (
        edited(SPARSE, (SPARSE_LISTS + 32, q8(99))),
        "sizes of lists of other cells",
    ),
    "an odd number of sizes": (
        edited(SPARSE, (SPARSE_LISTS + 24, q8(3))),
        "1 numbers too many among sizes",
    ),
    "a graph of others": (edited(HNSW, (GRAPH + 8, q8(31))), "numbers in levels instead of 31"),
    "a graph of another kind": (edited(HNSW, (STORE, b"IxSQ")), "a graph of the kind 'IxSQ'"),
    "a node too far": (edited(HNSW, (STORE - 24, b"\x7f\0\0\0")), "neighbours that there are not"),
    "an entry that is none": (edited(HNSW, (STORE - 20, b"\x7f\0\0\0")), "begins with node 127"),
    "levels": (edited(HNSW, (STORE - 16, b"\x63")), "99 as the highest level"),
    "cells of a multi-index": (
        edited(IMI, (61, q8(63))),
        "63 cells of a multi-index instead of 64",
    ),
    "another multi-index": (edited(IMI, (98, q8(4))), "64 cells of a multi-index instead of 4096"),
    "a place that there is not": (
        edited(NAMED, (len(NAMED) - 336, q8(77))),
        "ids below 40 in a map",
    ),
    "huge centres": (edited(FLAT, (COARSE + 45, b"\0\0\x80\x7e")), "whose squared distances"),
    "huge codewords": (edited(FLAT, (AFTER + 50, b"\0\0\x80\x7e")), "whose squared distances"),
    "metrics of a map": (edited(NAMED, (33, b"\0")), "0 as metric of an IndexIDMap2 instead of 1"),
    "ids of a map": (edited(NAMED, (len(NAMED) - 328, q8(39))), "39 numbers in ids instead of 40"),
    "negative names": (edited(NAMED, (len(NAMED) - 8, q8(-5))), "expected ids from 0 on, got -5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_together_is_named(fault):
    data, message = FAULTS[fault]
    with pytest.raises(deepq.FormatError, match=message):
        read(data)


def test_a_map_of_fewer_ids_than_there_are():
    whole = KINDS["idmap2"]()
    faiss.copy_array_to_vector(IDS[:30], whole.id_map)
    with pytest.raises(ValueError, match="expected ids below 30 in a map of ids, got "):
        deepq.from_faiss(whole)


def test_a_small_file_asks_for_little_memory():
    """Whatever it says of itself."""
    long = edited(FLAT, (COARSE + 37, q8(1 << 58)), (COARSE + 8, q8(1 << 55)))
    many = bytearray(content(KINDS["untrained"]()))
    struct.pack_into("<q", many, 37, (1 << 31) - 1)
    struct.pack_into("<q", many, bytes(many).index(b"ilar") + 4, (1 << 31) - 1)
    tracemalloc.start()
    try:
        for data in (long, bytes(many)):
            with pytest.raises(deepq.FormatError):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# ---- what is not converted -----------------------------------------------------------------------

REFUSED = {
    "IVFFlat": ("IVF4,Flat", "IndexIVFFlat.*train a DeepQuantIndex"),
    "FastScan": ("IVF4,PQ2x4fs", "IndexIVFPQFastScan.*convert the IndexPQ or IndexIVFPQ that it"),
    "scalars": ("IVF4,SQ8", "IndexIVFScalarQuantizer.*its codes are of another kind"),
    "IVFPQR": ("IVF4,PQ2+2", "IndexIVFPQR.*convert the IndexPQ or IndexIVFPQ that it"),
    "refined": ("IVF4,Flat,RFlat", "IndexIVFFlat|IndexRefine"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_converted_says_what_to_do(kind):
    factory, message = REFUSED[kind]
    index = faiss.index_factory(D, factory)
    index.train(X)
    with pytest.raises(deepq.FormatError, match=message):
        read(content(index))
    with pytest.raises(TypeError, match=message):
        deepq.from_faiss(index)


def test_binary_cells_are_refused():
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(16), 16, 2)
    with pytest.raises(TypeError, match="IndexBinaryIVF: from_faiss converts an IndexBinaryFlat"):
        deepq.from_faiss(index)
    data = faiss.serialize_index_binary(index).tobytes()
    with pytest.raises(deepq.FormatError, match=r"IndexBinaryIVF .*: from_faiss converts"):
        read(data)


def test_structure_is_all_that_is_described():
    plain = parse(Reader(io.BytesIO(FLAT))).inner
    assert (plain.M, plain.nbits, plain.codes.nlist, plain.metric) == (M, NBITS, NLIST, L2)
    assert [len(each.ids) for each in plain.codes.lists] == [
        len(each.codes) for each in plain.codes.lists
    ]
