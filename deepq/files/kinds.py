"""The kinds of indexes that files and pickles hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deepq._common.errors import FormatError
from deepq.hash_table.index import HashTableIndex, restore_table
from deepq.hash_table.state import held_table, made_table, table_fingerprint
from deepq.index.flat import DeepQuantIndex, restore
from deepq.index.ivf import DeepQuantIVFIndex, restore_cells
from deepq.index.state import held_fingerprint, held_state, make_index

INDEXES = (DeepQuantIndex, DeepQuantIVFIndex, HashTableIndex)
RESTORERS = (restore, restore_cells, restore_table)

_KINDS: dict[str, Any] = {cls.kind: cls for cls in INDEXES}


def class_of(state: dict[str, Any]) -> Any:
    """Return the class of index that a state names. Raises FormatError for an unknown one."""
    kind = state.get("kind", DeepQuantIndex.kind)
    if kind not in _KINDS:
        raise FormatError(f"an index of the kind {kind!r}, which this deepq does not have")
    return _KINDS[kind]


@contextmanager
def held(index: Any) -> Iterator[dict[str, Any]]:
    """Describe an index as it stays while the context lasts: changes wait."""
    of_kind: Any = held_table if isinstance(index, HashTableIndex) else held_state
    with of_kind(index) as state:
        yield {**state, **_mark(index, state)}


def _mark(index: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of a trained index in a state, as a part of that."""
    if not index.is_trained:
        return {}
    is_table = isinstance(index, HashTableIndex)
    return {"fingerprint": table_fingerprint(state) if is_table else held_fingerprint(index)}


def made(state: dict[str, Any], cls: Any) -> Any:
    """Make the index of a state. Raises FormatError for a faulty one."""
    make: Any = made_table if issubclass(cls, HashTableIndex) else make_index
    return make(state, cls)
