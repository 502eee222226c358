"""`patch_faiss`: what faiss reads, clones and casts of our indexes is theirs again."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.index.native import called, originals

from ..clients.kinds import KINDS, XB, XQ, D, OwnNetwork, bare, made

NAMES = ("read_index", "write_index", "clone_index", "downcast_index")
AROUND = {
    "IndexIDMap": faiss.IndexIDMap,
    "IndexIDMap2": faiss.IndexIDMap2,
    "IndexPreTransform": faiss.IndexPreTransform,
    "IndexRefineFlat": faiss.IndexRefineFlat,
    "a refinement in a map": lambda index: faiss.IndexIDMap2(faiss.IndexRefineFlat(index)),
}


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    yield
    deepq.unpatch_faiss()
    assert all(getattr(faiss, name) is getattr(originals, name) for name in NAMES)


@pytest.fixture
def patched() -> Iterator[None]:
    with deepq.patched_faiss(encoder=OwnNetwork()):
        yield


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=AROUND)
def around(request: pytest.FixtureRequest) -> Any:
    return AROUND[request.param]


def assert_same(index: Any, other: Any) -> None:
    D, I = other.search(XQ, 7)
    found = index.search(XQ, 7)
    np.testing.assert_array_equal(found[1], I)
    np.testing.assert_allclose(found[0], D, rtol=1e-4, atol=1e-5)


def filled(outer: Any) -> Any:
    if isinstance(outer, faiss.IndexIDMap):
        outer.add_with_ids(XB, np.arange(len(XB)) * 3)
    else:
        outer.add(XB)
    return outer


def inside(outer: Any) -> Any:
    """Return what is innermost, as `faiss.downcast_index` says."""
    for name in ("index", "base_index"):
        if hasattr(outer, name) and not isinstance(outer, faiss.IndexPQ | faiss.IndexIVFPQ):
            return inside(faiss.downcast_index(getattr(outer, name)))
    return outer


def through(index: Any) -> Any:
    return faiss.deserialize_index(faiss.serialize_index(index))


# ---- on and off ----------------------------------------------------------------------------------


def test_it_is_off_until_it_is_asked_for():
    assert type(through(bare("re-ranked"))) is faiss.IndexPreTransform
    deepq.patch_faiss()
    assert type(through(bare("re-ranked"))) is deepq.DeepQuantIndex
    deepq.patch_faiss()
    deepq.unpatch_faiss()
    assert type(through(bare("re-ranked"))) is faiss.IndexPreTransform
    deepq.unpatch_faiss()


def test_a_context_leaves_things_as_they_were():
    with deepq.patched_faiss(), deepq.patched_faiss():
        assert type(through(bare("native"))) is deepq.DeepQuantIndex
    assert type(through(bare("native"))) is faiss.IndexPreTransform
    deepq.patch_faiss()
    with pytest.raises(ZeroDivisionError), deepq.patched_faiss():
        _ = 1 // 0
    assert type(through(bare("native"))) is deepq.DeepQuantIndex
    with deepq.patched_faiss():
        deepq.unpatch_faiss()
        assert type(through(bare("native"))) is deepq.DeepQuantIndex
    assert type(through(bare("native"))) is faiss.IndexPreTransform


def test_contexts_of_several_threads():
    content, start = faiss.serialize_index(bare("native")), threading.Barrier(8)

    def use(_: int) -> bool:
        start.wait()
        for _ in range(20):
            with deepq.patched_faiss():
                if type(faiss.deserialize_index(content)) is not deepq.DeepQuantIndex:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert type(faiss.deserialize_index(content)) is faiss.IndexPreTransform


def test_what_others_put_around_it_stays(monkeypatch):
    calls = []
    deepq.patch_faiss()
    ours = faiss.read_index

    def counting(*args: Any) -> Any:
        calls.append(args)
        return ours(*args)

    monkeypatch.setattr(faiss, "read_index", counting)
    deepq.unpatch_faiss()
    assert faiss.read_index is counting
    assert type(through(bare("native"))) is faiss.IndexPreTransform
    deepq.patch_faiss()
    assert type(through(bare("native"))) is deepq.DeepQuantIndex
    assert len(calls) == 2
    deepq.unpatch_faiss()
    monkeypatch.undo()
    faiss.read_index = originals.read_index


@pytest.mark.parametrize("encoder", ["a network", 3, OwnNetwork], ids=["text", "number", "class"])
def test_another_encoder_is_refused(encoder):
    for patch in (deepq.patch_faiss, lambda encoder: deepq.patched_faiss(encoder).__enter__()):
        with pytest.raises(TypeError, match=r"expected a torch.nn.Module or NetworkEncoder, got"):
            patch(encoder)
    assert faiss.read_index is originals.read_index


# ---- what comes back -----------------------------------------------------------------------------


@pytest.mark.usefixtures("patched")
def test_an_index_comes_back_whole(kind, tmp_path):
    index = bare(kind)
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    with (tmp_path / "a.faiss").open("rb") as file:
        reader = faiss.BufferedIOReader(faiss.PyCallbackIOReader(file.read))
        found = [
            faiss.read_index(str(tmp_path / "a.faiss")),
            faiss.read_index(str(tmp_path / "a.faiss"), faiss.IO_FLAG_MMAP),
            faiss.read_index(reader),
            through(index),
            faiss.clone_index(index),
        ]
    for again in found:
        assert type(again) is type(index)
        assert type(again.encoder) is type(index.encoder)
        assert (again.rerank, again.history) == (index.rerank, index.history)
        assert again.training == index.training
        assert_same(again, index)
        again.merge_from(copy.copy(index)) if "cells" not in kind else None


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("kind", ["re-ranked", "network", "cells"])
def test_an_untrained_index_comes_back_too(kind):
    index = made(kind)
    again = type(index)(*((D, 8, 4, 4) if "cells" in kind else (D, 4, 4)), rerank=30)
    again.training = deepq.TrainConfig(epochs=3)
    back = through(again)
    assert (type(back), back.is_trained, back.rerank) == (type(index), False, 30)
    assert type(back.encoder) is deepq.encoders.Rotation
    assert back.training == again.training


@pytest.mark.usefixtures("patched")
def test_composites(kind, around):
    outer = filled(around(made(kind)))
    assert type(inside(outer)) is type(made(kind))
    for again in (through(outer), faiss.clone_index(outer), pickle.loads(pickle.dumps(outer))):
        assert type(again) is type(outer)
        assert type(inside(again)) is type(made(kind))
        assert_same(again, outer)


@pytest.mark.usefixtures("patched")
def test_what_is_inside_outlives_the_composite_and_no_more(around):
    kept = len(called._handed_over)
    outer = through(filled(around(made("re-ranked"))))
    inner = inside(outer)
    assert len(called._handed_over) == kept + 1
    del outer
    gc.collect()
    assert len(called._handed_over) == kept
    assert_same(inner, bare("re-ranked"))
    address = int(inner.this)
    del inner
    gc.collect()
    assert address not in called._indexes


@pytest.mark.usefixtures("patched")
def test_composites_come_and_go_in_threads():
    """Each is used and dropped while others are copied, and nothing is kept in the end."""
    outer, kept = faiss.IndexIDMap2(made("re-ranked")), len(called._handed_over)
    outer.add_with_ids(XB, np.arange(len(XB)))
    right = outer.search(XQ, 3)[1]

    def use(seed: int) -> bool:
        rng, own = np.random.default_rng(seed), [outer]
        for choice in rng.integers(0, 4, 60):
            index = own[rng.integers(len(own))]
            if choice == 0:
                own.append(faiss.clone_index(index))
            elif choice == 1:
                own.append(inside(index))
            elif len(own) > 1 and choice == 2:
                own.pop(int(rng.integers(1, len(own))))
            elif not (index.search(XQ, 3)[1] == right).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(8)))
    gc.collect()
    assert len(called._handed_over) == kept


@pytest.mark.usefixtures("patched")
def test_shards_and_replicas_tell_what_is_inside():
    first, second = bare("re-ranked"), bare("re-ranked")
    shards = faiss.IndexShards(D, False, True)
    shards.add_shard(first)
    shards.add_shard(second)
    assert [faiss.downcast_index(shards.at(i)) for i in range(2)] == [first, second]
    replicas = faiss.IndexReplicas(D)
    replicas.addIndex(first)
    assert faiss.downcast_index(replicas.at(0)) is first


class Named(deepq.DeepQuantIndex):
    name = ""


@pytest.mark.usefixtures("patched")
def test_a_clone_is_a_copy_of_the_class():
    index = Named.from_codebooks(bare("native").codebooks)
    outer = faiss.IndexIDMap(index)
    assert type(faiss.clone_index(index)) is Named
    assert type(inside(faiss.clone_index(outer))) is Named


@pytest.mark.usefixtures("patched")
def test_the_settings_of_the_moment_are_written():
    index = bare("re-ranked")
    index.rerank, index.training = 3, deepq.TrainConfig(seed=9)
    index.history = [{"stage": "mine"}]
    again = through(index)
    assert (again.rerank, again.training, again.history) == (3, index.training, index.history)
    faiss.copy_array_to_vector(index.codebooks.ravel() + 1, index.pq.centroids)
    again = through(index)
    assert again.product_quantizer.decoder is None  # it was for other codebooks


@pytest.mark.usefixtures("patched")
def test_nothing_is_lost_by_many_journeys():
    index = bare("re-ranked without a rotation")
    content = faiss.serialize_index(index)
    for _ in range(3):
        index = faiss.deserialize_index(faiss.serialize_index(index))
        np.testing.assert_array_equal(faiss.serialize_index(index), content)


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("around", [None, faiss.IndexIDMap], ids=["alone", "in a map"])
def test_what_is_written_is_of_one_moment(around):
    """Each file has whole additions, of 100 rows, while others add."""
    index, ended = made("native"), threading.Event()
    outer = index if around is None else around(index)

    def add() -> None:
        for _ in range(60):
            index.add(XB[:100])
        ended.set()

    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(add)
        while not ended.is_set() and not adding.done():
            if around is None:
                assert through(outer).ntotal % 100 == 0
            else:
                faiss.serialize_index(outer)
        adding.result()
    assert through(index).ntotal == 6000


# ---- what stays as it is -------------------------------------------------------------------------


def others() -> dict[str, Any]:
    flat, pq = faiss.IndexFlatL2(D), faiss.IndexPQ(D, 4, 4)
    pq.train(XB)
    turned = faiss.IndexPreTransform(faiss.RandomRotationMatrix(D, D), pq)
    turned.train(XB)
    both = [flat, pq, turned, faiss.index_factory(D, "OPQ4,IVF4,PQ4x4"), faiss.IndexIDMap2(pq)]
    return {type(index).__name__ + str(i): index for i, index in enumerate(both)}


def test_other_indexes_are_left_alone():
    for index in others().values():
        content, cls = faiss.serialize_index(index), type(index)
        with deepq.patched_faiss():
            for found in (through(index), faiss.clone_index(index), faiss.downcast_index(index)):
                assert type(found) is cls
            np.testing.assert_array_equal(faiss.serialize_index(through(index)), content)


FAULTS = {
    "no file": lambda: faiss.read_index("/nowhere/at/all.faiss"),
    "no argument": lambda: faiss.read_index(),
    "no index": lambda: faiss.downcast_index("an index"),
    "nothing to clone": lambda: faiss.clone_index(3),
    "not cloned by faiss": lambda: faiss.clone_index(faiss.IndexShards(D)),
    "not read by faiss": lambda: faiss.deserialize_index(np.zeros(100, np.uint8)),
    "no such flag": lambda: faiss.read_index("a", flags=1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_errors_are_those_of_faiss(fault):
    def told() -> tuple[type, str]:
        try:
            fault()
        except Exception as error:
            return type(error), str(error)
        pytest.fail("expected an error")

    before = told()
    with deepq.patched_faiss():
        assert told() == before


def test_none_is_none():
    before = faiss.downcast_index(None)
    with deepq.patched_faiss():
        assert faiss.downcast_index(None) is before is None


# ---- files of strangers --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_damaged_data_of_ours_is_refused(seed):
    index = made("re-ranked without a rotation")
    content = faiss.serialize_index(index)
    start = bytes(content).index(b"deepq\r\nD")
    end = start + bytes(content[start:]).index(b"IxPq")
    rng = np.random.default_rng(seed)
    at = int(rng.integers(start + 8, end - 64))
    content[at] ^= 1 << rng.integers(8)
    with deepq.patched_faiss(), pytest.raises(deepq.FormatError, match="expected data of deepq"):
        faiss.deserialize_index(content)


ODD = {
    "no object": 3,
    "members missing": {"decoder": None},
    "kinds of encoders": {"encoder": 7},
    "a decoder": {"decoder": {"arrays": 1}},
    "how many to rank": {"rerank": -4},
    "a training": {"training": {"colour": "red"}},
    "an objective": {"objective": {"type": "os.system"}},
    "a history": {"history": 5},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_data_that_somebody_has_made_is_refused(odd):
    index = made("native")
    value = index._native.carried()
    value["crc"] = index._native.codebooks_crc()
    index._native.carry({**value, **odd} if isinstance(odd, dict) and len(odd) == 1 else odd)
    if odd == {"decoder": None}:
        index._native.carry(odd)
    content = originals_of(index)
    with deepq.patched_faiss(), pytest.raises(deepq.FormatError, match="expected"):
        faiss.deserialize_index(content)
    with pytest.raises(deepq.FormatError, match="expected"):
        deepq.from_faiss(faiss.deserialize_index(content))
    with pytest.raises(deepq.FormatError, match="expected"):
        deepq.read_index(io.BytesIO(content.tobytes()))


def originals_of(index: Any) -> Any:
    return faiss.serialize_index(index)


def test_a_network_that_is_missing_is_asked_for():
    content = faiss.serialize_index(bare("network of one's own"))
    with (
        deepq.patched_faiss(),
        pytest.raises(deepq.FormatError, match="hand the network back with encoder="),
    ):
        faiss.deserialize_index(content)


def test_nobody_chooses_where_a_training_writes(tmp_path):
    index = made("native")
    index.training = deepq.TrainConfig(checkpoint=tmp_path / "here")
    with deepq.patched_faiss():
        assert through(index).training.checkpoint is None


def test_what_older_releases_carried_is_read():
    index = bare("re-ranked")
    value = index._native.carried()
    index._native.carry({name: value[name] for name in ("decoder", "rerank", "crc")})
    with deepq.patched_faiss():
        again = through(index)
    assert_same(again, index)
    assert again.rerank == index.rerank


def test_where_faiss_is_not_known_an_index_alone_comes_back(monkeypatch):
    outer = filled(faiss.IndexIDMap(made("re-ranked")))
    content, alone = faiss.serialize_index(outer), faiss.serialize_index(bare("re-ranked"))
    monkeypatch.setattr(called, "fault", lambda: "it is another")
    with deepq.patched_faiss():
        assert_same(faiss.deserialize_index(alone), bare("re-ranked"))
        assert type(inside(faiss.deserialize_index(content))) is faiss.IndexPQ
