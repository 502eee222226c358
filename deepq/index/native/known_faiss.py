"""Which releases of faiss and machines our declarations of its classes are tested with."""

from __future__ import annotations

import platform
import re
import sys

import faiss

_OLDEST, _BEYOND = (1, 14, 2), (1, 16)  # as in pyproject.toml
_MACHINES = ("x86_64", "aarch64")


def untested() -> str:
    """Say why nothing is known about the classes of this faiss on this machine, if so."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", faiss.__version__)
    version = tuple(map(int, numbers.groups())) if numbers else ()
    if not _OLDEST <= version < _BEYOND:
        return f"it is tested with faiss from 1.14.2 to 1.15, this is {faiss.__version__}"
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return f"it is tested on Linux on {' and '.join(_MACHINES)} only"
    return ""
