"""Encoders that faiss does not know, called from its C++: the same answers everywhere."""

from __future__ import annotations

import copy
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq.encoders import Encoder
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
    copy_of,
    filled,
    native,
    trained,
    waved,
)


def test_the_bridge_fits_this_faiss():
    assert bridge.is_available()


def test_the_index_gives_what_its_parts_give(index):
    z, zq = index.encoder.encode(XB), index.encoder.encode(XQ)
    bare = deepq.DeepQuantIndex.from_codebooks(index.codebooks)
    bare.add(z)
    np.testing.assert_array_equal(index.search(XQ, 5), bare.search(zq, 5))
    decoded = index.encoder.decode(bare.reconstruct_n())
    np.testing.assert_allclose(index.reconstruct_n(), decoded, rtol=1e-4, atol=1e-5)


def test_the_native_object_gives_the_same(index):
    chain = native(index)
    assert type(chain) is faiss.IndexPreTransform
    assert_same(chain.search(XQ, 5), index.search(XQ, 5))
    np.testing.assert_allclose(chain.sa_encode(XB), index.sa_encode(XB))
    if isinstance(index.encoder, Waved):  # faiss cannot reverse the affine map
        np.testing.assert_allclose(chain.reconstruct_n(), index.reconstruct_n(), atol=1e-5)
    lims, D, _ = chain.range_search(XQ, 1.0)
    bare = index.range_search(XQ, 1.0)
    np.testing.assert_array_equal(lims, bare[0])
    np.testing.assert_allclose(np.sort(D), np.sort(bare[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_in_an_id_map(index, composite):
    inside = copy.deepcopy(index)
    inside.reset()
    mapped = composite(inside)
    mapped.add_with_ids(XB, np.arange(len(XB)) + 1000)
    D, I = index.search(XQ, 5)
    assert_same(mapped.search(XQ, 5), (D, I + 1000))
    assert_same(inside.search(XQ, 5), (D, I))


@pytest.mark.parametrize("threaded", [False, True])
def test_in_shards_and_replicas(index, threaded):
    shards = faiss.IndexShards(D_IN, threaded, True)
    replicas = faiss.IndexReplicas(D_IN, threaded)
    twins: dict[int, Any] = {}  # which faiss does not keep alive
    for part in (XB[:100], XB[100:]):
        shard = copy.deepcopy(index)
        shard.reset()
        shard.add(part)
        shards.add_shard(shard)
        replicas.add_replica(twins.setdefault(len(twins), copy.deepcopy(index)))
    assert_same(shards.search(XQ, 5), index.search(XQ, 5))
    assert_same(replicas.search(XQ, 5), index.search(XQ, 5))
    replicas.add(XQ)
    index.add(XQ)
    assert_same(replicas.search(XQ, 5), index.search(XQ, 5))


def test_behind_a_transform_and_before_a_refinement(index):
    turn = faiss.RandomRotationMatrix(D_IN, D_IN)
    turn.init(5)
    inside = copy.deepcopy(index)
    inside.reset()
    outer = faiss.IndexPreTransform(turn, inside)
    outer.add(turn.reverse_transform(XB))
    assert_same(outer.search(turn.reverse_transform(XQ), 5), index.search(XQ, 5))

    inside.reset()
    refined = faiss.IndexRefineFlat(inside)
    refined.k_factor = 60
    refined.add(XB)
    exact = faiss.IndexFlatL2(D_IN)
    exact.add(XB)
    np.testing.assert_array_equal(refined.search(XQ, 5)[1], exact.search(XQ, 5)[1])


def test_as_the_refinement_itself(index):
    base = faiss.IndexFlatL2(D_IN)
    base.add(XB)
    refined = faiss.IndexRefine(base, index)  # queries reach the encoder from parallel loops
    refined.k_factor = 60
    assert_same(refined.search(XQ, 5), index.search(XQ, 5))


def test_threads_get_the_same_answers(index):
    chain, right = native(index), native(index).search(XQ, 5)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(f.search, XQ, 5) for f in [chain, index] * 20]
        for task in tasks:
            assert_same(task.result(timeout=600), right)


def test_many_rows_are_encoded_in_blocks():
    index, sizes = filled(Unnamed(np.eye(D_OUT, D_IN))), []
    index.encoder.encode = lambda x: sizes.append(len(x)) or x[:, :D_OUT]
    native(index).sa_encode(np.zeros((70000, D_IN), np.float32))
    assert sizes == [1 << 16, 70000 - (1 << 16)]


def test_no_rows_call_nothing(failing):
    Failing.fault = ValueError("called")
    assert native(failing).search(np.empty((0, D_OUT), np.float32), 3)[1].shape == (0, 3)


def test_what_an_encoder_is_given_is_its_own():
    kept = []

    class Keeping(Encoder):
        def encode(self, x):
            kept.append(x)
            z = x + 1
            x[:] = 7
            return z

    index, queries = filled(Keeping(D_OUT, D_OUT)), XQ[:, :D_OUT].copy()
    native(index).search(queries, 3)
    np.testing.assert_array_equal(queries, XQ[:, :D_OUT])
    gc.collect()
    assert (kept[-1] == 7).all()


def test_an_encoder_may_answer_in_another_layout_but_not_in_another_shape():
    class Loose(Encoder):
        answer = staticmethod(lambda x: np.asfortranarray(x.astype(np.float64)))

        def encode(self, x):
            return Loose.answer(x)

    index = filled(Loose(D_OUT, D_OUT))
    right = filled(encoders.Identity(D_OUT)).search(XQ[:, :D_OUT], 3)
    np.testing.assert_array_equal(index.search(XQ[:, :D_OUT], 3), right)
    for wrong in (lambda x: x[:1], lambda x: x[:, 1:], lambda x: np.hstack([x, x])):
        Loose.answer = wrong
        for use in (index.add, lambda x: index.search(x, 3), copy_of(index).add):
            with pytest.raises(ValueError, match=r"embeddings of shape \(9, 8\) from Loose, got"):
                use(XQ[:, :D_OUT])
        with pytest.raises(ValueError, match="from Loose"):
            trained(Loose(D_OUT, D_OUT))
    Loose.answer = lambda x: x.astype(complex)
    with pytest.raises(TypeError, match="complex"):
        index.add(XQ[:, :D_OUT])


def test_a_composite_trains_an_encoder():
    inside, twin = (
        deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN), training=PLAIN) for _ in range(2)
    )
    mapped = faiss.IndexIDMap(inside)
    mapped.train(XT)
    twin.train(XT)
    assert inside.encoder.s == twin.encoder.s
    np.testing.assert_array_equal(inside.codebooks, twin.codebooks)
    mapped.add_with_ids(XB, np.arange(300))
    assert_same(mapped.search(XQ, 5), inside.search(XQ, 5))


