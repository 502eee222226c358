"""What is public is one list: every name by its path, with its parameters.

The list is `public_names.txt`. A change there is a change for users: run this file as a module
(`python -m tests.house.test_public_names`) to write it anew, and read the difference.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import deepq

LIST = Path(__file__).parent / "public_names.txt"
FRONTS = (
    "deepq",
    "deepq.datasets",
    "deepq.decoders",
    "deepq.encoders",
    "deepq.metrics",
    "deepq.networks",
    "deepq.objectives",
    "deepq.plots",
    "deepq.quantizers",
    "deepq.recipes",
    "deepq.sklearn",
)


def parameters(function: Any) -> str:
    """Return the parameters of a function as they are written, without their types."""
    signature = inspect.signature(function)
    plain = [
        each.replace(
            annotation=inspect.Parameter.empty,
            default=each.default
            if each.default is inspect.Parameter.empty or not hasattr(each.default, "__name__")
            else each.default.__name__,
        )
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield what deepq's own classes define for a class, the nearest definition of each name.

    What is handed on to faiss as it is has the parameters of the faiss that is installed: not ours.
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("deepq"):
            found |= {name: value for name, value in vars(base).items() if name[0] != "_"}
    for name, value in sorted(found.items()):
        if not callable(value) or value.__module__.startswith("deepq"):
            yield name, value


def lines_of(path: str, value: Any) -> Iterator[str]:
    """Yield the lines of a public name: of a class also those of its members."""
    if isinstance(value, ModuleType):
        yield path
    elif inspect.isclass(value):
        yield path + ("" if issubclass(value, Exception) else parameters(value))
        for name, member in members(value):
            function = getattr(member, "__func__", member)
            yield f"{path}.{name}" + (parameters(function) if callable(function) else "")
    else:
        yield path + (parameters(value) if callable(value) else "")


def public_names() -> list[str]:
    """Return a line for every public name."""
    found = []
    for path in FRONTS:
        module = import_module(path)
        for name in sorted(module.__all__):
            found += lines_of(f"{path}.{name}", getattr(module, name))
    return found


def test_public_names_and_their_parameters_are_those_of_the_list() -> None:
    listed = LIST.read_text(encoding="utf-8").splitlines()
    assert public_names() == listed, "python -m tests.house.test_public_names writes the list anew"


@pytest.mark.parametrize("path", FRONTS)
def test_all_names_can_be_imported_from_their_front(path: str) -> None:
    module = import_module(path)
    for name in module.__all__:
        scope: dict[str, Any] = {}
        exec(f"from {path} import {name}", scope)  # as a user does
        assert scope[name] is getattr(module, name)
        assert name in dir(module)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'deepq' has no attribute 'nothing'"):
        deepq.nothing  # noqa: B018


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
