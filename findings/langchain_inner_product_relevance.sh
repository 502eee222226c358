#!/usr/bin/env bash
# langchain-community 0.4.2: with inner products the best match is the least relevant one.
#
# similarity_search_with_relevance_scores promises scores from 0, dissimilar, to 1, most similar. With
# DistanceStrategy.MAX_INNER_PRODUCT, FAISS turns an inner product s into 1 - s where s is positive, and -s
# where it is not, as if it were a distance. Of unit vectors the document that equals the query gets 0, the
# opposite one 1, and score_threshold=0.5 keeps the opposite and drops the equal one.
#
# Seen: scores: same 0.0, near 0.2, opposite 1.0; above 0.5: ['opposite']
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet langchain-community==0.4.2 faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" -W ignore - <<'EOF'
from langchain_community.vectorstores import FAISS
from langchain_community.vectorstores.utils import DistanceStrategy
from langchain_core.embeddings import Embeddings

VECTORS = {"same": [1.0, 0.0], "near": [0.8, 0.6], "opposite": [-1.0, 0.0]}


class Table(Embeddings):
    def embed_documents(self, texts):
        return [VECTORS[text] for text in texts]

    def embed_query(self, text):
        return VECTORS[text]


store = FAISS.from_texts(list(VECTORS), Table(), distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT)
found = store.similarity_search_with_relevance_scores("same", k=3)
scores = {document.page_content: round(float(score), 3) for document, score in found}
kept = [d.page_content for d, _ in store.similarity_search_with_relevance_scores("same", k=3, score_threshold=0.5)]
print("scores:", scores, "above 0.5:", kept)
raise SystemExit(not (scores == {"same": 0.0, "near": 0.2, "opposite": 1.0} and kept == ["opposite"]))
EOF
