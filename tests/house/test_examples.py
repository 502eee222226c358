"""The examples run, are small and listed. `make demo` runs the demo, tests/clients another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .test_readme import ROOT, RUN

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ELSEWHERE = {"demo.py", "langchain_store.py"}
# What the last line says, so that an example cannot end early.
LAST = {
    "migrate_faiss_file.py": "same ids: 100.0%",
    "own_network.py": "show the same",
    "search_log.py": "with the log: mAP",
    "text_search.py": "",
}


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES} - ELSEWHERE))
def test_it_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT / "examples" / name)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert LAST[name] in done.stdout.splitlines()[-1]


def test_they_are_small():
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in EXAMPLES}
    assert {name for name, length in lengths.items() if length > 65} == {"demo.py"}


def test_they_are_listed():
    page = (ROOT / "docs" / "examples.md").read_text("utf-8")
    assert all(f"(../examples/{path.name})" in page for path in EXAMPLES)
