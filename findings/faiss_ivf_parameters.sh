#!/usr/bin/env bash
# faiss-cpu 1.15.1: search parameters that name only a selector set nprobe to 1.
#
# `SearchParametersIVF(sel=...)` looks as if it restricted a search and left the rest to the index. Its
# nprobe is 1, whatever `index.nprobe` is, so a search with a selector that allows every id looks at one
# list and finds a fraction of what the same search finds without it.
#
# Seen: with index.nprobe = 16, of 16 lists, 12 % of the ids agree; with index.nprobe = 1 all do
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((2000, 16)).astype(np.float32)
queries = x[:200] + 0.5 * rng.standard_normal((200, 16)).astype(np.float32)
index = faiss.index_factory(16, "IVF16,Flat")
index.train(x)
index.add(x)
every_id = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(0, len(x)))
seen = {}
for index.nprobe in (16, 1):
    same = index.search(queries, 10)[1] == index.search(queries, 10, params=every_id)[1]
    seen[index.nprobe] = float(same.mean())
print(faiss.__version__, seen)
raise SystemExit(not (seen[16] < 0.5 and seen[1] == 1))
EOF
