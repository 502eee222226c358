"""Lists that stay in the file: the same answers, no changes, and no memory of their own."""

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
from deepq.index.native import lists, mapped_lists

D, NLIST, M = 8, 6, 4
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)
XT, XB, XQ = (
    np.random.default_rng(seed).standard_normal((n, D)).astype(np.float32)
    for seed, n in enumerate((1200, 300, 9))
)
KINDS = {
    "kmeans": {},
    "imi": {"nlist": 64, "coarse": "imi"},
    "inner product": {"metric": faiss.METRIC_INNER_PRODUCT},
    "graph": {"quantizer": faiss.IndexHNSWFlat(D, 4), "nlist": 32},
}


def made(x: Any = XB, **options: Any) -> deepq.DeepQuantIVFIndex:
    options = {"nlist": NLIST, **copy.deepcopy(options)}
    index = deepq.DeepQuantIVFIndex(d=D, M=M, training=PLAIN, **options)
    index.train(XT)
    index.add(x)
    index.nprobe = 4
    return index


@pytest.fixture(scope="module", params=KINDS)
def path(request, tmp_path_factory):
    """A file of an index of one kind."""
    where = tmp_path_factory.mktemp("mapped") / "index.dpq"
    deepq.write_index(made(**KINDS[request.param]), where)
    return where


@pytest.fixture(scope="module")
def base():
    """One index, to be written and never changed."""
    return made()


@pytest.fixture
def one(base, tmp_path):
    """A file that may be changed."""
    deepq.write_index(base, tmp_path / "index.dpq")
    return tmp_path / "index.dpq"


def mapped(path: Path) -> deepq.DeepQuantIVFIndex:
    return deepq.read_index(path, mmap=True)


def mappings(path: Path) -> int:
    """How many places of this process the file is mapped to."""
    return Path("/proc/self/maps").read_text().count(str(path))


def inside(index: Any) -> Any:
    return faiss.downcast_index(faiss.extract_index_ivf(faiss.downcast_index(index)))


def content(index: Any) -> list[Any]:
    return [(cell, ids.tolist(), codes.tolist()) for cell, ids, codes in index._native.lists()]


# ---- answers -------------------------------------------------------------------------------------


def test_answers_are_those_of_an_index_in_memory(path):
    index, right = mapped(path), deepq.read_index(path)
    assert mappings(path) == 1
    assert repr(index) == repr(right)
    assert content(index) == content(right)
    for ask in (
        lambda index: index.search(XQ, 5),
        lambda index: index.search(XQ, 5, params=deepq.SearchParameters(sel=np.arange(0, 300, 7))),
        lambda index: index.range_search(XQ, 3.0),
        lambda index: index.reconstruct_n(),
        lambda index: index.sa_encode(XQ),
        lambda index: index.search_and_return_codes(XQ, 3),
        lambda index: faiss.downcast_index(index).search(XQ, 5),
        lambda index: inside(index).search(np.ones((2, inside(index).d), np.float32), 5),
    ):
        for found, wanted in zip(ask(index), ask(right), strict=True):
            np.testing.assert_array_equal(found, wanted)


def behind_nothing(index: Any) -> Any:
    same = faiss.RandomRotationMatrix(D, D)
    faiss.copy_array_to_vector(np.eye(D, dtype=np.float32).ravel(), same.A)
    same.is_trained = True
    return faiss.IndexPreTransform(same, index)


def test_in_composites(path):
    index, right = mapped(path), deepq.read_index(path)
    shards, replicas = faiss.IndexShards(D, True, True), faiss.IndexReplicas(D, True)
    shards.add_shard(index)
    replicas.add_replica(index)
    want = right.search(XQ, 5)
    for composite in (shards, replicas, behind_nothing(index)):
        np.testing.assert_array_equal(composite.search(XQ, 5)[1], want[1])


def test_it_is_written_as_it_was_read(path, tmp_path):
    index = mapped(path)
    deepq.write_index(index, tmp_path / "again.dpq")
    assert (tmp_path / "again.dpq").read_bytes() == path.read_bytes()
    right = faiss.serialize_index(deepq.read_index(path))
    np.testing.assert_array_equal(faiss.serialize_index(index), right)


# ---- changes -------------------------------------------------------------------------------------


def shards(index: Any) -> Any:
    composite = faiss.IndexShards(D, False, True)
    composite.add_shard(index)
    return composite


def behind(index: Any) -> Any:
    turn = faiss.RandomRotationMatrix(D, D)
    turn.init(1)
    return faiss.IndexPreTransform(turn, index)


