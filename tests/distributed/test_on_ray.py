"""Everything that needs Ray: the cases in `on_ray`, run by a pytest in a network of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.alone import ALONE, need_ray

HERE = Path(__file__).parent

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def _ray():
    need_ray()


@pytest.mark.parametrize("cases", ["encode", "search", "serve", "training"])
def test_on_ray(cases, tmp_path):
    """Warnings of Ray's own are not errors. `case_head` takes minutes: make faults."""
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-W", "default", "--durations=5"]
    pytest_ += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [ALONE, *pytest_, "--basetemp", tmp_path / "cases", HERE / "on_ray" / f"case_{cases}.py"],
        cwd=HERE.parents[1],
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "DEEPQ_ON_RAY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
