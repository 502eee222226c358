"""Search WordNet's glosses in LangChain's FAISS store, with a re-ranked index of 16 bytes a text.

    pip install '.[clients]'
    python examples/langchain_store.py

The embeddings ship with the package, so no model is needed. The store is saved and loaded as any
other; that the index in it comes back whole takes the one line `deepq.patch_faiss()`.
"""

from __future__ import annotations

import tempfile
from typing import Any

from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import Embeddings

import deepq


class Glosses(Embeddings):
    """Embeddings of texts that are known already, in place of a model."""

    def __init__(self, data: deepq.datasets.Dataset) -> None:
        texts = [*data.base_texts, *data.query_texts]
        self._rows = dict(zip(texts, [*data.base, *data.query], strict=True))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one embedding for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the embedding of a text."""
        return self._rows[text].tolist()


def main() -> None:
    """Fill a store, save it, load it, and ask it."""
    deepq.patch_faiss()
    data = deepq.datasets.wordnet_glosses()
    training = deepq.TrainConfig(preset="fast")
    index = deepq.DeepQuantIndex(data.d, 16, metric="cosine", training=training, rerank=100)
    index.train(data.train)

    embeddings = Glosses(data)
    how: dict[str, Any] = {"relevance_score_fn": lambda cosine: (1 + cosine) / 2}
    store = FAISS(embeddings, index, InMemoryDocstore(), {}, **how)
    store.add_texts([str(text) for text in data.base_texts])
    with tempfile.TemporaryDirectory() as folder:
        store.save_local(folder)
        # The texts are a pickle, of our own.
        store = FAISS.load_local(folder, embeddings, allow_dangerous_deserialization=True, **how)
    print(store.index)
    for query in data.query_texts[:3]:
        print(f"\n{query}")
        for document, score in store.similarity_search_with_relevance_scores(str(query), k=3):
            print(f"  {score:.3f}  {document.page_content}")


if __name__ == "__main__":
    main()
