"""The examples of `examples/` that are about other people's programs run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..house.test_readme import ROOT, RUN


def test_a_store_of_glosses(tmp_path):
    pytest.importorskip("langchain_community", reason="needs deepq[clients]")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT / "examples" / "langchain_store.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "DeepQuantIndex" in done.stdout
