"""Check an installed deepq from outside its checkout: train, add, search, the shipped data."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import deepq

site_packages = Path(sysconfig.get_path("purelib")).resolve()
if site_packages not in Path(deepq.__file__).resolve().parents:
    raise SystemExit(f"expected deepq from {site_packages}, got {deepq.__file__}")

data = deepq.datasets.wordnet_glosses()
index = deepq.DeepQuantIndex(data.d, 16, 8)
index.train(data.train)
index.add(data.base)
_, I = index.search(data.query, 10)
found = deepq.metrics.recall(I, data.gt, k=1, r=10)
print(f"deepq {deepq.__version__} from {deepq.__file__}: R@10 = {found:.3f}")
if not (Path(deepq.__file__).parent / "py.typed").exists() or found < 0.3:
    raise SystemExit("the installed package is incomplete")
