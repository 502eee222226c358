"""Objectives that compare rows with each other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from deepq._common.checks import as_weight
from deepq.objectives.base import Objective
from deepq.objectives.losses import (
    contrastive,
    pairwise_cosine,
    pairwise_inner_product,
    pull_to_signs,
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
    """`triplet` with a margin."""

    def __init__(
        self, margin: float = 1.0, quantization_weight: float = 0.0, warm_up: float = 0.6
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.margin = as_weight(margin, "margin")

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return triplet(z, batch.similar, batch.known, self.margin)
