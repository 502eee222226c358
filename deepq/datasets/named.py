"""What the readers of files with named parts have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepq._common.errors import InputError
from deepq._common.extras import need


def needed(module: str, what: str, package: str = "") -> Any:
    """Import a module of an optional package.

    Raises ImportError that says how to install it, where it is missing or does not load.
    """
    return need(module, f"read {what}", "formats", package)


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
