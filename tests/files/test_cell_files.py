"""Index files of indexes of cells: whole or refused, list by list."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq._common.safe_files import checksum

from .test_index_files import altered, sets

D, NLIST, M = 4, 3, 2
X = np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)
SETTINGS = {"nprobe": 2, "max_codes": 77, "polysemous_ht": 3, "parallel_mode": 1}


def made(n: int = 20, **options: Any) -> deepq.DeepQuantIVFIndex:
    options = {"nlist": NLIST, **options}
    config = deepq.TrainConfig(ranking=False, epochs=2)
    index = deepq.DeepQuantIVFIndex(d=D, M=M, nbits=2, training=config, **options)
    index.train(X)
    index.add(X[:n])
    return index


def written(index: Any) -> bytes:
    file = io.BytesIO()
    deepq.write_index(index, file)
    return file.getvalue()


def read(data: bytes, **options: Any) -> Any:
    return deepq.read_index(io.BytesIO(data), **options)


@pytest.fixture(scope="module")
def index():
    """A small index with gaps among its ids."""
    index = made()
    index.remove_ids(np.array([19, 4]))
    return index


@pytest.fixture(scope="module")
def saved(index):
    return written(index)


# ---- what is kept --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_settings_and_direct_maps_are_kept(kind):
    index = made()
    for name, value in SETTINGS.items():
        setattr(index, name, value)
    index.cp.niter, index.cp.seed = 7, 8
    index.set_direct_map_type(kind)
    for back in (read(written(index)), pickle.loads(pickle.dumps(index))):
        assert {name: getattr(back, name) for name in SETTINGS} == SETTINGS
        assert (back.cp.niter, back.cp.seed, back.direct_map.type) == (7, 8, kind)
    plain = deepq.to_faiss(index)
    inner = faiss.downcast_index(plain.index)
    assert {name: getattr(inner, name) for name in SETTINGS} == SETTINGS


def test_ids_go_on_behind_those_that_were_given(saved):
    back = read(saved)
    back.add(X[:1])
    assert sorted(back.search(X[:1], 25)[1].ravel())[-1] <= 20
    ids = np.concatenate([ids for _, ids, _ in back._native.lists()])
    assert sorted(ids) == [*range(4), *range(5, 19), 20]


@pytest.mark.parametrize("quantizer", [faiss.IndexFlatL2, faiss.IndexFlatIP])
def test_coarse_quantizers_keep_their_metric(quantizer):
    index = made(quantizer=quantizer(D))
    back = read(written(index))
    assert back.quantizer.metric_type == index.quantizer.metric_type
    np.testing.assert_array_equal(back.search(X, 3), index.search(X, 3))


def test_the_graph_of_a_coarse_quantizer_is_kept():
    index = made(quantizer=faiss.IndexHNSWFlat(D, 4), nlist=50)
    for back in (read(written(index)), pickle.loads(pickle.dumps(index))):
        kept, right = back.quantizer.hnsw, index.quantizer.hnsw
        for name in ("levels", "offsets", "neighbors"):
            np.testing.assert_array_equal(
                *(faiss.vector_to_array(getattr(each, name)) for each in (kept, right))
            )


def test_blocks_of_an_index_read_are_those_written(saved):
    assert written(read(saved)) == saved
    assert written(pickle.loads(pickle.dumps(read(saved)))) == saved


@pytest.mark.parametrize("outer", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_a_map_of_faiss_around_ours(outer):
    index = made()
    index.reset()
    index.nprobe = 3
    whole = outer(index)
    whole.add_with_ids(X[:50], np.arange(50) * 11)
    right = whole.search(X, 4)
    file = io.BytesIO(faiss.serialize_index(whole).tobytes())
    for back in (deepq.read_index(file), deepq.from_faiss(whole)):
        found = back.search(X, 4, params=deepq.SearchParameters(nprobe=3))
        np.testing.assert_array_equal(found[0], right[0])
        np.testing.assert_array_equal(found[1], right[1])


# ---- memory --------------------------------------------------------------------------------------


def large(code_size: int = 16) -> deepq.DeepQuantIVFIndex:
    index = deepq.DeepQuantIVFIndex(16, 64, code_size, 4, training=deepq.TrainConfig(ranking=False))
    rng = np.random.default_rng(0)
    index.train(rng.standard_normal((2000, 16)).astype(np.float32))
    cells = (np.arange(200_000) % 64).astype(np.uint8)
    codes = rng.integers(0, 256, (len(cells), index.code_size), np.uint8)
    index.add_sa_codes(np.column_stack([cells, codes]))
    return index


def peak(work: Any) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_neither_writing_nor_reading_copies_all_lists(tmp_path):
    index = large()
    content = index.ntotal * (index.code_size + 8)
    path = tmp_path / "index.dpq"
    assert peak(lambda: deepq.write_index(index, path)) < content / 4
    assert peak(lambda: deepq.read_index(path)) < content / 4
    assert peak(lambda: deepq.read_index(path, mmap=True)) < content / 4
    assert path.stat().st_size < 1.05 * content + 20_000


def test_mapping_reads_nothing_of_the_lists(tmp_path):
    """They may even be missing from the disk."""
    index, path = large(), tmp_path / "index.dpq"
    deepq.write_index(index, path)
    content = path.read_bytes()
    start = len(content) - index.ntotal * 16
    path.write_bytes(content[:start] + bytes(len(content) - start))
    assert deepq.read_index(path, mmap=True).ntotal == index.ntotal
    assert deepq.read_index(path, verify="header").ntotal == index.ntotal
    with pytest.raises(deepq.FormatError, match="a damaged list of cell"):
        deepq.read_index(path)


# ---- damaged files -------------------------------------------------------------------------------


def test_every_prefix_is_refused(saved):
    for length in range(0, len(saved), 3):
        with pytest.raises(deepq.FormatError, match="expected a whole deepq index"):
            read(saved[:length])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(saved, mask):
    for at in range(len(saved)):
        with pytest.raises(deepq.FormatError, match=r"^expected a whole deepq index in the file"):
            read(saved[:at] + bytes([saved[at] ^ mask]) + saved[at + 1 :])


def test_a_damaged_list_is_named(saved, index):
    cell, ids, _ = max(index._native.lists(), key=lambda each: len(each.ids))
    at = saved.rindex(ids.tobytes())
    damaged = saved[: at + 1] + b"\7" + saved[at + 2 :]
    with pytest.raises(deepq.FormatError, match=f"a damaged list of cell {cell}"):
        read(damaged)
    assert read(damaged, verify="header").ntotal == 18


def array_of(saved: bytes, name: str) -> tuple[int, Any]:
    """Return the number of an array in a file, and where the array is in it."""
    state: dict[str, Any] = {}

    def look(document):
        state.update(document)

    altered(saved, look)
    number, at = state["index"][name]["$array"], 64 + -(-len_of_header(saved) // 64) * 64
    sizes = [
        int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
        for entry in state["arrays"]
    ]
    return number, at + sum(-(-size // 64) * 64 for size in sizes[:number])


def len_of_header(saved: bytes) -> int:
    return int.from_bytes(saved[24:32], "little")


def with_array(saved: bytes, name: str, change: Any) -> bytes:
    """A file with another array of int64, and its checksum."""
    number, at = array_of(saved, name)
    numbers = np.frombuffer(saved, np.int64, NLIST, at).copy()
    change(numbers)
    whole = saved[:at] + numbers.tobytes() + saved[at + numbers.nbytes :]
    return altered(whole, sets("arrays", number, "xxh3", to=f"{checksum(numbers):016x}"))


def puts(place: int, value: int) -> Any:
    def change(numbers):
        numbers[place] = value

    return change


def swaps(numbers: Any) -> None:
    numbers[:2] = numbers[1::-1].copy()


WRONG_LISTS = {
    "a size too large": ("sizes", puts(0, 1 << 40), "lists of "),
    "a negative size": ("sizes", puts(0, -1), "lists of -1 to"),
    "an overflowing size": ("sizes", puts(2, (1 << 63) - 1), "lists of "),
    "fewer codes": ("sizes", puts(0, 0), "bytes instead of"),
    "checksums of others": ("checksums", swaps, "a damaged list of cell 0"),
}


@pytest.mark.parametrize("fault", WRONG_LISTS)
def test_lists_that_do_not_fit_are_refused(fault, saved):
    name, change, message = WRONG_LISTS[fault]
    with pytest.raises(deepq.FormatError, match=message):
        read(with_array(saved, name, change))


WRONG = {
    "nlist": (sets("index", "nlist", to=1 << 30), r"sizes \(3,\) of 1073741824 lists"),
    "no lists": (sets("index", "nlist", to=0), "nlist of at least 1"),
    "a kind": (sets("index", "kind", to="tree"), "an index of the kind 'tree'"),
    "another kind": (sets("index", "kind", to="flat"), ""),
    "a coarse quantizer": (sets("index", "coarse", "kind", to="lsh"), "of the kind 'lsh'"),
    "its width": (sets("index", "coarse", "d", to=5), ""),
    "its metric": (sets("index", "coarse", "metric", to=4), "expected METRIC_L2"),
    "a direct map": (sets("index", "direct_map", to=5), "a direct map of the type 5"),
    "by_residual": (sets("index", "by_residual", to=3), "by_residual to be True or False"),
    "next_id": (sets("index", "next_id", to=-3), "next_id of at least 0"),
    "cp": (sets("index", "cp", to={}), "niter"),
    "sizes of no kind": (sets("index", "sizes", to=[1, 2, 3]), ""),
    "text as lists": (sets("index", "codebooks", to=None), ""),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_header_that_does_not_fit_is_refused(fault, saved):
    change, message = WRONG[fault]
    with pytest.raises(deepq.FormatError, match=message or "expected a whole deepq index"):
        read(altered(saved, change))


def test_a_damaged_pickle_is_refused(index):
    whole = pickle.dumps(index, protocol=4)
    _, ids, _ = max(index._native.lists(), key=lambda each: len(each.ids))
    at = whole.rindex(ids.tobytes())
    with pytest.raises(deepq.FormatError, match="a damaged list of cell"):
        deepq.load_pickle(io.BytesIO(whole[: at + 1] + b"\7" + whole[at + 2 :]))


GRAPHS = {
    "a neighbour too far": (lambda graph: graph["neighbors"].__setitem__(0, 50), "that there are"),
    "a neighbour before": (lambda graph: graph["neighbors"].__setitem__(0, -2), "that there are n"),
    "levels": (lambda graph: graph["levels"].__setitem__(0, 9), "neighbours instead of"),
    "no level": (lambda graph: graph["levels"].__setitem__(0, 0), "or of other levels"),
    "the beginning": (lambda graph: graph.update(entry_point=50), "begins with node 50"),
    "a lower beginning": (
        lambda graph: graph.update(entry_point=int(np.argmin(graph["levels"]))),
        "begins with node",
    ),
}


@pytest.mark.parametrize("fault", GRAPHS)
def test_a_graph_that_a_search_could_leave_is_refused(fault):
    from deepq.index.native.coarse import coarse_of, coarse_state

    change, message = GRAPHS[fault]
    coarse = faiss.IndexHNSWFlat(D, 4)
    coarse.add(X[:50])
    state = coarse_state(coarse)
    assert coarse_of(state).ntotal == 50
    change(state["graph"])
    with pytest.raises(deepq.FormatError, match=message):
        coarse_of(state)
