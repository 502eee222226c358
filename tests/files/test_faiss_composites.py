"""Composites of faiss's around indexes: `deepq.read_index` and `deepq.from_faiss` of them."""

from __future__ import annotations

import io
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.index.native import called
from deepq.index.native.composites import nested

from ..clients.kinds import XB, XQ, D, OwnNetwork, made

IDS = np.random.default_rng(0).permutation(len(XB)) * 3 + 50
OUR_KINDS = ["native", "re-ranked", "cosine", "network", "network of one's own"]


def turned(inner: Any) -> Any:
    rotation = faiss.RandomRotationMatrix(D, D)
    rotation.init(3)
    return faiss.IndexPreTransform(rotation, inner)


AROUND = {
    "IndexIDMap": faiss.IndexIDMap,
    "IndexIDMap2": faiss.IndexIDMap2,
    "IndexPreTransform": faiss.IndexPreTransform,
    "with a transform": turned,
    "IndexRefineFlat": faiss.IndexRefineFlat,
    "a refinement in a map": lambda index: faiss.IndexIDMap2(faiss.IndexRefineFlat(index)),
    "a map behind a transform": lambda index: turned(faiss.IndexIDMap2(index)),
}


def filled(outer: Any) -> Any:
    takes_ids = any(isinstance(each, faiss.IndexIDMap) for each in nested(outer))
    outer.add_with_ids(XB, IDS) if takes_ids else outer.add(XB)
    return outer


def faiss_pq() -> Any:
    index = faiss.IndexPQ(D, 4, 4)
    index.train(XB)
    return index


def content(index: Any) -> bytes:
    return faiss.serialize_index(index).tobytes()


def read(data: bytes, network: Any = None) -> Any:
    return deepq.read_index(io.BytesIO(data), network)


def ours(index: Any) -> Any:
    """Return the index of ours inside a composite, which knows it."""
    found = [called.living(each) for each in nested(index)]
    (living,) = [each for each in found if each is not None]
    return living


def assert_same(index: Any, other: Any) -> None:
    (D, I), (right_D, right_I) = index.search(XQ, 6), other.search(XQ, 6)
    np.testing.assert_allclose(D, right_D, rtol=1e-4, atol=1e-4)
    assert (right_I == I).mean() > 0.95  # but for ties, and for last digits of a transform


@pytest.fixture(params=AROUND)
def around(request: pytest.FixtureRequest) -> Any:
    return AROUND[request.param]


@pytest.mark.parametrize("kind", OUR_KINDS)
def test_composites_around_ours(kind, around):
    outer = filled(around(made(kind)))
    network = OwnNetwork() if kind == "network of one's own" else None
    for again in (read(content(outer), network), deepq.from_faiss(outer)):
        assert [type(each) for each in nested(again)[:2]] == [type(e) for e in nested(outer)[:2]]
        assert ours(again) is not ours(outer)
        assert (ours(again).rerank, type(ours(again).encoder)) == (
            made(kind).rerank,
            type(made(kind).encoder),
        )
        assert_same(again, outer)
        if around in (faiss.IndexIDMap, faiss.IndexIDMap2):
            assert (again.remove_ids(IDS[:5]), ours(again).ntotal) == (5, len(XB) - 5)


def test_composites_around_faiss_own(around):
    outer = filled(around(faiss_pq()))
    for again in (read(content(outer)), deepq.from_faiss(outer)):
        if around is faiss.IndexPreTransform or around is turned:  # an encoder of the index
            assert type(again) is deepq.DeepQuantIndex
        else:
            assert type(again) is type(outer)
            assert type(ours(again)) is deepq.DeepQuantIndex
        assert_same(again, outer)
    assert all(called.living(each) is None for each in nested(outer))


@pytest.mark.parametrize("around", ["IndexIDMap", "IndexIDMap2"])
def test_ids_around_cells_become_those_of_the_lists(around):
    outer = filled(AROUND[around](made("cells")))
    for again in (read(content(outer)), deepq.from_faiss(outer)):
        assert type(again) is deepq.DeepQuantIVFIndex
        D, I = again.search(XQ, 6)
        np.testing.assert_allclose(D, outer.search(XQ, 6)[0], rtol=1e-4)
        assert np.isin(I, IDS).all()


@pytest.mark.parametrize("around", ["IndexPreTransform", "IndexRefineFlat"])
def test_others_around_cells(around):
    outer = filled(AROUND[around](made("cells")))
    for again in (read(content(outer)), deepq.from_faiss(outer)):
        assert type(ours(again)) is deepq.DeepQuantIVFIndex
        assert_same(again, outer)


