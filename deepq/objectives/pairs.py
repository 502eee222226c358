"""Objectives that compare rows with each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from deepq._common.checks import as_flag, as_weight
from deepq.objectives.base import Objective, as_rows_per_class
from deepq.objectives.losses import (
    contrastive,
    n_pair,
    pairwise_cosine,
    pairwise_inner_product,
    pull_to_signs,
    squared_distances,
    squared_length,
    triplet,
)


class PairwiseCosine(Objective):
    """`pairwise_cosine`: DQN's."""

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return pairwise_cosine(z, batch.similar, batch.known)


class InnerProduct(Objective):
    """`pairwise_inner_product`: DQN_ip's."""

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return pairwise_inner_product(z, batch.similar, batch.known)


class Contrastive(Objective):
    """`contrastive`, and `pull_to_signs`: DSH's.

    Parameters
    ----------
    margin : float, optional
        None for twice the length of an embedding.
    pull : float
        Weight of the second.
    """

    def __init__(
        self,
        margin: float | None = None,
        quantization_weight: float = 0.0,
        warm_up: float = 0.6,
        pull: float = 0.0,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.margin = None if margin is None else as_weight(margin, "margin")
        self.pull = as_weight(pull, "pull")

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        margin = 2.0 * z.shape[1] if self.margin is None else self.margin
        loss = contrastive(z, batch.similar, batch.known, margin)
        return loss + self.pull * pull_to_signs(z) if self.pull else loss


class TripletRanking(Objective):
    """`triplet` with a margin, of squared distances.

    Parameters
    ----------
    margin : float
    unit : bool
        Whether embeddings are scaled to unit length first.
    rows_per_class : int, optional
        See `Objective`.
    """

    def __init__(
        self,
        margin: float = 1.0,
        quantization_weight: float = 0.0,
        warm_up: float = 0.6,
        unit: bool = False,
        rows_per_class: int | None = None,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.margin, self.unit = as_weight(margin, "margin"), as_flag(unit, "unit")
        self.rows_per_class = as_rows_per_class(rows_per_class)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        z = normalize(z, dim=1) if self.unit else z
        return triplet(squared_distances(z), batch.similar, batch.known, self.margin)


class NPair(Objective):
    """`n_pair` of inner products, and half the mean squared length of an embedding.

    Parameters
    ----------
    regularization : float
        Weight of the second.
    rows_per_class : int, optional
        See `Objective`.
    """

    def __init__(
        self,
        regularization: float = 0.003,
        quantization_weight: float = 0.0,
        warm_up: float = 0.6,
        rows_per_class: int | None = 2,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.regularization = as_weight(regularization, "regularization")
        self.rows_per_class = as_rows_per_class(rows_per_class)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        loss = n_pair(z @ z.T, batch.similar, batch.known)
        return loss + self.regularization * squared_length(z) / 2
