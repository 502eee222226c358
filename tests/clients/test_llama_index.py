"""LlamaIndex's FAISS stores: one of positions, and one of ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest

from .kinds import XB, XQ, bare, made

pytest.importorskip("llama_index.vector_stores.faiss", reason="needs deepq[clients]")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.faiss import FaissMapVectorStore, FaissVectorStore

N = 100  # rows, which both stores add one by one


def nodes_of(rows: Any = range(N)) -> list[TextNode]:
    return [TextNode(id_=f"n{i}", text=str(i), embedding=XB[i].tolist()) for i in rows]


def answers(store: Any, q: int, k: int = 5) -> tuple[list[float], list[str]]:
    found = store.query(VectorStoreQuery(query_embedding=XQ[q].tolist(), similarity_top_k=k))
    return found.similarities, found.ids


def assert_answers_as(store: Any, index: Any, names: Any, k: int = 5) -> None:
    """Hold the store's answers against those of an index whose row i is called names[i]."""
    D, I = index.search(XQ, k)
    for q in range(len(XQ)):
        scores, ids = answers(store, q, k)
        assert ids == [names[i] for i in I[q] if i >= 0]
        np.testing.assert_allclose(scores, D[q][I[q] >= 0], rtol=1e-4, atol=1e-5)


def one_by_one(index: Any, rows: Any = range(N)) -> Any:
    for i in rows:
        index.add(XB[i : i + 1])
    return index


def test_positions(kind):
    store = FaissVectorStore(made(kind))
    assert store.add(nodes_of()) == [str(i) for i in range(N)]
    assert_answers_as(store, one_by_one(made(kind)), [str(i) for i in range(N)])


@pytest.mark.usefixtures("patched")
def test_positions_persist(kind, tmp_path):
    store = FaissVectorStore(made(kind))
    store.add(nodes_of(range(N - 20)))
    store.persist(str(tmp_path / "store" / "default__vector_store.json"))
    again = FaissVectorStore.from_persist_dir(str(tmp_path / "store"))
    assert type(again.client) is type(made(kind))
    again.add(nodes_of(range(N - 20, N)))
    assert_answers_as(again, one_by_one(made(kind)), [str(i) for i in range(N)])


def map_store(kind: str, around: Any = faiss.IndexIDMap2) -> FaissMapVectorStore:
    store = FaissMapVectorStore(around(made(kind)))
    store.add(nodes_of())
    return store


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("around", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_ids_persist(kind, around, tmp_path):
    store = map_store(kind, around)
    index, names = one_by_one(made(kind)), [f"n{i}" for i in range(N)]
    assert_answers_as(store, index, names)
    store.persist(str(tmp_path / "default__vector_store.json"))
    again = FaissMapVectorStore.from_persist_dir(str(tmp_path))
    assert type(again.client) is around
    assert type(faiss.downcast_index(again.client.index)) is type(index)
    assert_answers_as(again, index, names)


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("is_loaded", [False, True])
def test_delete(kind, is_loaded, tmp_path):
    store = map_store(kind)
    if is_loaded:
        store.persist(str(tmp_path / "default__vector_store.json"))
        store = FaissMapVectorStore.from_persist_dir(str(tmp_path))
    store.delete("n3")
    store.delete_nodes([f"n{i}" for i in range(50, 75)])
    gone = np.array([3, *range(50, 75)])
    index, names = one_by_one(made(kind)), np.array([f"n{i}" for i in range(N)], object)
    index.remove_ids(gone)
    if "cells" not in kind:  # whose ids stay
        names = np.delete(names, gone)
    assert_answers_as(store, index, names)


def test_threads(kind):
    store = map_store(kind)
    right = [answers(store, q) for q in range(len(XQ))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: answers(store, i % len(XQ)), range(60)))
    for i, (scores, ids) in enumerate(found):
        assert ids == right[i % len(XQ)][1]
        np.testing.assert_allclose(scores, right[i % len(XQ)][0], rtol=1e-4, atol=1e-5)


class Rows(BaseEmbedding):
    """Texts are numbers of rows, and queries numbers of queries."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return XB[int(text)].tolist()

    def _get_query_embedding(self, query: str) -> list[float]:
        return XQ[int(query)].tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def test_an_index_over_a_store(kind):
    context = StorageContext.from_defaults(vector_store=FaissVectorStore(made(kind)))
    nodes = [TextNode(id_=f"n{i}", text=str(i)) for i in range(N)]
    retriever = VectorStoreIndex(nodes, storage_context=context, embed_model=Rows()).as_retriever(
        similarity_top_k=3
    )
    I = bare(kind, XB[:N]).search(XQ[:3], 3)[1]
    for q in range(3):
        assert [int(found.node.text) for found in retriever.retrieve(str(q))] == I[q].tolist()
