"""How pictures look: colours, marks and axes. matplotlib is imported when something is drawn.

Six colours that people with any kind of colour blindness tell apart, at a contrast of 3 : 1 or more
on white and on black. The first three are of M. Okabe and K. Ito, "Color universal design" (2008);
the others lie as far from them, and from each other, as such eyes see. Every series has a mark and
a dash of its own as well, so that a picture is read in grey. Text and lines of axes have the
colours of the user's style, a dark one included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from deepq._common.errors import KindError
from deepq._common.extras import need

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8A2BE2", "#5F6273", "#DE1B51")
SIZE = (6.0, 4.0)  # inches

_MOST_TICKS = 8
_MARKS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (5, 2, 1, 2)), (0, (8, 2)), ":")


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    mark: str
    dashes: Any


def look(number: int) -> Look:
    """Return how the series of a number, from 0, is drawn; from the seventh on they repeat."""
    place = number % len(COLOURS)
    return Look(COLOURS[place], _MARKS[place], _DASHES[place])


def needed(module: str) -> Any:
    """Import a module of matplotlib. Raises ImportError that says how to install it."""
    return need(module, "draw", "plots")


def axes_of(ax: Any) -> Any:
    """Return the Axes that are given, or those of a new figure of pyplot's.

    Raises KindError for anything but None or Axes.
    """
    if ax is None:
        return needed("matplotlib.pyplot").subplots(figsize=SIZE, layout="constrained")[1]
    if not hasattr(ax, "plot") or not hasattr(ax, "set_xlabel"):
        raise KindError(f"expected ax to be Axes of matplotlib, or None, got {type(ax).__name__}")
    return ax


def finish(ax: Any, x: str, y: str, *, names: bool = True) -> Any:
    """Label the axes, draw a grid behind everything, and a legend where series have names."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(alpha=0.35, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if names and ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False)
    return ax


def plain_ticks(ax: Any, values: Iterable[float]) -> None:
    """Let a logarithmic x axis have these numbers beside its ticks, or of many powers of ten."""
    ticker = needed("matplotlib.ticker")
    ticks = sorted(set(values))
    if len(ticks) > _MOST_TICKS:
        ticks = [tick for tick in ticks if math.log10(tick).is_integer()]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.xaxis.set_minor_locator(ticker.NullLocator())


def series_of(values: Any, kind: str) -> dict[str, Any]:
    """Return what is drawn, by name: a mapping as it is, anything else under an empty name.

    Raises KindError where a name is no text.
    """
    if not isinstance(values, Mapping):
        return {"": values}
    unnamed = [name for name in values if not isinstance(name, str)]
    if unnamed:
        raise KindError(f"expected names of {kind} to be str, got {type(unnamed[0]).__name__}")
    return dict(values)


def rounded(most: float, steps: Sequence[int] = (1, 2, 5)) -> list[int]:
    """Return 1, 2, 5, 10, 20, 50, ... up to `most`, and `most` itself."""
    found, scale = [], 1
    while scale <= most:
        found += [step * scale for step in steps if step * scale <= most]
        scale *= 10
    return sorted({*found, int(most)})
