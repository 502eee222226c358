"""Indexes of ours out of what faiss has read or is to clone, in composites as well."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from deepq._common.errors import FormatError
from deepq.index.interop import copy_of
from deepq.index.native import called
from deepq.index.native.cells import NativeCells
from deepq.index.native.composites import nested, put_inside
from deepq.index.native.flat import NativeFlat
from deepq.index.native.originals import written


def revive(index: Any, network: Any = None) -> Any:
    """Return what faiss has just read, as an index of ours where it was written from one.

    A composite gets the index inside. Anything else is returned as it is. `network` is for those
    that need one. Raises FormatError for damaged data of ours, and where a network is missing.
    """
    own = _revived(index, network)
    if own is not None:
        return own
    for depth, inner in enumerate(nested(index)[1:], 1):
        own = None if called.fault() else _revived(inner, network)
        if own is not None:
            put_inside(index, depth, own)
            break
    return index


def _revived(index: Any, network: Any) -> Any:
    if called.living(index) is not None:
        return None
    source = NativeCells.of(index) or NativeFlat.of(index)
    if source is None or not source.is_ours:
        return None
    try:
        return copy_of(source)
    except FormatError:
        if network is None:
            raise
    return copy_of(source, network)


def clone(index: Any, as_faiss: Callable[[Any], Any]) -> Any:
    """Clone an index `as_faiss` does, but one of ours as a copy, alone or in a composite."""
    for depth, inner in enumerate(nested(index)):
        living = called.living(inner)
        if living is not None and not depth:
            return copy.deepcopy(living)
        if living is not None and not called.fault():
            cloned = written(index)  # clones of faiss's lack some transforms
            put_inside(cloned, depth, copy.deepcopy(living))
            return cloned
    return as_faiss(index)


@contextmanager
def unchanged(index: Any) -> Iterator[None]:
    """Let changes of an index of ours wait, alone or in a composite, while the context lasts."""
    living = [found for each in nested(index) if (found := called.living(each)) is not None]
    with ExitStack() as held:
        for each in living:
            held.enter_context(each._lock.reading())
        yield
