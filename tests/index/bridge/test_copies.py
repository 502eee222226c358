"""Encoders that faiss does not know, copied, written, read and merged."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from pathlib import Path

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq._common.errors import FormatError, InputError, KindError
from deepq.encoders import Affine, Chain, Encoder
from deepq.index.native import bridge

from .builders import (
    D_IN,
    D_OUT,
    NBITS,
    PLAIN,
    XB,
    XQ,
    XT,
    Failing,
    M,
    Scaled,
    Unnamed,
    Waved,
    assert_same,
    filled,
    native,
    normal,
    run,
    waved,
)

ROUTES = {
    "bytes": lambda index, _: faiss.deserialize_index(faiss.serialize_index(index)),
    "clone": lambda index, _: faiss.clone_index(index),
    "file": lambda index, path: (faiss.write_index(index, path), faiss.read_index(path))[1],
}


@pytest.mark.parametrize("route", ROUTES)
def test_what_faiss_copies_is_refused_and_restored(route, tmp_path):
    index = filled(Chain([waved(), Affine(normal(D_OUT, D_OUT, seed=5))]))
    plain = ROUTES[route](index, str(tmp_path / "index"))
    for use in (
        plain.add,
        lambda x: plain.search(x, 5),
        plain.sa_encode,
        lambda x: plain.assign(x, 1),
    ):
        with pytest.raises(RuntimeError, match="not initialized"):
            use(XQ)
    back = deepq.from_faiss(plain)
    assert type(back.encoder) is Chain
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))
    np.testing.assert_array_equal(back.reconstruct_n(), index.reconstruct_n())
    back.add(XQ)
    index.add(XQ)
    assert_same(native(back).search(XQ, 5), index.search(XQ, 5))


@pytest.mark.parametrize("convert", [str, Path, lambda path: io.BytesIO(Path(path).read_bytes())])
def test_read_index_takes_a_file_of_faiss(index, tmp_path, convert):
    faiss.write_index(index, str(tmp_path / "index"))
    back = deepq.read_index(convert(str(tmp_path / "index")))
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))


def test_read_index_takes_a_plain_product_quantizer(tmp_path):
    plain = faiss.IndexPQ(D_IN, M, NBITS)
    plain.train(np.tile(XT, (2, 1)))
    plain.add(XB)
    faiss.write_index(plain, str(tmp_path / "index"))
    assert_same(deepq.read_index(tmp_path / "index").search(XQ, 5), plain.search(XQ, 5))


def test_an_encoder_not_fitted_yet_is_restored_as_that():
    index = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN), training=PLAIN)
    back = deepq.from_faiss(faiss.deserialize_index(faiss.serialize_index(index)))
    assert not back.is_trained
    assert not back.encoder.is_fitted
    back.train(XT)


def test_a_file_of_faiss_cut_off_or_damaged_is_refused():
    index = filled()
    good = faiss.serialize_index(index).tobytes()
    state = good.index(b"deepq\r\nE")
    for end in [5, 60, state, state + 30, len(good) // 2, len(good) - 1]:
        with pytest.raises(FormatError):
            deepq.read_index(io.BytesIO(good[:end]))
    for at in range(state, state + 24 + 4 * D_IN * D_OUT, 7):
        bad = bytearray(good)
        bad[at] ^= 0x10
        with pytest.raises(FormatError):
            deepq.read_index(io.BytesIO(bytes(bad)))
    flat = faiss.IndexPreTransform(faiss.LinearTransform(2, 2), faiss.IndexFlatL2(2))
    with pytest.raises(FormatError, match="IndexPQ"):
        deepq.read_index(io.BytesIO(faiss.serialize_index(flat).tobytes()))


REFUSE = """
import sys
import faiss
import numpy as np
index = faiss.read_index(sys.argv[1])
x = np.ones((100, index.d), np.float32)
for use in (index.add, lambda x: index.search(x, 3), lambda x: index.range_search(x, 1.0),
            lambda x: index.assign(x, 1),
            lambda x: index.search_and_reconstruct(x, 3), index.sa_encode,
            lambda x: index.get_distance_computer().set_query(faiss.swig_ptr(x))):
    for _ in range(2):  # before training, and after
        try:
            use(x)
        except RuntimeError as error:
            assert "not initialized" in str(error)
        else:
            raise SystemExit(f"{use} gave an answer")
        index.train(x)
for found in (index.reconstruct(0), index.reconstruct_n(0, 9),
              index.sa_decode(np.zeros((2, index.sa_code_size()), np.uint8))):
    assert np.isnan(found).all()
untrained = faiss.read_index(sys.argv[2])
try:
    untrained.train(x)
except RuntimeError as error:
    assert "not trained" in str(error) or "not initialized" in str(error)
else:
    raise SystemExit("trained")
