#!/usr/bin/env bash
# faiss-cpu 1.15.1: range_search of an IVF index takes max_codes, and pays no attention to it.
#
# A limit on the codes of a query that `search` keeps, `range_search` takes in the same parameters without a
# word and goes through all the lists. A service that bounds its time by max_codes is not bounded there.
#
# Seen: 32 lists of 125 vectors, all of them to be probed: max_codes = 200 and no limit find the same number
# of vectors, where `search` with max_codes = 200 finds 200 of them a query
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((4000, 16)).astype(np.float32)
index = faiss.index_factory(16, "IVF32,Flat")
index.train(x)
index.add(x)


def found(max_codes):
    params = faiss.SearchParametersIVF(nprobe=32, max_codes=max_codes)
    lims, _, _ = index.range_search(x[:50], 20.0, params=params)
    _, ids = index.search(x[:50], 1000, params=params)
    return int(lims[-1]), float((ids >= 0).sum(axis=1).mean())


seen = {max_codes: found(max_codes) for max_codes in (0, 200)}
print(faiss.__version__, "vectors in range of all queries, results of a search:", seen)
raise SystemExit(not (seen[0][0] == seen[200][0] > 50 * 200 and seen[200][1] == 200))
EOF
