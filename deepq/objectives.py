"""What training with labels minimises: small functions of embeddings, and objectives made of them.

Functions take embeddings z (n, d), and for the pairs of a batch `similar` and `known`, (n, n) bool:
see `supervision`. The pairs of a row with itself never count. All return a scalar to minimise.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, relu, softplus

from deepq._checks import FormatError, InputError, as_part, as_size

# ---- functions -----------------------------------------------------------------------------------


def pairwise_cosine(z: Tensor, similar: Tensor, known: Tensor) -> Tensor:
    """Mean of (s_ij - cos(z_i, z_j))^2, s_ij = 1 for similar pairs and -1 for others.

    Similar and dissimilar pairs weigh the same in sum, however many there are. Cao et al., "Deep
    quantization network for efficient image retrieval", AAAI 2016, equation 2.
    """
    unit = normalize(z, dim=1)
    return _balanced((_signs(similar) - unit @ unit.T).square(), similar, known)


def pairwise_inner_product(z: Tensor, similar: Tensor, known: Tensor) -> Tensor:
    """Mean of (s_ij - z_i . z_j / d)^2, weighed as in `pairwise_cosine`.

    The loss of the variant DQN_ip in the same paper, there with the code's length for d.
    """
    return _balanced((_signs(similar) - z @ z.T / z.shape[1]).square(), similar, known)


def contrastive(z: Tensor, similar: Tensor, known: Tensor, margin: float) -> Tensor:
    """Mean over pairs of d^2 if they are similar, else max(margin - d^2, 0); d their distance.

    Liu et al., "Deep supervised hashing for fast image retrieval", CVPR 2016, equation 1.
    """
    distances = squared_distances(z)
    losses = torch.where(similar, distances, relu(margin - distances))
    return _mean(losses, _others(known))


def triplet(z: Tensor, similar: Tensor, known: Tensor, margin: float) -> Tensor:
    """Mean over similar pairs of max(margin + d^2(i, j) - d^2(i, k), 0), k semi-hard.

    k is the nearest dissimilar row that is farther from i than j is, or the farthest one if there
    is none. Schroff et al., "FaceNet", CVPR 2015, section 3.2; the loss is that of Lai et al.,
    "Simultaneous feature learning and hash coding with deep neural networks", CVPR 2015.
    """
    distances = squared_distances(z)
    positive = similar & _others(known)
    negative = known & ~similar
    i, j = torch.nonzero(positive & negative.any(1, keepdim=True), as_tuple=True)
    if not len(i):
        return z.sum() * 0
    near, far = distances[i, j], distances[i]
    beyond = negative[i] & (far > near[:, None])
    nearest = far.masked_fill(~beyond, torch.inf).amin(1)
    farthest = far.masked_fill(~negative[i], -torch.inf).amax(1)
    rival = torch.where(beyond.any(1), nearest, farthest)
    return relu(margin + near - rival).mean()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -sum_c t_c log softmax(logits)_c for targets (n, c) whose rows sum to 1."""
    return -(targets * log_softmax(logits, dim=1)).sum(1).mean()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over classes, mean over rows of the cross-entropy of each; a target above 0 is a yes."""
    yes = targets > 0
    return torch.where(yes, softplus(-logits), softplus(logits)).sum(1).mean()


def quantization(z: Tensor, decoded: Tensor) -> Tensor:
    """Q: mean over rows of |z - decoded|^2, (n, d) both; the paper's equation 4."""
    return (z - decoded).square().sum(1).mean()


def squared_distances(z: Tensor) -> Tensor:
    """Squared Euclidean distances (n, n) of all pairs of rows."""
    squares = z.square().sum(1)
    return relu(squares[:, None] + squares - 2 * z @ z.T)


def _signs(similar: Tensor) -> Tensor:
    return similar * 2.0 - 1.0


def _others(known: Tensor) -> Tensor:
    """Leave the pairs of rows with themselves out."""
    return known & ~torch.eye(len(known), dtype=torch.bool, device=known.device)


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    return (losses * counted).sum() / counted.sum().clamp_min(1)


def _balanced(losses: Tensor, similar: Tensor, known: Tensor) -> Tensor:
    others = _others(known)
    return (_mean(losses, others & similar) + _mean(losses, others & ~similar)) / 2


# ---- objectives ----------------------------------------------------------------------------------


class Objective(nn.Module):
    """A loss of embeddings, and the weight of the quantization loss beside it.

    Training minimises ``objective(z, batch) + quantization_weight * quantization(z, decoded)``,
    `decoded` the codewords of z as they are at the time.

    Parameters
    ----------
    quantization_weight : float
        lambda. 0 leaves the quantization loss out: codebooks are learned after the network.
    warm_up : float
        Part of the epochs in which a classifier is trained in its place, where there are classes.

    Attributes
    ----------
    mixes : bool
        Whether a batch may have images that are parts of two, with mixed targets.
    needs_classes : bool
        Whether it takes labels that are classes or tags, and not pairs.
    """

    mixes = False
    needs_classes = False

    def __init__(self, quantization_weight: float = 0.0, warm_up: float = 0.6) -> None:
        super().__init__()
        self.quantization_weight = as_part(quantization_weight, "quantization_weight", math.inf)
        self.warm_up = as_part(warm_up, "warm_up", 1.0)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def prepare(self, d: int, classes: int) -> None:
        """Get ready for embeddings of d numbers and so many classes, 0 where there are none.

        Training calls it on a copy of the objective. Raises InputError where they do not suit it.
        """

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        """Loss of embeddings z (n, d); `batch` has similar, known (n, n) and targets (n, c)."""
        raise NotImplementedError


