"""Objectives that compare rows with their classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from deepq._common.checks import as_share, as_size, as_weight
from deepq._common.errors import InputError
from deepq.labels.supervision import Supervision
from deepq.objectives.base import Objective
from deepq.objectives.losses import binary_cross_entropy, cross_entropy, smoothed


class Classification(Objective):
    """`cross_entropy` of a linear classifier of embeddings; binary for rows of several tags.

    Parameters
    ----------
    smoothing : float
        Share of a target that is spread evenly over all classes (Szegedy et al., CVPR 2016).
    """

    mixes = True
    needs_classes = True

    def __init__(self, quantization_weight: float = 0.0, smoothing: float = 0.1) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.smoothing = as_share(smoothing, "smoothing", 1.0)

    def prepare(self, d: int, supervision: Supervision) -> None:
        self.classifier = nn.Linear(d, supervision.classes)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return _classify(self.classifier(z), batch, self.smoothing)


class CosineSoftmax(Objective):
    """`cross_entropy` of scale * cos(z, w_c) over classes c, each with a direction w_c to learn.

    A central similarity: rows of a class are drawn to its direction, not to each other. Wang et
    al., "NormFace: L2 hypersphere embedding for face verification", ACM Multimedia 2017, section 3.

    Parameters
    ----------
    scale : float
        Factor of cosines; the larger, the sooner a row counts as right.
    smoothing : float
        See `Classification`.
    """

    mixes = True
    needs_classes = True

    def __init__(
        self, quantization_weight: float = 0.0, scale: float = 10.0, smoothing: float = 0.1
    ) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.scale = as_weight(scale, "scale")
        self.smoothing = as_share(smoothing, "smoothing", 1.0)

    def prepare(self, d: int, supervision: Supervision) -> None:
        self.centres = nn.Parameter(torch.randn(supervision.classes, d))

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        cosines = normalize(z, dim=1) @ normalize(self.centres, dim=1).T
        return _classify(self.scale * cosines, batch, self.smoothing)


class Likelihood(Objective):
    """`cross_entropy` of embeddings that are class probabilities: see `networks.Probabilities`.

    Ranked by inner product, the probability that two vectors are of one class if the network is
    right about each; by the probability ranking principle (Robertson, 1977) no order is better.
    Of a row of several tags each is taken to be as probable as the others.

    Parameters
    ----------
    smoothing : float
        See `Classification`.
    classes : int, optional
        Most classes that the network knows; None for as many as an embedding has numbers.
    """

    mixes = True
    needs_classes = True
    keeps_classes = True

    def __init__(
        self,
        quantization_weight: float = 0.0,
        smoothing: float = 0.1,
        classes: int | None = None,
    ) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.smoothing = as_share(smoothing, "smoothing", 1.0)
        self.classes = None if classes is None else as_size(classes, "classes")

    def prepare(self, d: int, supervision: Supervision) -> None:
        most = d if self.classes is None else self.classes
        if supervision.classes > most:
            raise InputError(
                f"expected labels of at most {most} classes, got {supervision.classes}"
            )

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        logits = z[:, : batch.targets.shape[1]].clamp_min(1e-20).log()
        return cross_entropy(logits, smoothed(batch.targets, self.smoothing))


def _classify(logits: Tensor, batch: Any, smoothing: float) -> Tensor:
    if batch.several:
        return binary_cross_entropy(logits, batch.targets)
    return cross_entropy(logits, smoothed(batch.targets, smoothing))