def test_shards_and_replicas():
    shards = faiss.IndexShards(D, True, False)
    for rows in (slice(0, 300), slice(300, None)):
        part = faiss.IndexIDMap(made("re-ranked"))
        part.add_with_ids(XB[rows], IDS[rows])
        shards.add_shard(part)
    again = deepq.from_faiss(shards)
    assert type(again) is faiss.IndexShards
    assert not again.successive_ids
    assert_same(again, shards)
    replicas = faiss.IndexReplicas(D)
    replicas.addIndex(filled(faiss_pq()))
    again = deepq.from_faiss(replicas)
    assert type(called.living(faiss.downcast_index(again.at(0)))) is deepq.DeepQuantIndex
    assert_same(again, replicas)


def test_settings_of_a_refinement():
    outer = filled(faiss.IndexRefineFlat(made("re-ranked")))
    outer.k_factor = 7
    assert read(content(outer)).k_factor == deepq.from_faiss(outer).k_factor == 7


def test_the_copy_is_one():
    outer = filled(faiss.IndexIDMap2(made("re-ranked")))
    copied = deepq.from_faiss(outer)
    copied.remove_ids(IDS)
    assert (copied.ntotal, outer.ntotal, ours(outer).ntotal) == (0, len(XB), len(XB))


@pytest.mark.parametrize("kind", ["native", "re-ranked"])
def test_codes_in_a_composite_are_mapped(kind, tmp_path):
    outer = filled(faiss.IndexIDMap2(made(kind)))
    faiss.write_index(outer, str(tmp_path / "a"))
    shared = deepq.read_index(tmp_path / "a", mmap=True)
    assert ours(shared)._native.is_mapped
    assert_same(shared, outer)
    with pytest.raises(RuntimeError, match="mapped from a file"):
        shared.add_with_ids(XB[:1], IDS[:1])


# ---- what is wrong -------------------------------------------------------------------------------


def small(around: Any) -> bytes:
    index = faiss.IndexPQ(4, 2, 1)
    index.train(XB[:200, :4].copy())
    outer = around(deepq.from_faiss(index))
    if isinstance(outer, faiss.IndexIDMap):
        outer.add_with_ids(XB[:3, :4].copy(), np.arange(3))
    else:
        outer.add(XB[:3, :4].copy())
    return content(outer)


SMALL = ["IndexIDMap2", "IndexPreTransform", "IndexRefineFlat", "a refinement in a map"]


@pytest.mark.parametrize("around", SMALL)
def test_every_prefix_is_refused(around):
    data = small(AROUND[around])
    for length in range(len(data)):
        with pytest.raises(deepq.FormatError, match=r"^expected .* in the file, got "):
            read(data[:length])


@pytest.mark.parametrize("around", SMALL)
def test_every_byte_may_be_wrong(around):
    """An index or an error; an index answers."""
    data, rng = small(AROUND[around]), np.random.default_rng(0)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= int(rng.integers(1, 256))
        try:
            index = read(bytes(damaged))
        except deepq.FormatError:
            continue
        index.search(np.zeros((2, index.d), np.float32), 2)


def nest_of(depth: int) -> bytes:
    outer = faiss_pq()
    kept = [outer]
    for _ in range(depth):
        kept.append(faiss.IndexPreTransform(kept[-1]))
    return content(kept[-1])


WRONG = {
    "too many": (lambda: nest_of(12), "more than 8 indexes one in the other"),
    "refined by codes": (
        lambda: content(filled(faiss.IndexRefine(faiss_pq(), faiss_pq()))),
        "what refines of the kind 'IxPq'",
    ),
    "around another": (
        lambda: content(faiss.IndexIDMap2(faiss.IndexFlatL2(D))),
        "IndexFlatL2",
    ),
    "refining another": (
        lambda: content(faiss.IndexRefineFlat(faiss.IndexFlatL2(D))),
        "IndexFlatL2",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_refused(wrong):
    make, message = WRONG[wrong]
    with pytest.raises(deepq.FormatError, match=message):
        read(make())


@pytest.mark.parametrize(
    "index",
    [
        faiss.IndexIDMap2(faiss.IndexFlatL2(D)),
        faiss.IndexRefineFlat(faiss.IndexFlatL2(D)),
        faiss.IndexPreTransform(faiss.IndexFlatL2(D)),
    ],
    ids=lambda index: type(index).__name__,
)
def test_from_faiss_of_other_composites_is_refused(index):
    with pytest.raises(TypeError, match=f"got IndexFlatL2 in an {type(index).__name__}: "):
        deepq.from_faiss(index)


def test_where_faiss_is_not_known_composites_are_refused(monkeypatch):
    outer = filled(faiss.IndexIDMap2(made("re-ranked")))
    data = content(outer)
    monkeypatch.setattr(called, "fault", lambda: "it is another")
    with pytest.raises(deepq.FormatError, match="it is another"):
        read(data)
    with pytest.raises(TypeError, match="it is another"):
        deepq.from_faiss(outer)
