"""What the presets of a training mean."""

from __future__ import annotations

from typing import NamedTuple

PRESETS = ("default", "fast", "best")

_EPOCHS = 10  # passes over the rows, to learn a decoder
_MOST_VISITS = 2_000_000  # rows seen in them, where one pass is not more
_TRIES = 128  # words tried for a vector in all


class Plan(NamedTuple):
    """Size of a decoder, and how its words are chosen.

    Attributes
    ----------
    hidden : int
        Numbers in the hidden layer.
    tried : int
        Words tried in every sub-space while learning; 1 keeps to the nearest.
    candidates, sweeps : int
        The same for vectors that are stored, and how often around.
    visits : int
        Rows seen in learning.
    """

    hidden: int
    tried: int
    candidates: int
    sweeps: int
    visits: int


def plan(preset: str, d: int, M: int, rows: int, epochs: int | None) -> Plan:
    """Lay out the learning of a decoder for M words and vectors of d numbers, from some rows."""
    hidden = 192 if d <= 256 else 128
    visits = rows * (epochs or _EPOCHS)
    if epochs is None:
        visits = max(rows, min(visits, _MOST_VISITS))
    if preset == "fast":
        return Plan(hidden, 1, 1, 1, visits)
    if preset == "best":
        return Plan(2 * hidden, 8, 16, 3, visits if epochs else 3 * visits)
    tries = _TRIES // M
    return Plan(hidden, 4, min(8, max(2, tries)), min(2, max(1, tries // 8)), visits)
