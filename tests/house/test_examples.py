"""The examples run, are small and listed. `make demo` runs the demo, tests/clients another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.distributed.alone import ALONE, need_ray

from .test_readme import ROOT, RUN

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ELSEWHERE, ON_RAY = {"demo.py", "langchain_store.py"}, {"distributed.py"}
# What the last line says, so that an example cannot end early.
LAST = {
    "distributed.py": "all answers were those of one index",
    "migrate_faiss_file.py": "same ids: 100.0%",
    "own_network.py": "show the same",
    "search_log.py": "with the log: mAP",
    "text_search.py": "",
}


def run(name, folder, *before):
    done = subprocess.run(
        [*before, sys.executable, "-c", RUN, str(ROOT / "examples" / name)],
        cwd=folder,
        env={**os.environ, "PYTHONSAFEPATH": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert LAST[name] in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", sorted({p.name for p in EXAMPLES} - ELSEWHERE - ON_RAY))
def test_it_runs(name, tmp_path):
    run(name, tmp_path)


@pytest.mark.ray
@pytest.mark.parametrize("name", sorted(ON_RAY))
def test_it_runs_on_ray(name, tmp_path):
    need_ray()
    run(name, tmp_path, ALONE)


def test_they_are_small():
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in EXAMPLES}
    assert {name for name, length in lengths.items() if length > 65} == {
        "demo.py",
        "distributed.py",
    }


def test_they_are_listed():
    page = (ROOT / "docs" / "examples.md").read_text("utf-8")
    assert all(f"(../examples/{path.name})" in page for path in EXAMPLES)
