"""Small trained indexes of every kind, empty; rows and queries for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import faiss
import torch

import deepq
from deepq import encoders, networks

from ..index.reranked.builders import TURN, XB, XQ, XT, D, M, clustered, empty

__all__ = ["ALL_DECODE", "KINDS", "XB", "XQ", "XT", "D", "OwnNetwork", "bare", "made"]


class OwnNetwork(torch.nn.Module):
    """A network of a class that deepq does not know: files hold its weights alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(D, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x))


def _trained(index: Any) -> Any:
    index.train(XT)
    return index


def _of_encoder(encoder: Any, **how: Any) -> Any:
    training = deepq.TrainConfig(ranking=False, epochs=1)
    index = deepq.DeepQuantIndex(D, M, 4, encoder=encoder, training=training, **how)
    return _trained(index)


def _network() -> Any:
    torch.manual_seed(0)
    return deepq.NetworkEncoder(networks.MLP(D, (24, D)), D, fitted=True)


def _cells() -> Any:
    training = deepq.TrainConfig(ranking=False, epochs=1)
    return _trained(deepq.DeepQuantIVFIndex(D, 8, M, 4, training=training))


def _reranked_cells() -> Any:
    """Fewer rows, or epochs, and held-out ones would say that a decoder does not pay."""
    index = deepq.DeepQuantIVFIndex(D, 8, M, 4, rerank=20)
    index.train(clustered(4000, 1))
    return index


def _with_probes(index: Any) -> Any:
    index.nprobe = 4
    return index


KINDS: dict[str, Callable[[], Any]] = {
    "native": lambda: _of_encoder(encoders.Rotation.of(TURN)),
    "re-ranked": empty,
    "re-ranked without a rotation": lambda: _without_rotation(),
    "cosine": lambda: empty("cosine"),
    "inner product": lambda: empty(faiss.METRIC_INNER_PRODUCT),
    "network": lambda: _of_encoder(_network()),
    "network of one's own": lambda: _of_encoder(deepq.NetworkEncoder(OwnNetwork(), D, fitted=True)),
    "cells": lambda: _with_probes(_cells()),
    "re-ranked cells": lambda: _with_probes(_reranked_cells()),
}
ALL_DECODE = [kind for kind in KINDS if "network" not in kind]


def _without_rotation() -> Any:
    quantizer = copy.copy(empty().product_quantizer)
    return deepq.DeepQuantIndex(
        D, M, 4, encoder=encoders.Identity(D), quantizer=quantizer, rerank=20
    )


@cache
def _made(kind: str) -> Any:
    return KINDS[kind]()


def made(kind: str) -> Any:
    """Return a new index of a kind, trained and empty."""
    return copy.deepcopy(_made(kind))


def bare(kind: str, rows: Any = XB) -> Any:
    """Return an index of a kind with rows, which shows what a client is to answer."""
    index = made(kind)
    index.add(rows)
    return index
