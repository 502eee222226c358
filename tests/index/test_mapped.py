"""Codes that stay in the file: the same answers, no changes, and no memory of their own."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.encoders import TYPES, Affine, Chain, Encoder, Normalize
from deepq.index.native.mapped import fault

D, M, NBITS = 8, 4, 8
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)
XT, XB, XQ = (
    np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    for seed, n in enumerate((400, 300, 9))
)


class Halved(Encoder):
    """One that faiss has no transform for."""

    def encode(self, x):
        return np.asarray(x, np.float32) / 2

    def decode(self, z):
        return z * 2

    def state(self):
        return {"d_in": self.d_in, "d_out": self.d_out}


TYPES["Halved"] = f"{__name__}:Halved"

ENCODERS = {
    "rotation": None,
    "affine": Affine(np.eye(D)[:4] + 0.1, np.ones(4)),
    "chain": Chain([Normalize(D), Affine(np.eye(D))]),
    "foreign": Halved(D, D),
}


def made(encoder: Encoder | None = None, x: Any = XB) -> deepq.DeepQuantIndex:
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=encoder, training=PLAIN)
    index.train(XT)
    index.add(x)
    return index


@pytest.fixture(scope="module", params=ENCODERS)
def path(request, tmp_path_factory):
    """A file of an index of one kind."""
    where = tmp_path_factory.mktemp("mapped") / "index.dpq"
    deepq.write_index(made(ENCODERS[request.param]), where)
    return where


@pytest.fixture
def one(tmp_path):
    """A file that may be changed."""
    deepq.write_index(made(), tmp_path / "index.dpq")
    return tmp_path / "index.dpq"


def mapped(path: Path) -> deepq.DeepQuantIndex:
    return deepq.read_index(path, mmap=True)


def mappings(path: Path) -> int:
    """How many places of this process the file is mapped to."""
    return Path("/proc/self/maps").read_text().count(str(path))


def codes(index: Any) -> list[int]:
    return faiss.vector_to_array(index.codes).tolist()


# ---- answers -------------------------------------------------------------------------------------


def test_answers_are_those_of_an_index_in_memory(path):
    index, right = mapped(path), deepq.read_index(path)
    assert mappings(path) == 1
    assert repr(index) == repr(right)
    for ask in (
        lambda index: index.search(XQ, 5),
        lambda index: index.search(XQ, 5, params=deepq.SearchParameters(sel=np.arange(0, 300, 7))),
        lambda index: index.range_search(XQ, 3.0),
        lambda index: index.reconstruct_n(),
        lambda index: index.sa_encode(XQ),
        lambda index: faiss.downcast_index(index).search(XQ, 5),
        lambda index: codes(index),
    ):
        for found, wanted in zip(ask(index), ask(right), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_searches_by_faiss(path):
    index, right = mapped(path), deepq.read_index(path)
    for mode in range(4):  # polysemous search takes longer codes only
        index.search_type = right.search_type = mode
        np.testing.assert_array_equal(index.search(XQ, 5), right.search(XQ, 5))


def test_in_composites(path):
    index, right = mapped(path), deepq.read_index(path)
    shards, replicas = faiss.IndexShards(D, True, True), faiss.IndexReplicas(D, True)
    refined = faiss.IndexRefine(index, index)
    other = mapped(path)
    shards.add_shard(index)
    for each in (index, other):
        replicas.add_replica(each)
    want = faiss.downcast_index(right).search(XQ, 5)
    for composite in (shards, replicas, refined):
        np.testing.assert_array_equal(composite.search(XQ, 5)[1], want[1])


def test_it_is_written_as_it_was_read(path, tmp_path):
    index = mapped(path)
    deepq.write_index(index, tmp_path / "again.dpq")
    assert (tmp_path / "again.dpq").read_bytes() == path.read_bytes()
    right = faiss.serialize_index(deepq.read_index(path))
    np.testing.assert_array_equal(faiss.serialize_index(index), right)


def test_a_file_of_faiss(path, tmp_path):
    where = tmp_path / "index.faiss"
    faiss.write_index(deepq.read_index(path), str(where))
    index = mapped(where)
    assert mappings(where) == 1
    np.testing.assert_array_equal(index.search(XQ, 5), deepq.read_index(path).search(XQ, 5))
    with pytest.raises(RuntimeError, match="mapped from a file"):
        index.add(XQ)


def test_long_codes(tmp_path):
    index = deepq.DeepQuantIndex(D, M, 16, encoder=Halved(D, D))
    index.codebooks = np.random.default_rng(0).standard_normal((M, 1 << 16, D // M))
    index.add(XB)
    deepq.write_index(index, tmp_path / "index.dpq")
    faiss.write_index(index, str(tmp_path / "index.faiss"))  # where they begin at an odd byte
    for name in ("index.dpq", "index.faiss"):
        np.testing.assert_array_equal(mapped(tmp_path / name).search(XQ, 5), index.search(XQ, 5))


# ---- changes -------------------------------------------------------------------------------------


def in_a_composite(make: Any) -> Any:
    """Add through a composite around the index."""
    return lambda index: make(index).add(XQ)


def shards(index: Any) -> Any:
    composite = faiss.IndexShards(D, False, True)
    composite.add_shard(index)
    return composite


def replicas(index: Any) -> Any:
    composite = faiss.IndexReplicas(D, True)
    composite.add_replica(index)
    return composite


def refined(index: Any) -> Any:
    flat = faiss.IndexFlatL2(D)
    flat.add(XB)
    return faiss.IndexRefine(index, flat)


def behind(index: Any) -> Any:
    turn = faiss.RandomRotationMatrix(D, D)
    turn.init(1)
    return faiss.IndexPreTransform(turn, index)


def inside(index: Any) -> Any:
    return faiss.downcast_index(faiss.downcast_index(index).index)


def same(index: Any) -> Any:
    """Make a twin in memory."""
    return copy.copy(index)


CHANGES = {
    "add": lambda index: index.add(XQ),
    "add nothing": lambda index: index.add(XQ[:0]),
    "add_sa_codes": lambda index: index.add_sa_codes(index.sa_encode(XQ)),
    "remove_ids": lambda index: index.remove_ids(np.array([1])),
    "remove_ids by a selector": lambda index: index.remove_ids(faiss.IDSelectorRange(0, 2)),
    "permute_entries": lambda index: index.permute_entries(np.arange(300)[::-1].copy()),
    "merge_from": lambda index: index.merge_from(same(index)),
    "add_c": lambda index: index.add_c(9, faiss.swig_ptr(XQ)),
    "add_ex": lambda index: index.add_ex(9, faiss.swig_ptr(XQ), faiss.Float32),
    "add_sa_codes_c": lambda index: index.add_sa_codes_c(
        9, faiss.swig_ptr(index.sa_encode(XQ)), None
    ),
    "remove_ids_c": lambda index: index.remove_ids_c(faiss.IDSelectorRange(0, 2)),
    "chain.add": lambda index: faiss.downcast_index(index).add(XQ),
    "chain.remove_ids": lambda index: faiss.downcast_index(index).remove_ids(np.array([1])),
    "chain.merge_from": lambda index: faiss.downcast_index(index).merge_from(same(index)),
    "inside.add": lambda index: inside(index).add(np.zeros((2, inside(index).d), np.float32)),
    "inside.add_sa_codes": lambda index: inside(index).add_sa_codes(index.sa_encode(XQ)),
    "inside.remove_ids": lambda index: inside(index).remove_ids(np.array([1])),
    "inside.merge_from": lambda index: inside(index).merge_from(inside(same(index))),
    "IndexShards": in_a_composite(shards),
    "IndexReplicas": in_a_composite(replicas),
    "IndexPreTransform": in_a_composite(behind),
    "IndexRefine": in_a_composite(refined),
    "clone_index": faiss.clone_index,
    "a clone of a composite": lambda index: faiss.clone_index(behind(index)),
    "train": lambda index: index.train(XT),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_change_it_raises_and_does_not(path, change):
    index, before = mapped(path), path.read_bytes()
    state = index.ntotal, faiss.downcast_index(index).ntotal, inside(index).ntotal, codes(index)
    wanted = index.search(XQ, 5)
    error: Any = MemoryError if "clone" in change else RuntimeError
    words = {"clone_index": "bad_alloc", "a clone of a composite": "bad_alloc"}.get(
        change, "mapped from a file|empty index when it is trained|successive_ids"
    )
    for _ in range(2):
        with pytest.raises(error, match=words):
            CHANGES[change](index)
    chain = faiss.downcast_index(index)
    assert (index.ntotal, chain.ntotal, inside(index).ntotal, codes(index)) == state
    np.testing.assert_array_equal(index.search(XQ, 5), wanted)
    assert path.read_bytes() == before


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_empty_one_refuses_too(composite, tmp_path):
    deepq.write_index(made(x=XB[:0]), tmp_path / "index.dpq")
    index = mapped(tmp_path / "index.dpq")
    assert index.search(XQ, 2)[1].max() == -1
    around = composite(index)
    with pytest.raises(RuntimeError, match="mapped from a file"):
        around.add_with_ids(XQ, np.arange(9))
    assert (around.ntotal, around.id_map.size(), index.ntotal) == (0, 0, 0)
    index.reset()
    around.add_with_ids(XQ, np.arange(9) + 100)
    assert (around.search(XQ, 1)[1] >= 100).all()


def test_an_empty_shard_refuses_too(tmp_path):
    deepq.write_index(made(x=XB[:0]), tmp_path / "index.dpq")
    composite = shards(mapped(tmp_path / "index.dpq"))
    with pytest.raises(RuntimeError, match="mapped from a file"):
        composite.add(XQ)


def test_reset_lets_go_of_the_file(path):
    index, before = mapped(path), path.read_bytes()
    index.reset()
    assert mappings(path) == 0
    assert index.ntotal == 0
    index.add(XB)
    right = deepq.read_index(path)
    np.testing.assert_array_equal(index.search(XQ, 5), right.search(XQ, 5))
    faiss.clone_index(inside(index)).add(np.zeros((1, inside(index).d), np.float32))
    assert path.read_bytes() == before


@pytest.mark.parametrize("view", [lambda index: index, faiss.downcast_index])
def test_merging_from_it_empties_it(path, view):
    index, other = deepq.read_index(path), mapped(path)
    view(index).merge_from(view(other))
    assert (inside(index).ntotal, inside(other).ntotal) == (600, 0)
    assert codes(index)[: len(codes(index)) // 2] * 2 == codes(index)
    assert mappings(path) == 0


def test_faiss_permutes_a_copy(path):
    index = mapped(path)
    right = codes(index)
    order = np.arange(300)[::-1].copy()
    inside(index).permute_entries(order)
    assert mappings(path) == 0
    assert codes(index)[-index.code_size :] == right[: index.code_size]
    index.add(XQ)
    assert index.ntotal == 309


# ---- lives ---------------------------------------------------------------------------------------

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "from_faiss": deepq.from_faiss,
}


@pytest.mark.parametrize("route", COPIES)
def test_copies_are_in_memory(path, route):
    index = mapped(path)
    right = index.search(XQ, 5)
    twin = COPIES[route](index)
    del index
    gc.collect()
    assert mappings(path) == 0
    np.testing.assert_array_equal(twin.search(XQ, 5), right)
    twin.add(XQ)
    assert twin.ntotal == 309


def test_the_file_stays_mapped_as_long_as_anything_of_it_lives(path):
    index = mapped(path)
    right = index.search(XQ, 5)
    view = index._native.codes
    del index
    gc.collect()
    assert mappings(path) == 1
    assert view.sum() > 0
    del view
    gc.collect()
    assert mappings(path) == 0

    composite = shards(mapped(path))
    gc.collect()
    assert mappings(path) == 1
    np.testing.assert_array_equal(composite.search(XQ, 5)[0].shape, right[0].shape)
    del composite
    gc.collect()
    assert mappings(path) == 0


def test_c_plus_plus_may_own_it(path):
    index = mapped(path)
    chain = faiss.downcast_index(index)
    right = chain.search(XQ, 5)
    composite = faiss.IndexShards(D, False, True)
    composite.own_indices = True
    composite.add_shard(chain)
    index._native.chain.this.disown()
    index.this.disown()
    chain.this.disown()
    composite.referenced_objects.clear()
    del index, chain
    gc.collect()
    np.testing.assert_array_equal(composite.search(XQ, 5)[1], right[1])
    del composite
    gc.collect()
    assert mappings(path) == 0


def test_a_file_may_be_replaced_or_removed(one):
    index, other = mapped(one), mapped(one)
    right = index.search(XQ, 5)
    deepq.write_index(made(x=XB[:5]), one)
    np.testing.assert_array_equal(index.search(XQ, 5), right)
    deepq.write_index(index, one)
    del index
    one.unlink()
    np.testing.assert_array_equal(other.search(XQ, 5), right)


CHILD = """
import sys, deepq
index = deepq.read_index(sys.argv[1], mmap=True)
index._native.codes.sum()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_processes_share_its_memory(tmp_path):
    index = made()
    index.add_sa_codes(np.random.default_rng(0).integers(0, 256, (1 << 19, M), np.uint8))
    where = tmp_path / "index.dpq"
    deepq.write_index(index, where)
    index = mapped(where)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(where)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"ready\n"
        assert index._native.codes.sum() > 0
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags")
        (block,) = [block for block in blocks if str(where) in block]
        child.communicate(b"\n")
    sizes = {
        name: int(size.split()[0])
        for name, _, size in (line.partition(":") for line in block.splitlines())
        if size.endswith(" kB")
    }
    assert sizes["Rss"] >= 2048
    assert sizes["Private_Dirty"] == 0
    assert sizes["Shared_Clean"] >= 2048
    assert sizes["Pss"] <= sizes["Rss"] * 0.6


def test_opening_reads_nothing_of_the_codes(tmp_path):
    """A damage there is found only by reading them."""
    index = made()
    index.add_sa_codes(np.zeros((1 << 19, M), np.uint8))
    where = tmp_path / "index.dpq"
    deepq.write_index(index, where)
    with where.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\1")
    assert mapped(where).ntotal == deepq.read_index(where, verify="header").ntotal
    with pytest.raises(deepq.FormatError, match="damaged codes"):
        deepq.read_index(where)
    assert Path("/proc/self/smaps").read_text().count(str(where)) == 0


# ---- what cannot be mapped -----------------------------------------------------------------------


def test_only_paths_are_mapped(one):
    with one.open("rb") as file, pytest.raises(ValueError, match="expected a path with mmap"):
        deepq.read_index(file, mmap=True)


def test_another_faiss_is_not_touched(one, monkeypatch):
    monkeypatch.setattr(faiss, "__version__", "1.16.0")
    fault.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"takes mapped codes, got another: it is tested"):
            mapped(one)
        assert deepq.read_index(one).ntotal == 300
    finally:
        fault.cache_clear()


def test_the_trial_fits_this_faiss():
    assert fault() == ""
