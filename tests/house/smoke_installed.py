"""Check an installed deepq from outside its checkout: train, add, search, the shipped data.

Where it is installed without extras there is no torch, and none is needed.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from pathlib import Path

import deepq


def main() -> None:
    site_packages = Path(sysconfig.get_path("purelib")).resolve()
    home = Path(deepq.__file__).resolve().parent
    if site_packages not in home.parents:
        raise SystemExit(f"expected deepq from {site_packages}, got {home}")
    native = [
        f"index/native/{name}.pyi" for name in ("_bridge", "_called", "_mapped", "_mapped_lists")
    ]
    for name in ("py.typed", "_decode.pyi", "_scan.pyi", *native):
        if not (home / name).exists():
            raise SystemExit(f"expected {name} in {home}")

    data = deepq.datasets.wordnet_glosses()
    index = deepq.DeepQuantIndex(data.d, 16, 8)
    index.train(data.train)
    index.add(data.base)
    _, I = index.search(data.query, 10)
    found = deepq.metrics.recall(I, data.gt, k=1, r=10)
    with tempfile.TemporaryDirectory() as folder:
        deepq.write_index(index, Path(folder) / "index.dpq")
        again = deepq.read_index(Path(folder) / "index.dpq")
    if (again.search(data.query, 10)[1] != I).any():
        raise SystemExit("expected the same results of an index that was saved and loaded")
    if "torch" in sys.modules:
        raise SystemExit("expected no import of torch")
    print(f"deepq {deepq.__version__} in {home}: R@10 = {found:.3f}")
    if found < 0.8:
        raise SystemExit(f"expected R@10 of at least 0.8, got {found:.3f}")


if __name__ == "__main__":
    main()
