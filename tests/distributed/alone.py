"""A network of its own for what starts Ray: see alone.sh."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ALONE = Path(__file__).with_name("alone.sh")


def need_ray() -> None:
    """Skip the test where Ray is missing, or no network namespace can be made."""
    pytest.importorskip("ray", reason="needs deepq[ray]")
    if subprocess.run([ALONE, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