def test_the_transform_alone_cannot_be_trained_and_says_what_can():
    inside = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN), training=PLAIN)
    transform = faiss.downcast_VectorTransform(native(inside).chain.at(0))
    with pytest.raises(RuntimeError, match=r"call train\(\) of the DeepQuantIndex itself"):
        transform.train(XT)
    assert not inside.is_trained


def test_c_plus_plus_trains_codebooks_behind_an_encoder_that_is_fitted():
    inside = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=waved())
    mapped = faiss.IndexIDMap(inside)
    mapped.train(np.tile(XT, (2, 1)))
    mapped.add_with_ids(XB, np.arange(300))
    assert inside.is_trained
    assert_same(mapped.search(XQ, 5), inside.search(XQ, 5))


def test_training_again_replaces_the_encoder():
    index = trained(Scaled(D_IN))
    first, s = weakref.ref(index.encoder), index.encoder.s
    index.train(XT * 4)
    gc.collect()
    assert index.encoder.s == pytest.approx(4 * s)
    assert first() is None
    index.add(XB)
    assert_same(native(index).search(XQ, 5), index.search(XQ, 5))


def test_codebooks_do_not_complete_an_encoder_that_learns():
    index = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN))
    with pytest.raises(RuntimeError, match="fitted encoder"):
        index.codebooks = np.zeros((M, 16, D_IN // M), np.float32)
    assert not index.is_trained
