"""Recipe of hash tables with learned buckets: see `recipes`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from deepq._common.checks import as_size
from deepq._common.errors import InputError
from deepq._common.types import METRIC_L2
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Normalize
from deepq.hash_table.index import HashTableIndex
from deepq.networks.heads import Bottleneck
from deepq.objectives.base import Objective
from deepq.objectives.compound_codes import CompoundCodes
from deepq.objectives.pairs import NPair, TripletRanking
from deepq.quantizers.product import ProductQuantizer
from deepq.recipes.parts import Design, Shape, as_warm_up
from deepq.training.settings import TrainConfig

# The settings of the authors' code, for a sparsity of 1, 2, 3 and 4, and those of the metric.
_REGULARIZATION, _CROWDING = (0.03, 0.01, 0.003, 0.001), (0.07, 0.1, 0.1, 0.1)
_MARGIN, _TRIPLET_CROWDING = (0.3, 0.5, 0.3, 0.5), 1.0
_SOFTMAX_CROWDING = 1000.0  # as many classes with each word as that goes: nothing else parts them
_EMBEDDING = {"softmax": 64, "npair": 64, "triplet": 256}
_METRIC_REGULARIZATION, _METRIC_MARGIN = 0.003, 0.3


def hierarchical(
    input_shape: Shape,
    *,
    levels: int = 2,
    width: int = 32,
    sparsity: int = 1,
    loss: str = "softmax",
    codes: str = "epoch",
    backbone: str | nn.Module | None = None,
    embedding: int | None = None,
    kept: str | ProductQuantizer = "float32",
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> HashTableIndex:
    """Make a hash table of hierarchical codes, which classes get by min-cost flow.

    Jeong, Kim & Song, "End-to-end efficient representation learning via cascading combinatorial
    optimization", CVPR 2019; with one level Jeong & Song, "Efficient end-to-end learning for
    quantizable representations", ICML 2018. `train` first learns a metric, then buckets, both from
    labels of one class a row; it needs OR-Tools (``pip install 'deepq[hierarchical]'``).

    Parameters
    ----------
    input_shape : (C, H, W), (d,) or int
        Shape of an image, or of a vector.
    levels, width, sparsity : int
        There are width ** levels buckets, and a vector lies in `sparsity` of them.
    loss : "softmax", "npair" or "triplet"
        Of the second network: see `objectives.CompoundCodes`. The papers have the other two, and
        "triplet" with a width of 64; the first network has "npair" in place of "softmax".
    codes : "epoch" or "batch"
        See `objectives.CompoundCodes`.
    backbone : str or torch.nn.Module, optional
        See `dqn`. The second network begins with the first, as that was learned, and its head is
        one more layer.
    embedding : int, optional
        Numbers of an embedding; by default 64, and 256 with "triplet".
    kept : "float32", "float16" or ProductQuantizer
        What is kept of a vector to rank it by: its embedding, or a code of it.
    warm_up : float, optional
        Share of the epochs of the first network in which a classifier is trained: see `dqn`.
    training : TrainConfig, optional
        Settings. Batches are of 512 rows by default, two of each of 256 classes; the papers have
        128.
    **encoder
        Further arguments of `NetworkEncoder`: layout, mirrored, precision.

    Raises
    ------
    InputError, KindError, DimensionError
        If an argument is out of range or of the wrong kind, or the parts do not fit each other.
    """
    if loss not in _EMBEDDING:
        raise InputError(f"expected a loss of {', '.join(_EMBEDDING)}, got {loss!r}")
    levels, width = as_size(levels, "levels"), as_size(width, "width")
    numbers = _EMBEDDING[loss] if embedding is None else as_size(embedding, "embedding")
    setting = min(as_size(sparsity, "sparsity"), len(_REGULARIZATION)) - 1
    design = Design(input_shape, 8, None, backbone, training, encoder)

    def metric_head(features: int) -> nn.Module:
        return Bottleneck(features, numbers, tanh=False)

    def hash_head(features: int) -> nn.Module:
        return Bottleneck(features, levels * width, tanh=False, on_pretrained=True)

    network = design.network(metric_head)
    first = as_warm_up(warm_up, backbone)
    objective: Objective = NPair(_METRIC_REGULARIZATION, warm_up=first)
    if loss == "triplet":
        objective = TripletRanking(_METRIC_MARGIN, warm_up=first, unit=True, rows_per_class=2)
    return HashTableIndex(
        Chain([network, Normalize(numbers)]),
        replace(design, backbone=network.network).network(hash_head),
        levels,
        width,
        sparsity=sparsity,
        kept=kept,
        metric=METRIC_L2,
        objective=objective,
        hash_objective=CompoundCodes(
            levels,
            width,
            sparsity,
            loss,
            regularization=_REGULARIZATION[setting],
            margin=_MARGIN[setting],
            crowding={
                "softmax": _SOFTMAX_CROWDING,
                "npair": _CROWDING[setting],
                "triplet": _TRIPLET_CROWDING,
            }[loss],
            codes=codes,
        ),
        training=training,
    )
