#!/usr/bin/env bash
# langchain-community 0.4.2: after a deletion, FAISS over an IVF index answers with other documents.
#
# FAISS.delete removes rows by position and then numbers the remaining documents anew from 0, as positions
# in a flat index move up. The ids of faiss.IndexIVFFlat, which the class takes as any other index, do not.
# So every document behind the deleted one is found under its neighbour's text, and the last one is an error.
#
# Seen: before: ['a', 'b', 'c', 'd']; after deleting "a": b -> c, c -> d, d -> KeyError
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet langchain-community==0.4.2 faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'EOF'
import faiss
import numpy as np
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_core.embeddings import Embeddings

VECTORS = dict(zip("abcd", np.eye(4).tolist()))


class Table(Embeddings):
    def embed_documents(self, texts):
        return [VECTORS[text] for text in texts]

    def embed_query(self, text):
        return VECTORS[text]


index = faiss.IndexIVFFlat(faiss.IndexFlatL2(4), 4, 1)
index.train(np.eye(4, dtype=np.float32))
store = FAISS(Table(), index, InMemoryDocstore(), {})
store.add_texts(list("abcd"), ids=list("abcd"))


def found(text):
    try:
        return store.similarity_search(text, k=1)[0].page_content
    except Exception as error:
        return type(error).__name__


before = [found(text) for text in "abcd"]
store.delete(["a"])
after = {text: found(text) for text in "bcd"}
print("before:", before, "after deleting a:", after)
raise SystemExit(not (before == list("abcd") and after == {"b": "c", "c": "d", "d": "KeyError"}))
EOF
