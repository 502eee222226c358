#!/usr/bin/env bash
# faiss-cpu 1.15.1: after a reload, an index behind a LinearTransform reconstructs wrong vectors.
#
# LinearTransform undoes itself by its transpose, which is right where its matrix is orthonormal, and
# raises where `is_orthonormal` is False. Files do not keep that flag: reading sets it to True for every
# matrix. So the same call that raised before `serialize_index` returns a wrong vector after it, silently.
#
# Seen: before: RuntimeError (reverse transform not implemented ...); after: a vector that is 0.6 off
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

rng = np.random.default_rng(0)
x = rng.standard_normal((100, 8)).astype(np.float32)
A = (np.eye(8) + 0.2 * rng.standard_normal((8, 8))).astype(np.float32)
transform = faiss.LinearTransform(8, 8, False)
faiss.copy_array_to_vector(A.ravel(), transform.A)
transform.is_trained = True
index = faiss.IndexPreTransform(transform, faiss.IndexFlatL2(8))
index.add(x)
try:
    index.reconstruct(0)
    before = "an answer"
except RuntimeError as error:
    before = "not implemented" if "not implemented for non-orthonormal" in str(error) else str(error)
again = faiss.deserialize_index(faiss.serialize_index(index))
error = float(abs(again.reconstruct(0) - x[0]).max())
print(faiss.__version__, "before:", before, "after: off by", round(error, 3))
raise SystemExit(not (before == "not implemented" and error > 0.1))
EOF
