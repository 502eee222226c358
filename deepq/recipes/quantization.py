"""Systems whose codes are learned codewords: DQN and its family, and class codes.

Codes of b bits have b / 8 words of 8 bits where 8 divides b, else the longest words from 7 down
that divide it: 12 bits are two words of 6.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from deepq._common.checks import as_size
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2
from deepq.encoders.chain import Chain
from deepq.encoders.rotation import Rotation
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.networks.heads import Bottleneck, Probabilities
from deepq.objectives.base import Objective
from deepq.objectives.classes import Likelihood
from deepq.objectives.pairs import InnerProduct, PairwiseCosine
from deepq.recipes.parts import Design, Shape, as_warm_up
from deepq.training.settings import TrainConfig

_WIDTH = 48  # numbers of an embedding, or the next multiple of M


def dqn(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    width: int | None = None,
    metric: int = METRIC_L2,
    quantization_weight: float = 0.05,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    coarse: str | None = None,
    nlist: int | None = None,
    **encoder: Any,
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make a deep quantization network: pairwise cosine loss and quantization loss together.

    Cao, Long, Wang, Zhu & Wen, "Deep quantization network for efficient image retrieval", AAAI
    2016.

    Parameters
    ----------
    input_shape : (C, H, W), (d,) or int
        Shape of an image, or of a vector.
    bits : int
        Bits of a code.
    nbits : int, optional
        Bits of a word; it must divide `bits`.
    backbone : str or torch.nn.Module, optional
        "convnet", "resnet" or "alexnet" for images, "mlp" for vectors; or a module that gives
        features (n, f). It is copied, and trained on from where it is.
    width : int, optional
        Numbers of an embedding, which M must divide; by default 48 or the next multiple.
    metric : int
        METRIC_L2 as in the paper, or METRIC_INNER_PRODUCT. The cosine loss leaves the length of an
        embedding free, and it comes to say how sure the network is: inner products prefer what it
        is sure of, which finds more of the classes that it was trained with.
    quantization_weight : float
        lambda.
    warm_up : float, optional
        Share of the epochs in which a classifier is trained first; by default 0.6, and 0 for a
        module, which is taken to have been trained already.
    training : TrainConfig, optional
        Settings.
    coarse, nlist : str and int, optional
        For a `DeepQuantIVFIndex`: "kmeans" or "imi", and the number of cells. They are learned of
        the embeddings, after the network.
    **encoder
        Further arguments of `NetworkEncoder`: layout, mirrored, precision.

    Raises
    ------
    InputError, KindError, DimensionError
        If an argument is out of range or of the wrong kind, or the parts do not fit each other.
    """
    objective = PairwiseCosine(quantization_weight, as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder, coarse, nlist)
    return _metric_learner(design, width, metric, objective, rotated=False)


def dqn_two_step(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    width: int | None = None,
    metric: int = METRIC_L2,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    coarse: str | None = None,
    nlist: int | None = None,
    **encoder: Any,
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make DQN_2+: the network learns the cosine loss alone, then OPQ quantizes its embeddings.

    The ablation of the same paper. Its parameters: see `dqn`.
    """
    objective = PairwiseCosine(0.0, as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder, coarse, nlist)
    return _metric_learner(design, width, metric, objective, rotated=True)


def dqn_ip(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    width: int | None = None,
    metric: int = METRIC_L2,
    quantization_weight: float = 0.05,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    coarse: str | None = None,
    nlist: int | None = None,
    **encoder: Any,
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make DQN_ip: `dqn` with the squared loss of inner products in place of cosines.

    The ablation of the same paper. Its parameters: see `dqn`.
    """
    objective = InnerProduct(quantization_weight, as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder, coarse, nlist)
    return _metric_learner(design, width, metric, objective, rotated=False)


def class_codes(
    input_shape: Shape,
    bits: int,
    classes: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    training: TrainConfig | None = None,
    coarse: str | None = None,
    nlist: int | None = None,
    **encoder: Any,
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make an index of class probabilities, ranked by the probability to be of one class.

    The embedding is what a classifier gives; the inner product of two is the probability that both
    vectors are of one class. It knows nothing of other classes than those that it is trained with:
    to find these, take `dqn`.

    Parameters
    ----------
    classes : int
        How many there are.
    input_shape, bits, nbits, backbone, training, coarse, nlist, **encoder
        See `dqn`.
    """
    design = Design(input_shape, bits, nbits, backbone, training, encoder, coarse, nlist)
    (M, _), classes = design.code, as_size(classes, "classes")

    def head(features: int) -> nn.Module:
        return Probabilities(features, classes, -(-classes // M) * M)

    objective = Likelihood(classes=classes)
    return design.index(design.network(head), METRIC_INNER_PRODUCT, objective)


def _metric_learner(
    design: Design, width: int | None, metric: int, objective: Objective, *, rotated: bool
) -> DeepQuantIndex | DeepQuantIVFIndex:
    M, _ = design.code
    numbers = -(-_WIDTH // M) * M if width is None else as_size(width, "width")

    def head(features: int) -> nn.Module:
        return Bottleneck(features, numbers)

    network = design.network(head)
    encoder = Chain([network, Rotation(numbers)]) if rotated else network
    return design.index(encoder, metric, objective)
