#!/usr/bin/env bash
# faiss-cpu 1.15.1: which of equally near codewords a vector gets depends on the SIMD level.
#
# A vector of zeros is equally near to all 256 corners of a cube of 8 dimensions, to the bit. The same
# call gives it code 0 at level NONE and code 248 at AVX2. So codes that are written on one machine are
# not those that another one writes of the same vectors, where vectors or codebooks are of few values:
# binary codes, bytes, rows of zeros. Needs a processor with AVX2.
#
# Seen: NONE 0, AVX2 248
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet faiss-cpu==1.15.1 numpy==2.2.6
"$folder/venv/bin/python" - <<'EOF'
import faiss
import numpy as np

corners = (np.arange(256)[:, None] >> np.arange(8) & 1) * 2 - 1
quantizer = faiss.ProductQuantizer(8, 1, 8)
faiss.copy_array_to_vector(corners.astype(np.float32).ravel(), quantizer.centroids)
zeros, seen = np.zeros((1, 8), np.float32), {}
for name in ("NONE", "AVX2"):
    faiss.SIMDConfig.set_level(getattr(faiss, f"SIMDLevel_{name}"))
    seen[name] = int(quantizer.compute_codes(zeros)[0, 0])
print(faiss.__version__, seen)
raise SystemExit(seen != {"NONE": 0, "AVX2": 248})
EOF
