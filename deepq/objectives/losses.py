"""What training with labels minimises, as small functions of embeddings.

They take embeddings z (n, d), and for the pairs of a batch `similar` and `known`, (n, n) bool: see
`supervision`. The pairs of a row with itself never count. All return a scalar to minimise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, relu, softplus


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


def triplet(distances: Tensor, similar: Tensor, known: Tensor, margin: float) -> Tensor:
    """Mean over similar pairs of max(margin + d(i, j) - d(i, k), 0), k semi-hard.

    `distances` (n, n) are d. k is the nearest dissimilar row that is farther from i than j is, or
    the farthest one if there is none. Schroff et al., "FaceNet", CVPR 2015, section 3.2; the loss
    is that of Lai et al., "Simultaneous feature learning and hash coding with deep neural
    networks", CVPR 2015, with squared Euclidean distances.
    """
    negative = known & ~similar
    positive = similar & _others(known) & negative.any(1, keepdim=True)
    if not positive.any():
        return distances.sum() * 0
    # The dissimilar rows of each row by distance: a search in these finds all its rivals at once.
    rivals = distances.masked_fill(~negative, torch.inf).sort(1).values
    beyond = torch.searchsorted(rivals.detach(), distances.detach(), right=True)
    last = negative.sum(1, keepdim=True) - 1
    rival = rivals.gather(1, torch.minimum(beyond, last.clamp_min(0)))
    return relu(margin + distances[positive] - rival[positive]).mean()


def n_pair(similarities: Tensor, similar: Tensor, known: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy of their similarities (n, n) with the similar rows.

    These share the target evenly; a row without one does not count. Sohn, "Improved deep metric
    learning with multi-class N-pair loss objective", NeurIPS 2016, with every row of a batch as an
    anchor.
    """
    others = _others(known)
    positive = similar & others
    counted = positive.any(1)
    if not counted.any():
        return similarities.sum() * 0
    logs = log_softmax(similarities.masked_fill(~others, -torch.inf), dim=1)
    shares = positive / positive.sum(1, keepdim=True).clamp_min(1)
    return -(shares * logs.masked_fill(~positive, 0)).sum(1)[counted].mean()


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


def pull_to_signs(z: Tensor) -> Tensor:
    """Mean over rows of the sum of | |z_b| - 1 | over numbers b: small where z is near +-1.

    Liu et al., "Deep supervised hashing for fast image retrieval", CVPR 2016, equation 4.
    """
    return (z.abs() - 1).abs().sum(1).mean()


def code_regression(z: Tensor, codes: Tensor) -> Tensor:
    """Mean of (z - code)^2 over all numbers of (n, d) both; the second stage of CNNH."""
    return (z - codes).square().mean()


def code_cross_entropy(z: Tensor, codes: Tensor) -> Tensor:
    """Mean over all numbers of -log sigmoid(code z), codes (n, d) of +-1: bits as classes."""
    return softplus(-codes * z).mean()


def smoothed(targets: Tensor, part: float) -> Tensor:
    """Targets (n, c) of which a part is spread evenly over all classes."""
    return targets * (1 - part) + part / targets.shape[1]


def squared_distances(z: Tensor) -> Tensor:
    """Squared Euclidean distances (n, n) of all pairs of rows."""
    squares = z.square().sum(1)
    return relu(squares[:, None] + squares - 2 * z @ z.T)


def squared_length(z: Tensor) -> Tensor:
    """Mean over rows of |z|^2."""
    return z.square().sum(1).mean()


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