class PairwiseCosine(Objective):
    """`pairwise_cosine`: DQN's."""

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return pairwise_cosine(z, batch.similar, batch.known)


class InnerProduct(Objective):
    """`pairwise_inner_product`: DQN_ip's."""

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return pairwise_inner_product(z, batch.similar, batch.known)


class Contrastive(Objective):
    """`contrastive` with a margin; None for twice the length of an embedding."""

    def __init__(
        self,
        margin: float | None = None,
        quantization_weight: float = 0.0,
        warm_up: float = 0.6,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.margin = None if margin is None else as_part(margin, "margin", math.inf)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        margin = 2.0 * z.shape[1] if self.margin is None else self.margin
        return contrastive(z, batch.similar, batch.known, margin)


class TripletRanking(Objective):
    """`triplet` with a margin."""

    def __init__(
        self, margin: float = 1.0, quantization_weight: float = 0.0, warm_up: float = 0.6
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.margin = as_part(margin, "margin", math.inf)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return triplet(z, batch.similar, batch.known, self.margin)


class Classification(Objective):
    """`cross_entropy` of a linear classifier of embeddings; binary for rows of several tags.

    Parameters
    ----------
    smoothing : float
        Part of a target that is spread evenly over all classes (Szegedy et al., CVPR 2016).
    """

    mixes = True
    needs_classes = True

    def __init__(self, quantization_weight: float = 0.0, smoothing: float = 0.1) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.smoothing = as_part(smoothing, "smoothing", 1.0)

    def prepare(self, d: int, classes: int) -> None:
        self.classifier = nn.Linear(d, classes)

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return _classify(self.classifier(z), batch, self.smoothing)


class CosineSoftmax(Objective):
    """`cross_entropy` of scale * cos(z, w_c) over classes c, each with a direction w_c to learn.

    A central similarity: rows of a class are drawn to its direction, not to each other. Wang et
    al., "NormFace: L2 hypersphere embedding for face verification", ACM Multimedia 2017, section 3.

    Parameters
    ----------
    scale : float
        Of cosines; the larger, the sooner a row counts as right.
    smoothing : float
        As of `Classification`.
    """

    mixes = True
    needs_classes = True

    def __init__(
        self, quantization_weight: float = 0.0, scale: float = 10.0, smoothing: float = 0.1
    ) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.scale = as_part(scale, "scale", math.inf)
        self.smoothing = as_part(smoothing, "smoothing", 1.0)

    def prepare(self, d: int, classes: int) -> None:
        self.centres = nn.Parameter(torch.randn(classes, d))

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
        As of `Classification`.
    classes : int, optional
        Most classes that the network knows; None for as many as an embedding has numbers.
    """

    mixes = True
    needs_classes = True

    def __init__(
        self,
        quantization_weight: float = 0.0,
        smoothing: float = 0.1,
        classes: int | None = None,
    ) -> None:
        super().__init__(quantization_weight, warm_up=0.0)
        self.smoothing = as_part(smoothing, "smoothing", 1.0)
        self.classes = None if classes is None else as_size(classes, "classes")

    def prepare(self, d: int, classes: int) -> None:
        most = d if self.classes is None else self.classes
        if classes > most:
            raise InputError(f"expected labels of at most {most} classes, got {classes}")

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        logits = z[:, : batch.targets.shape[1]].clamp_min(1e-20).log()
        return cross_entropy(logits, _smoothed(batch.targets, self.smoothing))


def _classify(logits: Tensor, batch: Any, smoothing: float) -> Tensor:
    if batch.several:
        return binary_cross_entropy(logits, batch.targets)
    return cross_entropy(logits, _smoothed(batch.targets, smoothing))


def _smoothed(targets: Tensor, smoothing: float) -> Tensor:
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def objective_state(objective: Objective) -> dict[str, Any] | None:
    """Describe an objective of this module by its class and arguments; None for any other."""
    if OBJECTIVES.get(type(objective).__name__) is not type(objective):
        return None
    return {"type": type(objective).__name__, **objective.arguments}


def make_objective(state: dict[str, Any]) -> Objective:
    """Make the objective that a state describes. Raises FormatError for anything else."""
    rest = dict(state)
    try:
        return OBJECTIVES[rest.pop("type")](**rest)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"expected the state of an objective, got {error}") from error


OBJECTIVES: dict[str, type[Objective]] = {
    cls.__name__: cls
    for cls in (
        PairwiseCosine,
        InnerProduct,
        Contrastive,
        TripletRanking,
        Classification,
        CosineSoftmax,
        Likelihood,
    )
}
