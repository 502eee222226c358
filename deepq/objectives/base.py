"""The base of all objectives, and what they see of a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deepq._common.checks import as_share, as_size, as_weight
from deepq._common.errors import InputError
from deepq._common.types import Floats
from deepq.labels.supervision import Supervision


class Batch(NamedTuple):
    """What an objective sees of some rows.

    Attributes
    ----------
    rows : (n,) int64
        Their numbers among the rows that are learned from.
    similar, known : (n, n) bool
        See `supervision`.
    targets : (n, c) float32 or None
        Classes; rows sum to 1, or to 0 where there is none.
    several : bool
        Whether rows have several classes.
    """

    rows: Tensor
    similar: Tensor
    known: Tensor
    targets: Tensor | None
    several: bool


class Objective(nn.Module):
    """A loss of embeddings, and the weight of the quantization loss beside it.

    Training minimises ``objective(z, batch) + quantization_weight * quantization(z, decoded)``,
    `decoded` the codewords of z as they are at the time.

    Parameters
    ----------
    quantization_weight : float
        lambda. 0 leaves the quantization loss out: codebooks are learned after the network.
    warm_up : float
        Share of the epochs in which a classifier is trained in its place, where there are classes.

    Attributes
    ----------
    mixes : bool
        Whether a batch may have images that are parts of two, with mixed targets.
    needs_classes : bool
        Whether it takes labels that are classes or tags, and not pairs.
    keeps_classes : bool
        Whether a class has a place of its own in embeddings: a number, or a code. A training that
        goes on keeps these places.
    rows_per_class : int or None
        So many rows of a class come together in a batch, of as many classes as it has room for; for
        labels of one class a row. None: batches have about the same number of rows of each class.
    """

    mixes = False
    needs_classes = False
    keeps_classes = False
    rows_per_class: int | None = None

    def __init__(self, quantization_weight: float = 0.0, warm_up: float = 0.6) -> None:
        super().__init__()
        self.quantization_weight = as_weight(quantization_weight, "quantization_weight")
        self.warm_up = as_share(warm_up, "warm_up", 1.0)

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs: the arguments of the constructor."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Objective:
        """Make the objective that has this `state`, not prepared."""
        return cls(**state)

    def prepare(self, d: int, supervision: Supervision) -> None:
        """Get ready for embeddings of d numbers, of rows of which so much is known.

        Training calls it on a copy of the objective, with a seed of torch's generator. Raises
        InputError where they do not suit it.
        """

    def begin_epoch(self, epoch: int, epochs: int, embeddings: Callable[[], Floats]) -> None:
        """Get ready for one epoch of so many; `embeddings` makes those (n, d) of all rows."""

    def forward(self, z: Tensor, batch: Batch) -> Tensor:
        """Loss of embeddings z (n, d); `batch` is a `Batch`."""
        raise NotImplementedError


def as_rows_per_class(value: Any) -> int | None:
    """Return a number of at least 2, or None. Raises InputError for any other."""
    if value is None:
        return None
    number = as_size(value, "rows_per_class")
    if number < 2:
        raise InputError(f"expected rows_per_class of at least 2, got {number}")
    return number


def drawn_seed() -> int:
    """Draw a seed for NumPy from torch's generator."""
    return int(torch.randint(1 << 62, (1,)))
