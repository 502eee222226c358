"""An index with a decoder inside faiss's composites, copied, written and read."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders

from .builders import (
    L2,
    RERANK,
    TURN,
    XB,
    XQ,
    D,
    M,
    assert_same,
    check,
    empty,
    filled,
    parts,
    tables,
)


def assert_found(
    got: Any, index: deepq.DeepQuantIndex, x: np.ndarray = XQ, ids: Any = None
) -> None:
    """Hold a composite's answer against the re-ranked one of an index with the same codes."""
    D, I = index.search(x, got[0].shape[1])
    np.testing.assert_array_equal(got[0], D)
    np.testing.assert_array_equal(got[1], I if ids is None else ids[I])


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_an_id_map_answers_as_the_index_does(metric, composite) -> None:
    inside, bare = empty(metric, 8), filled(metric, 8)
    ids = np.arange(len(XB)) * 3 + 100
    mapped = composite(inside)
    mapped.add_with_ids(XB, ids)
    assert_found(mapped.search(XQ, 5), bare, ids=ids)
    assert_found(mapped.search(XQ, 5, params=tables()), twin_of(bare), ids=ids)
    gc.collect()
    if composite is faiss.IndexIDMap2 and metric != "cosine":
        np.testing.assert_array_equal(mapped.reconstruct(103), bare.reconstruct(1))


def twin_of(index: deepq.DeepQuantIndex) -> deepq.DeepQuantIndex:
    """Copy an index that then answers from its tables."""
    twin = copy.copy(index)
    twin.rerank = 0
    return twin


def test_an_id_map_with_a_selector_answers_as_the_index_does(metric) -> None:
    bare, ids = filled(metric, 8), np.arange(len(XB)) * 3 + 100
    mapped = faiss.IndexIDMap2(empty(metric, 8))
    mapped.add_with_ids(XB, ids)
    some = np.arange(5, 90, 3)
    params = deepq.SearchParameters(sel=ids[some], rerank=7)
    right = bare.search(XQ, 5, params=deepq.SearchParameters(sel=some, rerank=7))
    D, I = mapped.search(XQ, 5, params=params)
    np.testing.assert_array_equal(D, right[0])
    np.testing.assert_array_equal(I, ids[right[1]])


@pytest.mark.parametrize("threaded", [False, True], ids=["serial", "threaded"])
def test_shards_answer_as_one_index_does_that_ranks_all(metric, threaded) -> None:
    shards, bare = faiss.IndexShards(D, threaded, True), filled(metric, 8)
    bare.rerank = len(XB)
    for part in (XB[:150], XB[150:]):
        shard = empty(metric, 8)
        shard.rerank = len(XB)
        shard.add(part)
        shards.add_shard(shard)
    got, right = shards.search(XQ, 5), bare.search(XQ, 5)
    np.testing.assert_allclose(got[0], right[0], rtol=1e-6)
    assert (got[1] == right[1]).mean() > 0.95  # but for ties


def test_a_transform_in_front_turns_the_vectors_first(metric) -> None:
    turn = faiss.RandomRotationMatrix(D, D)
    turn.init(5)
    inside = empty(metric, 8)
    outer = faiss.IndexPreTransform(turn, inside)
    inside.add(turn.apply(XB))
    assert_found(outer.search(XQ, 5), inside, turn.apply(XQ))


def test_codes_that_composites_add_are_those_of_the_index(metric) -> None:
    index, bare = empty(metric), filled(metric)
    mapped = faiss.IndexIDMap2(index)
    mapped.add_with_ids(XB, np.arange(len(XB)))
    np.testing.assert_array_equal(next(index.code_blocks()), next(bare.code_blocks()))
    np.testing.assert_array_equal(index.reconstruct_n(), bare.reconstruct_n())
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(index, protocol) -> None:
    assert_same(index, pickle.loads(pickle.dumps(index, protocol)))


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_live_by_themselves(index, make) -> None:
    twin = make(index)
    assert_same(index, twin)
    twin.rerank = 0
    twin.reset()
    twin.codebooks = np.zeros_like(twin.codebooks)
    assert index.rerank == RERANK
    check(index, index.search(XQ, 5), index.search(XQ, RERANK, params=tables())[1])


@pytest.mark.parametrize("kind", ["path", "file"])
def test_files(index, kind, tmp_path) -> None:
    path = tmp_path / "i.dpq"
    if kind == "path":
        deepq.write_index(index, path)
        back = deepq.read_index(path)
    else:
        with path.open("wb") as file:
            deepq.write_index(index, file)
        with path.open("rb") as file:
            back = deepq.read_index(file)
    assert_same(index, back)
    back.add(XQ)
    index.add(XQ)
    assert_same(index, back)


