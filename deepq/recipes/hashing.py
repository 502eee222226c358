"""Recipes of binary hashing: see `recipes`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from deepq._common.checks import as_flag, as_size
from deepq._common.errors import InputError
from deepq.encoders.base import Encoder
from deepq.encoders.fixed import Affine
from deepq.encoders.kernel_hash import KernelHash
from deepq.encoders.network import NetworkEncoder
from deepq.index.flat import DeepQuantIndex
from deepq.networks.backbones import as_shape
from deepq.networks.heads import Bottleneck, DivideAndEncode
from deepq.objectives.base import Objective
from deepq.objectives.class_codes import CentralSimilarity, OrthoHash
from deepq.objectives.pairs import Contrastive, TripletRanking
from deepq.objectives.row_codes import CodeRegression, InferredCodes
from deepq.recipes.parts import Design, Shape, as_warm_up
from deepq.training.settings import TrainConfig


def ksh(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: nn.Module | None = None,
    anchors: int = 300,
    labelled: int = 2000,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of kernel-based supervised hashing: codes whose inner products are the labels.

    Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012.

    Parameters
    ----------
    input_shape, bits, nbits, training, **encoder
        See `dqn`.
    backbone : torch.nn.Module, optional
        Trained, and taken as it is: kernels are of its features (KSH-D). None: of the rows.
    anchors, labelled : int
        See `KernelHash`.
    """
    shape = as_shape(input_shape)
    front: list[Encoder] = []
    d = int(np.prod(shape))
    if backbone is not None:
        front = [NetworkEncoder(backbone, shape, fitted=True, **encoder)]
        d = front[0].d_out
    elif encoder:
        raise InputError(f"expected a backbone for {', '.join(encoder)}, got none")
    elif len(shape) > 1:
        raise InputError(f"expected vectors, or a backbone, got images {shape}")
    members = [*front, KernelHash(d, as_size(bits, "bits"), anchors, labelled=labelled)]
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return design.binary_index(members, None)


def cnnh(
    input_shape: Shape,
    bits: int,
    *,
    classes: int | None = None,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of convolutional neural network hashing: codes first, a network after.

    Xia, Pan, Lai, Liu & Yan, "Supervised hashing for image retrieval via image representation
    learning", AAAI 2014. The similarity matrix is factorised into codes, which a network learns.

    Parameters
    ----------
    classes : int, optional
        How many there are at most: the network learns them, too, beside the codes (CNNH+).
    input_shape, bits, nbits, backbone, warm_up, training, **encoder
        See `dqn`.
    """
    more = 0 if classes is None else as_size(classes, "classes")

    def head(features: int) -> nn.Module:
        return Bottleneck(features, as_size(bits, "bits") + more)

    objective = CodeRegression(classes=classes, warm_up=as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    members: list[Encoder] = [design.network(head)]
    if more:
        members.append(Affine(np.eye(bits, bits + more)))
    return design.binary_index(members, objective)


def dnnh(
    input_shape: Shape,
    bits: int,
    *,
    divided: bool = True,
    margin: float = 4.0,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of deep neural network hashing: a triplet ranking loss of divided features.

    Lai, Pan, Liu & Yan, "Simultaneous feature learning and hash coding with deep neural networks",
    CVPR 2015. Triplets are semi-hard ones of the batch: see `objectives.TripletRanking`.

    Parameters
    ----------
    divided : bool
        Whether each bit has features of its own (`networks.DivideAndEncode`), or one layer makes
        all bits.
    margin : float
        Between squared distances of embeddings, which differ by 4 for each bit; the paper's 1 is of
        numbers from 0 to 1.
    input_shape, bits, nbits, backbone, warm_up, training, **encoder
        See `dqn`.
    """
    head = DivideAndEncode if as_flag(divided, "divided") else Bottleneck
    objective = TripletRanking(margin, warm_up=as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return _of_signs(design, head, objective)


def dsh(
    input_shape: Shape,
    bits: int,
    *,
    margin: float | None = None,
    pull: float | None = None,
    sigmoid: bool = False,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of deep supervised hashing: a contrastive loss, and a pull towards +-1.

    Liu, Wang, Shan & Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016.

    Parameters
    ----------
    margin : float, optional
        Margin of squared distances; None for two times the bits.
    pull : float, optional
        Weight of the sum of | |z| - 1 |, a mean over rows, beside the mean over pairs. The authors'
        code halves the latter, so its 0.01 is 0.02 here. None for 0.01, and for 0 with a sigmoid.
    sigmoid : bool
        Whether a sigmoid, scaled to [-1, 1], keeps the outputs near +-1.
    input_shape, bits, nbits, backbone, warm_up, training, **encoder
        See `dqn`.
    """
    head = partial(Bottleneck, tanh=sigmoid)
    if pull is None:
        pull = 0.0 if sigmoid else 0.01
    objective = Contrastive(margin, warm_up=as_warm_up(warm_up, backbone), pull=pull)
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return _of_signs(design, head, objective)


def ftbe(
    input_shape: Shape,
    bits: int,
    *,
    group: int = 8,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of fast triplet-based binary embedding: bits inferred, then learned, in turns.

    Zhuang, Lin, Shen & Reid, "Fast training of triplet-based deep binary embedding networks", CVPR
    2016.

    Parameters
    ----------
    group : int
        Bits that are inferred at a time.
    input_shape, bits, nbits, backbone, warm_up, training, **encoder
        See `dqn`.
    """
    head = partial(Bottleneck, tanh=False)
    objective = InferredCodes(group=group, warm_up=as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return _of_signs(design, head, objective)


def orthohash(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of OrthoHash: cosines with fixed codes of the classes.

    Hoe et al., "One loss for all: deep hashing with a single cosine similarity based learning
    objective", NeurIPS 2021. Its parameters: see `dqn`.
    """
    head = partial(Bottleneck, tanh=False, batch_norm=True)
    objective = OrthoHash(warm_up=as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return _of_signs(design, head, objective)


def csq(
    input_shape: Shape,
    bits: int,
    *,
    nbits: int | None = None,
    backbone: str | nn.Module | None = None,
    warm_up: float | None = None,
    training: TrainConfig | None = None,
    **encoder: Any,
) -> DeepQuantIndex:
    """Make an index of central similarity quantization: bits learned from codes of the classes.

    Yuan et al., "Central similarity quantization for efficient image and video retrieval", CVPR
    2020. Its parameters: see `dqn`.
    """
    head = partial(Bottleneck, tanh=False)
    objective = CentralSimilarity(warm_up=as_warm_up(warm_up, backbone))
    design = Design(input_shape, bits, nbits, backbone, training, encoder)
    return _of_signs(design, head, objective)


def _of_signs(
    design: Design, head: Callable[[int, int], nn.Module], objective: Objective
) -> DeepQuantIndex:
    """Make an index of the signs of a network; `head` takes the number of features and of bits."""
    bits = as_size(design.bits, "bits")
    return design.binary_index([design.network(lambda d: head(d, bits))], objective)
