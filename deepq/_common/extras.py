"""Packages that not everybody has: imported when needed, and named where they are missing."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def need(module: str, what: str, extra: str, package: str = "") -> Any:
    """Import and return a module of a package that an extra of deepq installs.

    Parameters
    ----------
    module, what : str
        Its name, and what it is needed for, behind "to".
    extra, package : str
        Names for pip; `package` is by default the first part of `module`.

    Raises
    ------
    ImportError
        If it is missing or does not load; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = package or module.partition(".")[0]
        raise ImportError(
            f"expected {package}, to {what}, got: {error}; pip install 'deepq[{extra}]'"
        ) from error


def need_torch(what: str = "make, train or use a network") -> None:
    """Raise ImportError that says how to install torch, where it is missing or does not load."""
    if "torch" not in sys.modules:
        need("torch", what, "train")