def test_damaged_files_are_refused(tmp_path) -> None:
    deepq.write_index(filled(), tmp_path / "i")
    content = (tmp_path / "i").read_bytes()
    for at in range(0, len(content), 997):
        damaged = bytearray(content)
        damaged[at] ^= 0x5A
        (tmp_path / "i").write_bytes(damaged)
        try:
            back = deepq.read_index(tmp_path / "i")
        except deepq.FormatError:
            continue
        assert_same(filled(), back)  # a byte of padding


def through_file(index: Any, folder: Path) -> Any:
    faiss.write_index(index, str(folder / "i"))
    return faiss.read_index(str(folder / "i"))


ROUTES = {
    "file": through_file,
    "bytes": lambda index, _: faiss.deserialize_index(faiss.serialize_index(index)),
    "to_faiss": lambda index, _: deepq.to_faiss(index),
    "clone": lambda index, _: faiss.clone_index(index),
    "itself": lambda index, _: index,
    "handle": lambda index, _: faiss.downcast_index(index),
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_plain_faiss_takes_the_decoder_along(index, route, tmp_path) -> None:
    if route is ROUTES["clone"] and isinstance(index.encoder, encoders.Chain):
        pytest.skip("faiss cannot clone a NormalizationTransform")
    plain = route(index, tmp_path)
    assert_same(index, deepq.from_faiss(plain))
    again = deepq.from_faiss(ROUTES["bytes"](deepq.from_faiss(plain), tmp_path))
    assert_same(index, again)


def test_the_count_set_last_goes_along(tmp_path) -> None:
    index = filled()
    index.rerank = 7
    assert deepq.from_faiss(through_file(index, tmp_path)).rerank == 7
    assert pickle.loads(pickle.dumps(index)).rerank == 7
    deepq.write_index(index, tmp_path / "j")
    assert deepq.read_index(tmp_path / "j").rerank == 7


def test_an_untrained_index_keeps_its_count(tmp_path) -> None:
    index = deepq.DeepQuantIndex(D, M, 4, rerank=9)
    deepq.write_index(index, tmp_path / "i")
    for twin in (deepq.read_index(tmp_path / "i"), copy.deepcopy(index)):
        assert (twin.rerank, twin.is_trained) == (9, False)


# Where the encoder's transforms have no spare place (no transform, or one with an offset), another
# transform, which changes nothing, has one.
@pytest.mark.parametrize(
    "encoder", [encoders.Identity(D), encoders.Affine(TURN, np.ones(D))], ids=["none", "offset"]
)
def test_without_a_place_for_it_one_is_made(encoder, tmp_path) -> None:
    index = deepq.DeepQuantIndex(D, M, 4, encoder=encoder, quantizer=parts(L2, 4)[1], rerank=20)
    index.add(XB)
    assert_same(index, copy.deepcopy(index))
    deepq.write_index(index, tmp_path / "j")
    assert_same(index, deepq.read_index(tmp_path / "j"))
    plain = through_file(index, tmp_path)
    want = index.search(XQ, 5, params=tables())
    np.testing.assert_allclose(plain.search(XQ, 5)[0], want[0], rtol=1e-4, atol=1e-4)
    back = deepq.from_faiss(plain)
    assert type(back.encoder) is type(encoder)
    assert_same(index, back)


SCRIPT = """
import sys, faiss, numpy as np, deepq
x = np.load(sys.argv[1])
index = deepq.read_index(sys.argv[2])
assert index.quantizer.decoder is not None
index.add(x); index.search(x[:9], 3); index.reconstruct_n(); index.sa_encode(x)
deepq.write_index(index, sys.argv[3]); deepq.read_index(sys.argv[3]).search(x[:9], 3)
faiss.write_index(index, sys.argv[3])
back = deepq.from_faiss(faiss.read_index(sys.argv[3]))
assert back.quantizer.decoder is not None and back.rerank == index.rerank
np.testing.assert_array_equal(back.search(x[:9], 3), index.search(x[:9], 3))
sys.exit("torch" in sys.modules)
"""


def test_a_decoder_is_used_without_torch(tmp_path) -> None:
    np.save(tmp_path / "x.npy", XB)
    deepq.write_index(empty(), tmp_path / "i")
    names = [str(tmp_path / name) for name in ("x.npy", "i", "j")]
    subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True, env=dict(os.environ))
