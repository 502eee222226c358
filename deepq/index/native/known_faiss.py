"""Which releases of faiss and machines our declarations of its classes are tested with."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable

import faiss

_OLDEST, _BEYOND = (1, 14, 2), (1, 16)  # as in pyproject.toml
_MACHINES = ("x86_64", "aarch64")


def _untested() -> str:
    """Say why nothing is known about the classes of this faiss on this machine, if so."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", faiss.__version__)
    version = tuple(map(int, numbers.groups())) if numbers else ()
    if not _OLDEST <= version < _BEYOND:
        return f"it is tested with faiss from 1.14.2 to 1.15, this is {faiss.__version__}"
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return f"it is tested on Linux on {' and '.join(_MACHINES)} only"
    return ""


def fault_of(is_as_declared: Callable[[], bool], works: Callable[[], bool]) -> str:
    """Say why code of ours does not fit this faiss, if so. A step relies on the ones before it.

    Parameters
    ----------
    is_as_declared : callable
        Compares objects of faiss's with our declarations of their classes, and calls none of them.
    works : callable
        Tries the code, and says whether the numbers are right; it may raise.
    """
    if _untested():
        return _untested()
    if not is_as_declared():
        return f"the classes of this faiss {faiss.__version__} are not as expected"
    try:
        return "" if works() else "a trial gave wrong numbers"
    except Exception as error:
        return f"a trial failed: {error!r}"
