"""Training time of the default encoder against faiss's OPQ, on correlated Gaussian vectors.

    python -m benchmarks.speed.bench_train --d 128 384 768 --output benchmarks/results/train.jsonl

CPU seconds of the whole process, one thread; the error is the mean squared error of vectors not
trained on, relative to their variance. M is d / 16.
"""

from __future__ import annotations

import time
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import deepq
from benchmarks.common.harness import in_one_thread, parser
from benchmarks.common.results import record, table

COLUMNS = ["d", "M", "rows", "method", "train_cpu_s", "relative_error"]
HELD_OUT = 2000


def correlated(n: int, d: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Gaussian vectors whose variances fall like 1 / rank along random axes."""
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0] / np.sqrt(np.arange(1, d + 1))[:, None]
    return rng.standard_normal((n, d), dtype=np.float32) @ axes.astype(np.float32)


def measure(index: Any, x: NDArray[np.float32]) -> dict[str, float]:
    """Train on all but the last rows, and reconstruct those."""
    start = time.process_time()
    index.train(x[:-HELD_OUT])
    seconds = time.process_time() - start
    held = x[-HELD_OUT:]
    error = np.square(held - index.sa_decode(index.sa_encode(held))).sum(axis=1).mean()
    return {"train_cpu_s": seconds, "relative_error": float(error / held.var(axis=0).sum())}


def main() -> None:
    """Train both at every dimension asked for."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--d", type=int, nargs="+", default=[128, 384, 768])
    arguments.add_argument("--rows", type=int, default=20_000)
    options = arguments.parse_args()
    if options.smoke:
        options.d, options.rows = [32], 1000
    rows = []
    for d in options.d:
        M = d // 16
        x = correlated(options.rows + HELD_OUT, d, np.random.default_rng(options.seed))
        opq = faiss.IndexPreTransform(faiss.OPQMatrix(d, M), faiss.IndexPQ(d, M, 8))
        least_error = deepq.TrainConfig(seed=options.seed, ranking=False)
        ours = deepq.DeepQuantIndex(d, M, training=least_error)
        for method, index in (("faiss OPQ", opq), ("deepq", ours)):
            row = {"d": d, "M": M, "rows": options.rows, "method": method, **measure(index, x)}
            record(options.output, {"benchmark": "train", "seed": options.seed, **row})
            rows.append(row)
    print(table(rows, COLUMNS))


if __name__ == "__main__":
    in_one_thread(main)
