#!/usr/bin/env bash
# llama-index-vector-stores-faiss 0.7.0: after a deletion, a new node gets the id of another one.
#
# FaissMapVectorStore numbers a node by how many there are. Once one has been deleted, the next is given a
# number that is in use: both vectors have it, and the store answers with the new node for either. The old
# node is never found again, and deleting the new one deletes both vectors.
#
# Seen: nodes a b c, a deleted, d added; the nearest to c is d; after deleting d there is 1 vector: b
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet llama-index-vector-stores-faiss==0.7.0 llama-index-core==0.14.25 \
    faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'EOF'
import faiss
import numpy as np
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.faiss import FaissMapVectorStore

VECTORS = dict(zip("abcd", np.eye(4).tolist()))
store = FaissMapVectorStore(faiss.IndexIDMap2(faiss.IndexFlatL2(4)))
nodes = {name: TextNode(id_=name, text=name, embedding=vector) for name, vector in VECTORS.items()}
store.add([nodes[name] for name in "abc"])
store.delete("a")
store.add([nodes["d"]])
nearest = store.query(VectorStoreQuery(query_embedding=VECTORS["c"], similarity_top_k=1)).ids
store.delete("d")
print("nearest to c:", nearest, "vectors after deleting d:", store.client.ntotal)
raise SystemExit(not (nearest == ["d"] and store.client.ntotal == 1))
EOF
