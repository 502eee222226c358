"""What the readers of files with named parts have in common."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from deepq._common.errors import InputError


def needed(module: str, what: str, package: str = "") -> Any:
    """Import a module of an optional package.

    Raises ImportError that says how to install it, where it is missing or does not load.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = package or module.partition(".")[0]
        raise ImportError(
            f"expected {package}, to read {what}, got: {error}; pip install 'deepq[formats]'"
        ) from error


def chosen(where: Any, kind: str, column: str | None, usable: Sequence[str], known: Any) -> str:
    """Return the part that a user asks for, or the only usable one.

    Parameters
    ----------
    where : str or path
        What it is a part of, for errors.
    kind : str
        What a part is called there: "column".
    column : str or None
        What the user asks for.
    usable : sequence of str
        Names of the parts that hold vectors.
    known : iterable of str
        Names of all parts.

    Raises
    ------
    InputError
        If there is no such part, or several are usable and none is asked for.
    """
    if column is not None:
        if column not in known:
            names = ", ".join(map(repr, sorted(known))) or "none"
            raise InputError(f"{where}: expected one of its {kind}s, {names}, got {column!r}")
        return column
    if len(usable) != 1:
        names = ", ".join(map(repr, usable)) or "none"
        raise InputError(
            f"{where}: expected one {kind} of vectors, or the name of one, got {len(usable)}: "
            f"{names}"
        )
    return usable[0]
