#!/usr/bin/env bash
# Ray Data 2.60.0: vectors of a Parquet file come as an object array, those of NumPy as a matrix.
#
# A column of fixed-size lists of float32 is how tables hold vectors: its type says their length. In batches
# of the format "numpy" it becomes an array of objects, (n,), each an array, so that a function that takes
# (n, d) float32 fails, or makes objects of all that follows. `from_numpy` of the same rows gives (n, d)
# float32, so it shows only with files.
#
# Seen: Parquet -> object (10,); NumPy -> float32 (10, 8)
# Ray runs in a network namespace of its own, as it opens ports on the machine's address.
set -euo pipefail
alone="$(cd "$(dirname "$0")/.." && pwd)/tests/distributed/alone.sh"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ray==2.60.0 pyarrow==26.0.1 pandas==2.3.3 numpy==2.2.6 fsspec==2026.9.0
RAY_AUTH_MODE=disabled "$alone" "$folder/venv/bin/python" - "$folder/vectors.parquet" <<'EOF'
import sys

import numpy as np
import pyarrow as pa
import ray
import ray.data
from pyarrow import parquet

x = np.arange(80, dtype=np.float32).reshape(10, 8)
column = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 8)
parquet.write_table(pa.table({"data": column}), sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
seen = {}
for name, data in (("Parquet", ray.data.read_parquet(sys.argv[1])), ("NumPy", ray.data.from_numpy(x))):
    batch = next(iter(data.iter_batches(batch_format="numpy")))["data"]
    seen[name] = (str(batch.dtype), batch.shape)
print(ray.__version__, seen)
raise SystemExit(seen != {"Parquet": ("object", (10,)), "NumPy": ("float32", (10, 8))})
EOF
