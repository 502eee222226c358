"""Hugging Face's datasets with an index on a column."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest

import deepq

from .kinds import XB, XQ, XT, D, bare, made

datasets = pytest.importorskip("datasets", reason="needs deepq[clients]")


def rows_of(rows: Any = XB) -> Any:
    return datasets.Dataset.from_dict({"row": list(range(len(rows))), "emb": rows.tolist()})


def indexed(index: Any, **how: Any) -> Any:
    return rows_of().add_faiss_index("emb", custom_index=index, **how)


def assert_answers_as(dataset: Any, index: Any, k: int = 5) -> None:
    D, I = index.search(XQ, k)
    found = dataset.search_batch("emb", XQ, k)
    np.testing.assert_array_equal(found.total_indices, I)
    np.testing.assert_allclose(found.total_scores, D, rtol=1e-4, atol=1e-5)
    scores, examples = dataset.get_nearest_examples("emb", XQ[0], k)
    assert examples["row"] == I[0].tolist()
    np.testing.assert_allclose(scores, D[0], rtol=1e-4, atol=1e-5)


def test_search(kind):
    assert_answers_as(indexed(made(kind)), bare(kind))


@pytest.mark.usefixtures("patched")
def test_save_and_load(kind, tmp_path):
    indexed(made(kind)).save_faiss_index("emb", tmp_path / "emb.faiss")
    again = rows_of()
    again.load_faiss_index("emb", tmp_path / "emb.faiss")
    index = again.get_index("emb").faiss_index
    assert type(index) is type(made(kind))
    assert_answers_as(again, bare(kind))
    index.add(XB[:10])
    assert index.ntotal == len(XB) + 10


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("around", [faiss.IndexIDMap2, faiss.IndexPreTransform])
def test_save_and_load_a_composite(kind, around, tmp_path):
    index = made(kind)
    dataset = rows_of()
    outer = around(index)
    if around is faiss.IndexIDMap2:
        outer.add_with_ids(XB, np.arange(len(XB)))
    else:
        outer.add(XB)
    dataset.add_faiss_index("emb", index_name="first", custom_index=faiss.IndexFlatL2(D))
    dataset.get_index("first").faiss_index = outer
    dataset.save_faiss_index("first", tmp_path / "emb.faiss")
    again = rows_of()
    again.load_faiss_index("emb", tmp_path / "emb.faiss")
    assert type(again.get_index("emb").faiss_index) is around
    assert_answers_as(again, bare(kind))


def test_it_is_trained_as_well():
    training = deepq.TrainConfig(ranking=False, epochs=1)
    index = deepq.DeepQuantIndex(D, 4, 4, training=training)
    dataset = indexed(index, train_size=len(XB))
    alone = deepq.DeepQuantIndex(D, 4, 4, training=training)
    alone.train(XB)
    alone.add(XB)
    assert_answers_as(dataset, alone)


def test_arrays_of_somebody_else(kind):
    dataset = rows_of(XT)
    dataset.add_faiss_index_from_external_arrays(XB, index_name="emb", custom_index=made(kind))
    np.testing.assert_array_equal(
        dataset.search_batch("emb", XQ, 5).total_indices, bare(kind).search(XQ, 5)[1]
    )


def test_threads(kind):
    dataset, I = indexed(made(kind)), bare(kind).search(XQ, 3)[1]

    def search(i: int) -> Any:
        return dataset.search("emb", XQ[i % len(XQ)], 3).indices

    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(search, range(60))):
            np.testing.assert_array_equal(found, I[i % len(XQ)])


def test_what_docs_say_of_data_sets_with_an_index():
    dataset = indexed(made("native"))
    for change in (
        lambda: dataset.select(range(3)),
        lambda: dataset.filter(lambda _: True),
        lambda: dataset.shuffle(seed=0),
    ):
        with pytest.raises(Exception, match="index"):
            change()
    mapped = dataset.map(lambda row: {"more": len(row["emb"])})
    assert not mapped.list_indexes()


def test_without_train_size_an_index_is_untrained():
    with pytest.raises(RuntimeError, match="trained"):
        indexed(deepq.DeepQuantIndex(D, 4, 4))
    with pytest.raises(RuntimeError, match="trained"):
        rows_of().add_faiss_index("emb", string_factory="PQ4x4")
