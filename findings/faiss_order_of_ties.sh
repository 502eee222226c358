#!/usr/bin/env bash
# faiss-cpu 1.15.1: equal distances come in ascending id, equal inner products in descending id.
#
# Six equal vectors, of which the first four are asked for. By L2 the lowest ids come, in ascending
# order. By inner product flat indexes and product quantizers give the four lowest ids, in descending
# order, and IndexShards over three parts gives the four highest. So an index cut in parts does not find
# the ids that the whole one does, and ids cannot be compared over metrics.
#
# Seen: L2 0 1 2 3, all; inner product 3 2 1 0 (flat, PQ), 5 4 3 2 (shards)
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

x = np.ones((6, 4), np.float32)


def found(index):
    index.add(x)
    return index.search(x[:1], 4)[1][0].tolist()


def quantizer(metric):
    index = faiss.IndexPQ(4, 2, 4, metric)
    index.train(np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32))
    return index


def shards(metric):
    index = faiss.IndexShards(4, False, True)  # one after the other, ids that follow on each other
    for _ in range(3):
        index.add_shard(faiss.IndexFlat(4, metric))
    return index


makers = {"flat": lambda metric: faiss.IndexFlat(4, metric), "PQ": quantizer, "shards": shards}
seen = {
    name: {key: found(make(metric)) for key, make in makers.items()}
    for name, metric in (("L2", faiss.METRIC_L2), ("IP", faiss.METRIC_INNER_PRODUCT))
}
print(faiss.__version__, seen)
ascending, descending = [0, 1, 2, 3], [3, 2, 1, 0]
expected = {
    "L2": {"flat": ascending, "PQ": ascending, "shards": ascending},
    "IP": {"flat": descending, "PQ": descending, "shards": [5, 4, 3, 2]},
}
raise SystemExit(seen != expected)
EOF
