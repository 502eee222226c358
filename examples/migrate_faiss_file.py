"""Take an index that faiss has written: keep the codes, gain the scan.

    python examples/migrate_faiss_file.py [old.faiss [new.dpq]]

Any IndexPQ or IndexIVFPQ, alone, behind OPQ and the like, or in an IndexIDMap2. Without a name one
is made first. Nothing is trained or added anew; answers are compared, and times.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import faiss
import numpy as np

import deepq


def made(path: str) -> None:
    """Write an index of faiss's, as an old program might have."""
    data = deepq.datasets.wordnet_glosses()
    old = faiss.index_factory(data.d, "PCA64,PQ16np")
    old.train(data.train)
    old.add(data.base)
    faiss.write_index(old, path)


def timed(index: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Search, and say how long the fastest of five times took."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        D, I = index.search(x, 10)
        times.append(time.perf_counter() - begun)
    return D, I, min(times)


def main() -> None:
    """Read, compare, write."""
    given = sys.argv[1:]
    old_path = given[0] if given else "old.faiss"
    new_path = given[1] if len(given) > 1 else "new.dpq"
    if not given:
        made(old_path)
    index = deepq.read_index(old_path)  # parsed and checked by deepq, not by faiss
    old = faiss.read_index(old_path)
    x = np.random.default_rng(0).standard_normal((200, old.d)).astype(np.float32)
    D_old, I_old, before = timed(old, x)
    D, I, after = timed(index, x)
    print(f"{index}\nsame ids: {np.mean(I_old == I):.1%}, {before / after:.1f} times as fast")
    np.testing.assert_allclose(D, D_old, rtol=1e-4, atol=1e-4)
    deepq.write_index(index, new_path)  # with checksums; faiss.write_index works as well


if __name__ == "__main__":
    main()
