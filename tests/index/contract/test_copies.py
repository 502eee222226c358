"""Copies of an index: pickles, copy, files, clones, other processes, conversions."""

import copy
import pickle
import subprocess
import sys
import threading

import faiss
import numpy as np
import pytest

import deepq

from . import kinds, oracle
from .kinds import DIM, L2, XB, XQ, XT, M, ours_only

PICKLES = {
    f"pickle {protocol}": lambda index, p=protocol: pickle.loads(pickle.dumps(index, p))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
}
COPIES = {**PICKLES, "copy": copy.copy, "deepcopy": copy.deepcopy}
a_copy = pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)


def assert_same_answers(a, b):
    """Exactly the same answers from what holds exactly the same codes."""
    want = a.search(XQ, 5)
    for got, right in zip(b.search(XQ, 5), want, strict=True):
        np.testing.assert_array_equal(got, right)


def assert_same_index(a, b):
    assert type(a) is type(b)
    names = ["d", "ntotal", "is_trained", "metric_type", "code_size", "verbose"]
    is_flat = isinstance(a, faiss.IndexPQ)
    names += (
        ["search_type", "polysemous_ht", "encode_signs"] if is_flat else ["nprobe", "by_residual"]
    )
    assert [getattr(a, n) for n in names] == [getattr(b, n) for n in names]
    np.testing.assert_array_equal(oracle.codes(a), oracle.codes(b))
    np.testing.assert_array_equal(oracle.codebooks(a), oracle.codebooks(b))


@a_copy
def test_a_copy_is_the_same_class_with_the_same_answers(index, make):
    twin = make(index)
    assert_same_index(index, twin)
    assert_same_answers(index, twin)
    np.testing.assert_array_equal(index.reconstruct_n(), twin.reconstruct_n())
    np.testing.assert_array_equal(index.sa_encode(XQ), twin.sa_encode(XQ))


@a_copy
def test_a_copy_lives_by_itself(kind, make):
    index = kinds.filled(kind)
    twin = make(index)
    index.reset()
    assert twin.ntotal == len(XB)
    twin.add(XQ)
    assert (index.ntotal, twin.ntotal) == (0, len(XB) + len(XQ))
    del index
    oracle.assert_same_neighbours(twin.search(XQ, 5), oracle.search(twin, XQ, 25))


@a_copy
def test_an_untrained_copy_can_be_trained(kind, make):
    index = kinds.untrained(kind)
    if isinstance(index, faiss.IndexPQ):
        index.search_type, index.polysemous_ht = index.ST_HE, 9
    twin = make(index)
    assert not twin.is_trained
    assert_same_index(index, twin)
    for each in (index, twin):
        each.train(XT)
    np.testing.assert_array_equal(oracle.codebooks(index), oracle.codebooks(twin))


@ours_only
@a_copy
def test_a_copy_keeps_encoder_settings_and_history(kind, make):
    index = kinds.filled(kind)
    twin = make(index)
    assert type(twin.encoder) is type(index.encoder)
    np.testing.assert_array_equal(twin.encoder.encode(XQ), index.encoder.encode(XQ))
    assert twin.training == index.training
    assert twin.history == index.history


@pytest.mark.parametrize("base", [faiss.IndexPQ, "deepq"])
@a_copy
def test_a_subclass_with_its_own_constructor_is_copied(base, make, monkeypatch):
    class Mine(deepq.DeepQuantIndex if base == "deepq" else base):
        def __init__(self, name):
            assert name
            super().__init__(DIM, M, 4)

    Mine.__qualname__ = "Mine"
    monkeypatch.setitem(globals(), "Mine", Mine)
    index = Mine("a name")
    index.train(XT)
    index.add(XB)
    twin = make(index)
    assert type(twin) is Mine
    assert_same_answers(index, twin)


CHILD = """
import pickle, sys
index, x = pickle.load(sys.stdin.buffer)
pickle.dump((type(index).__name__, index.search(x, 5)), sys.stdout.buffer)
"""


@kinds.expressible_only  # another process does not know the class
def test_another_process_gives_the_same_answers(kind):
    index = kinds.filled(kind)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        input=pickle.dumps((index, XQ)),
        capture_output=True,
        check=True,
    )
    name, got = pickle.loads(child.stdout)
    assert name == type(index).__name__
    oracle.assert_same_neighbours(got, index.search(XQ, 25))


def test_joblib_stores_it(kind, tmp_path):
    joblib = pytest.importorskip("joblib")
    index = kinds.filled(kind)
    joblib.dump(index, tmp_path / "index.joblib")
    assert_same_answers(index, joblib.load(tmp_path / "index.joblib"))


def through_file(index, path):
    faiss.write_index(index, str(path))
    return faiss.read_index(str(path))


def through_bytes(index, _):
    return faiss.deserialize_index(faiss.serialize_index(index))


def through_callbacks(index, path):
    """Write as Hugging Face datasets does."""
    with path.open("wb") as file:
        writer = faiss.BufferedIOWriter(faiss.PyCallbackIOWriter(file.write))
        faiss.write_index(index, writer)
        del writer
    with path.open("rb") as file:
        return faiss.read_index(faiss.BufferedIOReader(faiss.PyCallbackIOReader(file.read)))


