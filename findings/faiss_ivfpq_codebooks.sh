#!/usr/bin/env bash
# faiss-cpu 1.15.1: IndexIVFPQ returns wrong distances once its codebooks have been set.
#
# Training fills a table of inner products of coarse centroids and codewords. Writing other numbers into
# `pq.centroids`, the way to bring codebooks of one's own, leaves that table as it was: adding uses the
# new codewords, searching adds old products to new norms. Distances are then not those to what the index
# reconstructs, silently, until `precompute_table()` is called.
#
# Seen: largest error of a distance 14 before `precompute_table()`, 4e-06 after
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

x = np.random.default_rng(0).standard_normal((5000, 16)).astype(np.float32)
queries = x[:50]
index = faiss.index_factory(16, "IVF16,PQ4x4")
index.train(x)
index.nprobe = 16
codebooks = faiss.vector_to_array(index.pq.centroids)
faiss.copy_array_to_vector((1.5 * codebooks).astype(np.float32), index.pq.centroids)
index.add(x)
index.make_direct_map()


def largest_error():
    D, I = index.search(queries, 5)
    decoded = index.reconstruct_batch(I.ravel()).reshape(*I.shape, 16)
    return float(abs(D - ((queries[:, None] - decoded) ** 2).sum(axis=2)).max())


before = largest_error()
index.precompute_table()
after = largest_error()
print(faiss.__version__, "before:", before, "after:", after)
raise SystemExit(not (before > 1 and after < 1e-3))
EOF
