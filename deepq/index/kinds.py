"""Which class a state is of."""

from __future__ import annotations

from typing import Any

from deepq._common.errors import FormatError
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex

_KINDS = {cls.kind: cls for cls in (DeepQuantIndex, DeepQuantIVFIndex)}


def class_of(state: dict[str, Any]) -> Any:
    """Return the class of index that a state names. Raises FormatError for an unknown one."""
    kind = state.get("kind", DeepQuantIndex.kind)
    if kind not in _KINDS:
        raise FormatError(f"an index of the kind {kind!r}, which this deepq does not have")
    return _KINDS[kind]
