"""Objectives with a code for each class: for binary hashing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from deepq._common.checks import as_share, as_weight
from deepq.labels.class_codes import distant_codes
from deepq.labels.supervision import Supervision
from deepq.objectives.base import Objective, drawn_seed
from deepq.objectives.losses import code_cross_entropy, cross_entropy


class OrthoHash(Objective):
    """`cross_entropy` of scaled cosines with fixed codes of the classes, less a margin at the true.

    Hoe et al., "One loss for all: deep hashing with a single cosine similarity based learning
    objective", NeurIPS 2021, equation 6.

    Parameters
    ----------
    scale : float
        Factor of cosines.
    margin : float
        Taken from the cosine of the true class.
    """

    needs_classes = True
    keeps_classes = True
    codes: Tensor

    def __init__(
        self,
        quantization_weight: float = 0.0,
        scale: float = 8.0,
        margin: float = 0.2,
        warm_up: float = 0.6,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.scale = as_weight(scale, "scale")
        self.margin = as_share(margin, "margin", 2.0)

    def prepare(self, d: int, supervision: Supervision) -> None:
        codes = torch.from_numpy(distant_codes(supervision.classes, d, drawn_seed()))
        self.register_buffer("codes", codes)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        cosines = normalize(z, dim=1) @ normalize(self.codes, dim=1).T
        true = (batch.targets > 0).float()
        return cross_entropy(self.scale * (cosines - self.margin * true), batch.targets)


class CentralSimilarity(Objective):
    """`code_cross_entropy` of 2 z with the code of a row's class, and tanh(z) pulled to +-1: CSQ.

    Yuan et al., "Central similarity quantization for efficient image and video retrieval", CVPR
    2020. The centre of a row of several classes has the signs of their sum; where that is 0, of the
    first one. A row without a class has none.

    Parameters
    ----------
    pull : float
        Weight of the mean of (|tanh(z)| - 1)^2, as in implementations; the paper has log cosh.
    """

    needs_classes = True
    keeps_classes = True
    codes: Tensor

    def __init__(
        self, quantization_weight: float = 0.0, pull: float = 1e-4, warm_up: float = 0.6
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.pull = as_weight(pull, "pull")

    def prepare(self, d: int, supervision: Supervision) -> None:
        codes = torch.from_numpy(distant_codes(supervision.classes, d, drawn_seed()))
        self.register_buffer("codes", codes)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        true = (batch.targets > 0).float()
        first = self.codes[batch.targets.argmax(1)] * true.amax(1, keepdim=True)
        centres = (2 * true @ self.codes + first).sign()
        loss = code_cross_entropy(2 * z, centres)
        return loss + self.pull * (z.tanh().abs() - 1).square().mean()
