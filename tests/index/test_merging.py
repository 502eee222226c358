"""Merging what faiss has read or copied of an index, and what it has not."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

import deepq
from deepq.encoders import Affine, Identity

from .reranked import builders as reranked

D = 16
X = np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)
TURN = np.linalg.qr(X[:D])[0]
KINDS = {
    "rotation": {},
    "no encoder": {"encoder": Identity(D)},
    "affine": {"encoder": Affine(TURN, np.ones(D))},
    "cosine": {"metric": "cosine"},
}


def made(x=X[:50], seed: int = 1, **options) -> deepq.DeepQuantIndex:
    training = deepq.TrainConfig(ranking=False, epochs=2, seed=seed)
    index = deepq.DeepQuantIndex(D, 4, 4, training=training, **options)
    index.train(X)
    index.add(x)
    return index


def read(index, path):
    faiss.write_index(index, str(path))
    return faiss.read_index(str(path))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_what_faiss_has_read_is_merged_and_emptied(options, tmp_path):
    index, both = made(**options), made(X[:50], **options)
    other = made(X[50:90], **options)
    back = read(other, tmp_path / "other")
    index.check_compatible_for_merge(back)
    index.merge_from(back)
    both.merge_from(other)
    assert (index.ntotal, back.ntotal) == (90, 0)
    np.testing.assert_array_equal(index.search(X[:9], 5), both.search(X[:9], 5))


def test_what_faiss_has_cloned_is_merged_and_emptied():
    index = made()
    clone = faiss.clone_index(index)
    index.merge_from(clone)
    assert (index.ntotal, clone.ntotal) == (100, 0)


@pytest.mark.parametrize(
    "other",
    [{"seed": 2}, {"encoder": Identity(D)}, {"metric": faiss.METRIC_INNER_PRODUCT}],
    ids=["codebooks", "encoder", "metric"],
)
def test_another_training_is_refused(other, tmp_path):
    index, back = made(), read(made(**other), tmp_path / "other")
    with pytest.raises(ValueError, match="same encoder and codebooks"):
        index.merge_from(back)
    assert (index.ntotal, back.ntotal) == (50, 50)


def test_the_decoder_counts_and_how_many_are_ranked_anew_does_not(tmp_path):
    index = reranked.filled()
    back = read(index, tmp_path / "index")
    index.rerank = 3
    index.merge_from(back)
    assert index.ntotal == 2 * len(reranked.XB)
    without = deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder)
    with pytest.raises(ValueError, match="same encoder and codebooks"):
        index.merge_from(read(without, tmp_path / "without"))


def test_an_untrained_one_is_refused():
    empty = faiss.clone_index(deepq.DeepQuantIndex(D, 4, 4))
    with pytest.raises(ValueError, match="two trained indexes"):
        made().merge_from(empty)


def test_the_native_object_of_the_index_itself_is_refused():
    index = made()
    with pytest.raises(ValueError, match="got the same one"):
        index.merge_from(faiss.downcast_index(index))
    assert index.ntotal == 50


@pytest.mark.parametrize("other", [faiss.IndexFlatL2(D), faiss.IndexPQ(D, 4, 4)], ids=type)
def test_an_index_that_is_none_of_ours_is_named(other):
    with pytest.raises(ValueError, match=f"got {type(other).__name__}"):
        made().merge_from(other)
