#!/usr/bin/env bash
# faiss-cpu 1.15.1: with a selector, max_codes no longer limits the codes that a search goes through.
#
# `SearchParametersIVF(max_codes=200)` ends the search of a query after 200 codes, so it bounds the time.
# Together with a selector only those codes count that the selector allows. One that allows 2 % of the ids
# lets the search go through every list, though the limit is the same: the calls that were to be cheap
# are the longest. What max_codes counts is not said anywhere.
#
# Seen: 32 lists of 125 vectors, all of them to be probed, max_codes = 200. Without a selector the results
# come from 2 lists, with one that allows 80 ids from 31.7 of the 32
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
list_of = np.empty(len(x), np.int64)
for number in range(index.nlist):
    size = index.invlists.list_size(number)
    list_of[faiss.rev_swig_ptr(index.invlists.get_ids(number), size)] = number


def lists_seen(k, sel):
    params = faiss.SearchParametersIVF(nprobe=32, max_codes=200, sel=sel)
    _, ids = index.search(x[:50], k, params=params)
    return float(np.mean([len(set(list_of[row[row >= 0]])) for row in ids]))


some = faiss.IDSelectorBatch(np.arange(0, len(x), 50))
seen = {"without a selector": lists_seen(1000, None), "with one": lists_seen(80, some)}
print(faiss.__version__, seen)
raise SystemExit(not (seen["without a selector"] < 4 and seen["with one"] > 28))
EOF