def z(index: Any, n: int = 2) -> np.ndarray:
    return np.zeros((n, inside(index).d), np.float32)


ONE = np.array([1])
CHANGES = {
    "add": lambda index: index.add(XQ),
    "add nothing": lambda index: index.add(XQ[:0]),
    "add_with_ids": lambda index: index.add_with_ids(XQ, np.arange(9) + 1000),
    "add_sa_codes": lambda index: index.add_sa_codes(index.sa_encode(XQ)),
    "remove_ids": lambda index: index.remove_ids(ONE),
    "remove_ids by a selector": lambda index: index.remove_ids(faiss.IDSelectorRange(0, 200)),
    "update_vectors": lambda index: index.update_vectors(ONE, XQ[:1]),
    "merge_from": lambda index: index.merge_from(copy.copy(index)),
    "copy_subset_to": lambda index: copy.copy(index).copy_subset_to(index, 0, 0, 100),
    "add_c": lambda index: index.add_c(9, faiss.swig_ptr(XQ)),
    "add_sa_codes_c": lambda index: index.add_sa_codes_c(
        9, faiss.swig_ptr(index.sa_encode(XQ)), None
    ),
    "chain.add": lambda index: faiss.downcast_index(index).add(XQ),
    "chain.remove_ids": lambda index: faiss.downcast_index(index).remove_ids(ONE),
    "chain.merge_from": lambda index: faiss.downcast_index(index).merge_from(copy.copy(index)),
    "inside.add": lambda index: inside(index).add(z(index)),
    "inside.add_with_ids": lambda index: inside(index).add_with_ids(z(index), np.arange(2)),
    "inside.add_core_o": lambda index: inside(index).add_core_o(
        2, faiss.swig_ptr(z(index)), None, None
    ),
    "inside.add_sa_codes": lambda index: inside(index).add_sa_codes(index.sa_encode(XQ)),
    "inside.remove_ids": lambda index: inside(index).remove_ids(ONE),
    "inside.update_vectors": lambda index: inside(index).update_vectors(ONE, z(index, 1)),
    "inside.merge_from": lambda index: inside(index).merge_from(inside(copy.copy(index)), 0),
    "invlists.add_entries": lambda index: index.invlists.add_entries(
        0, 1, faiss.swig_ptr(ONE), faiss.swig_ptr(np.zeros(M, np.uint8))
    ),
    "invlists.update_entries": lambda index: index.invlists.update_entries(
        content(index)[0][0], 0, 1, faiss.swig_ptr(ONE), faiss.swig_ptr(np.zeros(M, np.uint8))
    ),
    "invlists.resize": lambda index: index.invlists.resize(0, 10_000),
    "IndexShards": lambda index: shards(index).add(XQ),
    "IndexPreTransform": lambda index: behind(index).add(XQ),
    "clone_index": faiss.clone_index,
    "a clone of a composite": lambda index: faiss.clone_index(behind(index)),
    "train": lambda index: index.train(XT),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_change_it_raises_and_does_not(path, change):
    index, before = mapped(path), path.read_bytes()
    state = index.ntotal, faiss.downcast_index(index).ntotal, inside(index).ntotal, content(index)
    wanted = index.search(XQ, 5)
    error: Any = MemoryError if "clone" in change else RuntimeError
    words = "bad_alloc" if "clone" in change else "mapped from a file|empty index when it is tr"
    if change == "IndexShards":
        words = "mapped from a file|successive_ids"
    for _ in range(2):
        with pytest.raises(error, match=words):
            CHANGES[change](index)
    chain = faiss.downcast_index(index)
    assert (index.ntotal, chain.ntotal, inside(index).ntotal, content(index)) == state
    np.testing.assert_array_equal(index.search(XQ, 5), wanted)
    assert path.read_bytes() == before


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_empty_one_refuses_too(composite, base, tmp_path):
    empty = copy.copy(base)
    empty.reset()
    deepq.write_index(empty, tmp_path / "index.dpq")
    index = mapped(tmp_path / "index.dpq")
    assert index.search(XQ, 2)[1].max() == -1
    around = composite(index)
    with pytest.raises(RuntimeError, match="mapped from a file"):
        around.add_with_ids(XQ, np.arange(9))
    assert (around.ntotal, around.id_map.size(), index.ntotal) == (0, 0, 0)
    index.reset()
    around.add_with_ids(XQ, np.arange(9) + 100)
    assert (around.search(XQ, 1)[1] >= 100).all()


def test_reset_lets_go_of_the_file(path):
    index, before = mapped(path), path.read_bytes()
    index.reset()
    assert mappings(path) == 0
    assert index.ntotal == 0
    index.add(XB)
    right = deepq.read_index(path)
    np.testing.assert_array_equal(index.search(XQ, 5), right.search(XQ, 5))
    faiss.clone_index(inside(index)).add(z(index))
    assert path.read_bytes() == before


@pytest.mark.parametrize("view", [lambda index: index, faiss.downcast_index, inside])
def test_merging_from_it_empties_it(path, view):
    index, other = deepq.read_index(path), mapped(path)
    view(index).merge_from(view(other), 1000)
    assert (inside(index).ntotal, inside(other).ntotal) == (600, 0)
    assert mappings(path) == 0


def test_other_lists_may_take_their_place(path):
    index = mapped(path)
    index.replace_invlists(faiss.ArrayInvertedLists(index.nlist, index.code_size), True)
    assert mappings(path) == 0
    index.add(XQ)
    assert index.ntotal == 9


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
    composite = shards(mapped(path))
    gc.collect()
    assert mappings(path) == 1
    assert composite.search(XQ, 5)[0].shape == (9, 5)
    del composite
    gc.collect()
    assert mappings(path) == 0


def test_a_file_may_be_replaced_or_removed(one, base):
    index, other = mapped(one), mapped(one)
    right = index.search(XQ, 5)
    smaller = copy.copy(base)
    smaller.remove_ids(np.arange(200))
    deepq.write_index(smaller, one)
    np.testing.assert_array_equal(index.search(XQ, 5), right)
    deepq.write_index(index, one)
    del index
    one.unlink()
    np.testing.assert_array_equal(other.search(XQ, 5), right)


CHILD = """
import sys, deepq, numpy as np
index = deepq.read_index(sys.argv[1], mmap=True)
print(sum(int(codes.sum()) + int(ids.sum()) for _, ids, codes in index._native.lists()), flush=True)
sys.stdin.readline()
"""


def test_processes_share_its_memory(one):
    large = deepq.read_index(one)
    large.add_sa_codes(
        np.column_stack(
            [np.arange(1 << 18) % NLIST, np.random.default_rng(0).integers(0, 256, (1 << 18, M))]
        ).astype(np.uint8)
    )
    deepq.write_index(large, one)
    index = mapped(one)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        total = int(child.stdout.readline())
        own = sum(int(codes.sum()) + int(ids.sum()) for _, ids, codes in index._native.lists())
        assert own == total
        blocks = Path("/proc/self/smaps").read_text().split("VmFlags")
        (block,) = [block for block in blocks if str(one) in block]
        child.communicate(b"\n")
    sizes = {
        name: int(size.split()[0])
        for name, _, size in (line.partition(":") for line in block.splitlines())
        if size.endswith(" kB")
    }
    assert sizes["Rss"] >= 2048
    assert sizes["Private_Dirty"] == 0
    assert sizes["Pss"] <= sizes["Rss"] * 0.6


def test_a_damaged_list_is_named_when_it_is_read(one):
    """Opening reads nothing of the lists: a damage there is found only by reading them."""
    whole = one.read_bytes()
    cell, ids, _ = content(deepq.read_index(one))[-1]
    at = whole.rindex(np.array(ids).tobytes())
    one.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert mapped(one).ntotal == deepq.read_index(one, verify="header").ntotal
    with pytest.raises(deepq.FormatError, match=f"a damaged list of cell {cell}"):
        deepq.read_index(one)


# ---- what cannot be mapped -----------------------------------------------------------------------


def test_a_file_of_faiss_is_not_mapped(base, tmp_path):
    faiss.write_index(base, str(tmp_path / "index.faiss"))
    with pytest.raises(ValueError, match=r"deepq.write_index writes so that it can be mapped"):
        mapped(tmp_path / "index.faiss")


def test_another_faiss_is_not_touched(one, monkeypatch):
    monkeypatch.setattr(faiss, "__version__", "1.16.0")
    mapped_lists.fault.cache_clear()
    try:
        with pytest.raises(
            deepq.StateError, match=r"takes mapped lists, got another: it is tested"
        ):
            mapped(one)
        assert deepq.read_index(one).ntotal == 300
    finally:
        mapped_lists.fault.cache_clear()


def test_the_trial_fits_this_faiss():
    assert mapped_lists.fault() == ""
    assert lists.has_known_vectors()


def test_lists_of_another_layout_are_not_looked_into(one, monkeypatch):
    monkeypatch.setattr(lists, "has_known_vectors", lambda: False)
    index = deepq.read_index(one)
    with pytest.raises(deepq.StateError, match=r"expected lists as faiss 1\.15 has them"):
        index.search(XQ, 1)