def through_clone(index, _):
    return faiss.clone_index(index)


FAISS_ROUTES = [through_file, through_bytes, through_callbacks, through_clone]


@kinds.expressible_only
@pytest.mark.parametrize("route", FAISS_ROUTES)
def test_plain_faiss_stores_it_and_gives_the_same_answers(kind, index, route, tmp_path):
    if route is through_clone and kind.name == "deepq-normalized":
        pytest.skip("faiss cannot clone a NormalizationTransform")
    plain = route(index, tmp_path / "index")
    assert (plain.d, plain.ntotal, plain.metric_type) == (index.d, index.ntotal, index.metric_type)
    oracle.assert_same_neighbours(plain.search(XQ, 5), oracle.search(index, XQ, 25))
    np.testing.assert_array_equal(plain.sa_encode(XQ), index.sa_encode(XQ))
    plain.add(XQ)
    index.add(XQ)
    oracle.assert_same_neighbours(plain.search(XQ, 5), oracle.search(index, XQ, 25))


@ours_only
@pytest.mark.parametrize("route", FAISS_ROUTES)
def test_what_plain_faiss_restores_can_be_made_ours_again(kind, index, route, tmp_path):
    if route is through_clone and kind.name == "deepq-normalized":
        pytest.skip("faiss cannot clone a NormalizationTransform")
    back = deepq.from_faiss(route(index, tmp_path / "index"))
    assert isinstance(back, type(index))
    oracle.assert_same_neighbours(back.search(XQ, 5), index.search(XQ, 25))
    np.testing.assert_allclose(back.reconstruct_n(), index.reconstruct_n(), rtol=1e-4, atol=1e-4)


@ours_only
def test_write_index_and_read_index_restore_all_of_it(index, metric, tmp_path):
    path = tmp_path / "index.deepq"
    deepq.write_index(index, path)
    back = deepq.read_index(path)
    assert_same_index(index, back)
    assert_same_answers(index, back)
    assert type(back.encoder) is type(index.encoder)
    np.testing.assert_array_equal(index.reconstruct_n(), back.reconstruct_n())
    assert back.training == index.training
    back.add(XQ)
    oracle.assert_same_neighbours(back.search(XQ, 5), oracle.search(back, XQ, 25))
    assert back.metric_type == metric


@ours_only
def test_an_untrained_index_can_be_written(kind, tmp_path):
    path = str(tmp_path / "index.deepq")
    deepq.write_index(kinds.untrained(kind), path)
    back = deepq.read_index(path)
    assert (back.is_trained, back.pq.M, back.pq.nbits) == (False, M, 4)
    back.train(XT)


@ours_only
def test_a_failed_write_leaves_the_old_file(kind, tmp_path, monkeypatch):
    path = tmp_path / "index.deepq"
    deepq.write_index(kinds.filled(kind), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="full"):
        deepq.write_index(kinds.trained(kind), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@ours_only
def test_an_index_in_use_can_be_pickled(kind):
    index = kinds.filled(kind)
    stop = threading.Event()

    def search():
        while not stop.is_set():
            index.search(XQ, 3)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        for _ in range(5):
            assert_same_answers(index, pickle.loads(pickle.dumps(index)))
    finally:
        stop.set()
        thread.join()


def opq(metric):
    rotation = faiss.OPQMatrix(DIM, M)
    rotation.niter = 3
    return faiss.IndexPreTransform(rotation, faiss.IndexPQ(DIM, M, 4, metric))


def plain_pq(metric):
    return faiss.IndexPQ(DIM, M, 4, metric)


def inside_an_idmap(metric):
    return faiss.IndexIDMap(opq(metric))


SOURCES = [plain_pq, opq, inside_an_idmap]


@pytest.mark.parametrize("source", SOURCES)
def test_from_faiss_gives_an_index_of_ours_with_the_same_answers(source, metric):
    native = source(metric)
    native.train(XT)
    if source is inside_an_idmap:
        native.add_with_ids(XB, np.arange(len(XB)))
        inner = faiss.downcast_index(native.index)
    else:
        native.add(XB)
        inner = native
    index = deepq.from_faiss(inner)
    assert isinstance(index, deepq.DeepQuantIndex)
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.search(index, XQ, 25))
    oracle.assert_same_neighbours(index.search(XQ, 5), native.search(XQ, 25))
    np.testing.assert_allclose(index.reconstruct_n(), inner.reconstruct_n(), atol=1e-5)
    del native, inner
    index.add(XQ)
    oracle.assert_same_neighbours(index.search(XQ, 5), oracle.search(index, XQ, 25))


@pytest.mark.parametrize("other", [faiss.IndexFlatL2(16), faiss.IndexLSH(16, 8), "a string"])
def test_from_faiss_refuses_what_is_no_product_quantizer(other):
    with pytest.raises(TypeError):
        deepq.from_faiss(other)


def test_from_faiss_leaves_its_source_alone():
    native = kinds.filled(kinds.FAISS, L2)
    index = deepq.from_faiss(native)
    index.reset()
    assert native.ntotal == len(XB)
    native.add(XQ)
    assert index.ntotal == 0
