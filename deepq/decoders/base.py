"""What every decoder is: arrays of numbers that stay as they are, and some settings."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from deepq._common.checks import as_count
from deepq._common.types import Floats, InCells
from deepq.decoders.checks import as_positive, as_quarters, as_share
from deepq.decoders.lengths import levelled

if TYPE_CHECKING:
    from typing_extensions import Self

Check = Callable[[Any, str], Any]  # of a setting, given its name


class FixedNumbers:
    """Arrays, and settings, of which every decoder has these.

    Parameters
    ----------
    shrink : float
        `decode` draws reconstructions by this factor towards the centre, which ranks better: see
        `training.ranking`.
    levelling, length : float
        `ProductQuantizer.reconstruct` gives vectors lengths nearer to `length`, as far as
        `levelling` says, 0 to 1 in quarters: see `lengths`.
    spare : int
        When k of some vectors are to be ranked, 2 k and so many more are decoded, those that sums
        of the `summands` put first; 0 for all.
    """

    arrays: dict[str, Floats]
    shrink: float
    levelling: float
    length: float
    spare: int

    _checks: ClassVar[Mapping[str, Check]] = {
        "shrink": as_share,
        "levelling": as_quarters,
        "length": as_positive,
        "spare": as_count,
    }

    _choosing: ClassVar[tuple[str, ...]] = ()  # settings that the words of a vector depend on

    def _set(self, **settings: Any) -> None:
        """Take all settings. Raises InputError, or KindError, if one is wrong."""
        for name, check in self._checks.items():
            setattr(self, name, check(settings[name], name))

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor besides the arrays."""
        return {name: getattr(self, name) for name in self._checks}

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

    def chooses_like(self, other: FixedNumbers) -> bool:
        """Whether another is a decoder of the same numbers that chooses the same words."""
        if self.arrays is not other.arrays:
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self._choosing)

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