assert "deepq" not in sys.modules
"""


def test_faiss_without_deepq_opens_the_file_and_refuses(index, tmp_path):
    faiss.write_index(index, str(tmp_path / "trained"))
    untrained = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN))
    faiss.write_index(untrained, str(tmp_path / "untrained"))
    run(REFUSE, tmp_path / "trained", tmp_path / "untrained")


@pytest.mark.parametrize("size", [(2, 200), (200, 2), (1, 8)])
def test_no_state_passes_for_a_matrix(size):
    """However long the state is beside the matrix."""
    transform = faiss.LinearTransform(size[1], size[0])
    bridge.write(transform, Waved(np.ones(size)))
    A = faiss.vector_to_array(transform.A)
    count = size[0] * size[1]
    assert len(A) > count
    assert np.isnan(A[:count]).all()
    np.testing.assert_array_equal(bridge.read(transform).W, np.ones(size))


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "from_faiss": deepq.from_faiss,
}


@pytest.mark.parametrize("route", COPIES)
def test_copies_stand_on_their_own(index, route):
    right = index.search(XQ, 5)
    twin = COPIES[route](index)
    del index
    gc.collect()
    np.testing.assert_array_equal(twin.search(XQ, 5), right)
    assert_same(native(twin).search(XQ, 5), right)


def test_a_file_of_ours_restores_it(index, tmp_path):
    deepq.write_index(index, tmp_path / "index")
    back = deepq.read_index(tmp_path / "index")
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))


def test_types_are_imported_when_a_file_names_them(tmp_path):
    index = filled()
    index.encoder.state()
    deepq.write_index(index, tmp_path / "index.dpq")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    np.save(tmp_path / "D.npy", index.search(XQ, 5)[0])
    (tmp_path / "wavy.py").write_text(
        "import deepq, numpy as np\n"
        "class Waved(deepq.encoders.Encoder):\n"
        "    def __init__(self, W):\n"
        "        super().__init__(W.shape[1], W.shape[0])\n"
        "        self.W = W\n"
        "    def encode(self, x):\n"
        "        return np.tanh(x @ self.W.T)\n"
    )
    script = f"""
import sys, numpy as np, deepq
where = sys.argv[1]
deepq.encoders.TYPES["Waved"] = "wavy:Waved"
for name in ("dpq", "faiss"):
    index = deepq.read_index(f"{{where}}/index.{{name}}")
    x = np.random.default_rng(3).standard_normal((9, {D_IN}), dtype=np.float32)
    np.testing.assert_array_equal(index.search(x, 5)[0], np.load(where + "/D.npy"))
assert "wavy" in sys.modules
"""
    run(script, tmp_path, path=tmp_path)


def test_a_type_that_is_not_registered_is_refused(monkeypatch):
    saved = faiss.serialize_index(filled())
    monkeypatch.delitem(encoders.TYPES, "Waved")
    with pytest.raises(FormatError, match="'Waved'"):
        deepq.from_faiss(faiss.deserialize_index(saved))


def test_without_a_state_it_works_in_memory_only(tmp_path):
    index = filled(waved(cls=Unnamed))
    assert_same(native(index).search(XQ, 5), filled().search(XQ, 5))
    for write in (pickle.dumps, copy.copy, lambda i: deepq.write_index(i, tmp_path / "index")):
        with pytest.raises(KindError, match="Unnamed"):
            write(index)
    assert not list(tmp_path.iterdir())
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    with pytest.raises(RuntimeError):
        plain.search(XQ, 5)
    with pytest.raises(KindError, match=r"state\(\)"):
        deepq.from_faiss(plain)
    with pytest.raises(KindError, match=r"state\(\), got Failing"):
        Failing(3, 3).state()


def test_arrays_that_files_cannot_hold_are_refused_when_writing():
    index = filled()
    index.encoder.state = lambda: {"W": index.encoder.W.astype(np.float64)}
    with pytest.raises(KindError, match="float64"):
        deepq.write_index(index, io.BytesIO())


def test_a_decoder_goes_along():
    index = filled()
    numbers = np.arange(5, dtype=np.float32)
    value = {"crc": index._native.codebooks_crc(), "decoder": {"numbers": numbers}, "rerank": 3}
    index._native.carry(value)
    assert_same(native(index).search(XQ, 5), index.search(XQ, 5))
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    carried = type(index._native)(plain).carried()
    np.testing.assert_array_equal(carried["decoder"]["numbers"], numbers)


def merge_in_python(a, b):
    a.merge_from(b)


def merge_in_c_plus_plus(a, b):
    native(a).merge_from(native(b))


@pytest.mark.parametrize("merge", [merge_in_python, merge_in_c_plus_plus])
def test_merging_compares_encoders(merge):
    index, books = filled(), filled().codebooks

    def other(encoder: Encoder) -> deepq.DeepQuantIndex:
        made = deepq.DeepQuantIndex.from_codebooks(books, encoder)
        made.add(XQ)
        return made

    for encoder in (waved(1), waved(cls=Unnamed), Affine(waved().W)):
        with pytest.raises(RuntimeError):
            merge(index, other(encoder))
    merge(index, other(waved()))
    assert index._native.pq_index.ntotal == 309


def test_merging_without_states_is_refused():
    index, other = filled(waved(cls=Unnamed)), filled(waved(cls=Unnamed))
    with pytest.raises(InputError, match="same encoder"):
        index.merge_from(other)
    with pytest.raises(RuntimeError, match="same encoder"):
        native(index).merge_from(native(other))
