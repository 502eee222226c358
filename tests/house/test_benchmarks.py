"""The rooms of benchmarks/: who may import whom, and that an import changes nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "benchmarks"
# A room, and what it may import besides itself.
MAY_IMPORT = {
    "common": set(),
    "faults": {"common"},
    "speed": {"common", "faults"},
    "recall": {"common"},
    "retrieval": {"common"},
    "distributed": {"common"},
    "pages": {"common", "speed"},
}
# What shows results; it may import nothing that measures.
SHOWING = (
    *("recall.curves", "retrieval.plots", "retrieval.hashing_plots"),
    *("distributed.sizing_plots", "pages.fill"),
)

TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in PACKAGE.glob("*/*.py")
    if path.name != "__init__.py"
}


def imports_of(name: str) -> set[str]:
    """Return the files of benchmarks that a file imports."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks."):
            module = node.module.removeprefix("benchmarks.")
            names = [f"{module}.{alias.name}" for alias in node.names]
            found |= {module} if module in TREES else set(names)
    return found


def all_imports_of(name: str) -> set[str]:
    """Return the files of benchmarks that come with a file."""
    found, rest = set(), [name]
    while rest:
        new = imports_of(rest.pop()) - found
        found |= new
        rest += new
    return found


@pytest.mark.parametrize("name", TREES)
def test_a_room_imports_what_it_may(name):
    room = name.split(".")[0]
    assert {other.split(".")[0] for other in imports_of(name)} <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("name", SHOWING)
def test_pictures_and_tables_import_nothing_that_measures(name):
    found = all_imports_of(name)
    assert "common.results" in found
    assert not {other for other in found if ".bench_" in other or other == "common.harness"}


@pytest.mark.parametrize("name", TREES)
def test_an_import_sets_nothing(name):
    for node in TREES[name].body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert docstring or not isinstance(node, ast.Expr), f"line {node.lineno} is a call"
        targets = node.targets if isinstance(node, ast.Assign) else []
        assert all(isinstance(target, ast.Name | ast.Tuple) for target in targets), node.lineno


@pytest.mark.parametrize("name", [name for name in TREES if ".bench_" in name])
def test_what_measures_runs_in_one_thread(name):
    assert ast.unparse(TREES[name].body[-1]).endswith("in_one_thread(main)")
