"""A stand-in of the harnesses that run `integrations/`: what they call, and how they count.

Written from their documented interfaces: a module beside `base.module`, which has a class
`BaseANN`; its class is made with the arguments of a definition. Then come `fit`, for each group of
query arguments `set_query_arguments`, and `query`, or `batch_query` and `get_batch_results`. Ids
are looked up in the base, so each must be a row of it.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

INTEGRATIONS = Path(__file__).parents[2] / "integrations"


class BaseANN:
    def done(self) -> None: ...

    def get_memory_usage(self) -> float:
        return 0.0

    def get_additional(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return self.name


def module_of(folder: str) -> Any:
    """Import `integrations/FOLDER/module.py` as the harness does, inside a package of its own."""
    package = f"standin_{folder}"
    for name in (package, f"{package}.base", f"{package}.deepq"):
        sys.modules.setdefault(name, types.ModuleType(name)).__path__ = []
    base = types.ModuleType(f"{package}.base.module")
    base.BaseANN = BaseANN
    sys.modules[base.__name__] = base
    path = INTEGRATIONS / folder / "module.py"
    spec = importlib.util.spec_from_file_location(f"{package}.deepq.module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def definitions(config: dict[str, Any], kind: str, metric: str) -> list[tuple[str, list, list]]:
    """Return constructor, arguments and groups of query arguments of all runs of a config.yml."""
    found = []
    for entry in config[kind].get("any", []) + config[kind].get(metric, []):
        given = [metric if one == "@metric" else one for one in entry["base_args"]]
        for group in entry["run_groups"].values():
            queries = [list(one) for one in itertools.product(*group["query_args"])]
            for arguments in itertools.product(*group["args"]):
                found.append((entry["constructor"], [*given, *arguments], queries))
    return found


def run(algorithm: Any, X: Any, Q: Any, groups: list, count: int, *, batch: bool) -> list[Any]:
    """Fit, and search with every group of query arguments; return ids, a list for each query."""
    before = X.copy(), Q.copy()
    assert algorithm.get_memory_usage() is not None
    algorithm.fit(X)
    answers = []
    for group in groups:
        algorithm.set_query_arguments(*group)
        if batch:
            algorithm.batch_query(Q, count)
            found = algorithm.get_batch_results()
        else:
            found = [algorithm.query(q, count) for q in Q]
        for ids in found:
            numbers = [int(i) for i in ids]
            assert len(set(numbers)) == len(numbers) <= count
            assert all(0 <= i < len(X) for i in numbers)
            assert X[ids].shape == (len(numbers), X.shape[1])  # ids that can index rows
        answers.append([[int(i) for i in ids] for ids in found])
        assert isinstance(str(algorithm), str)
        assert algorithm.get_additional()["bytes_per_vector"] > 0
    algorithm.done()
    for kept, given in zip(before, (X, Q), strict=True):
        np.testing.assert_array_equal(kept, given)  # nothing is changed in place
    return answers


def recall(answers: list[list[int]], gt: Any) -> float:
    hits = [len(set(ids) & set(row)) for ids, row in zip(answers, gt.tolist(), strict=True)]
    return sum(hits) / gt.size
