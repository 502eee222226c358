"""What every decoder is: arrays of numbers that stay as they are, and some settings."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from deepq._common.types import Floats, InCells
from deepq.decoders.lengths import levelled

if TYPE_CHECKING:
    from typing_extensions import Self


class FixedNumbers:
    """Arrays, and settings that a class names in `_names` and takes, all of them, in `_set`."""

    arrays: dict[str, Floats]
    levelling: float
    length: float
    _names: tuple[str, ...]
    _set: Any

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor besides the arrays."""
        return {name: getattr(self, name) for name in self._names}

    def level(self, z: Floats, cells: InCells | None = None) -> Floats:
        """Vectors (n, d) that were decoded, of the lengths that rank best: see `lengths`.

        In `cells` they are what the vectors have besides the centres; lengths are of the whole.
        """
        if not self.levelling:
            return z
        if cells is None:
            return levelled(z, self.levelling, self.length)
        centres = cells.centres[cells.cells]
        return levelled(z + centres, self.levelling, self.length) - centres

    def state(self) -> dict[str, Any]:
        """Its arrays and settings, for `from_state`."""
        return {"arrays": dict(self.arrays), "settings": self.settings}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Make a decoder of the `state` of another; raises KeyError where a part is missing."""
        make: Any = cls
        made: Self = make(state["arrays"], **state["settings"])
        return made

    def with_settings(self, **settings: Any) -> Self:
        """Make a decoder of the same numbers, which are shared, and other settings."""
        other = copy.copy(self)
        other._set(**{**self.settings, **settings})
        return other
