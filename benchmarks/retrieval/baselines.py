"""What is compared with, and has no network to train: OPQ, and kernel hashing of gradients."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

import deepq
from benchmarks.retrieval.images import gradients
from benchmarks.retrieval.judge import Protocol, judged
from deepq import recipes

_OPQ_NUMBERS = 96  # that a vector is projected to, at most

Rows = Callable[[NDArray[Any]], NDArray[np.float32]]


def opq_of_pixels(split: Protocol, bits: int, *_: Any) -> dict[str, Any]:
    """Judge faiss's OPQ of the images as they are."""
    return _opq(_of(split, lambda x: x.astype(np.float32)), bits)


def opq_of_features(split: Protocol, bits: int, body: torch.nn.Module, *_: Any) -> dict[str, Any]:
    """Judge faiss's OPQ of what the trunk's last layer gives."""
    encoder = deepq.NetworkEncoder(body, body.input_shape, precision="bfloat16")
    return _opq(_of(split, encoder.encode), bits)


def ksh_of_gradients(
    split: Protocol, bits: int, body: torch.nn.Module, seed: int
) -> dict[str, Any]:
    """Judge kernel-based supervised hashing of histograms of gradients."""
    split = _of(split, lambda x: gradients(x.reshape(-1, *body.input_shape)))
    index = recipes.ksh(split.data.d, bits, training=deepq.TrainConfig(seed=seed))
    begin = time.process_time()
    index.train(split.data.train, split.data.train_labels)
    row = {"train_cpu_s": time.process_time() - begin}
    return {**row, **judged(index, split.data, split.is_training_row)}


BASELINES = {
    "OPQ of pixels": opq_of_pixels,
    "OPQ of features": opq_of_features,
    "KSH of HOG": ksh_of_gradients,
}


def _of(split: Protocol, rows: Rows) -> Protocol:
    """Take features in place of images."""
    parts = {name: rows(getattr(split.data, name)) for name in ("train", "base", "query")}
    return split._replace(data=replace(split.data, **parts))


def _opq(split: Protocol, bits: int) -> dict[str, Any]:
    M, nbits = recipes.code_shape(bits)
    d = split.data.d
    index = faiss.index_factory(d, f"OPQ{M}_{min(d, _OPQ_NUMBERS) // M * M},PQ{M}x{nbits}")
    faiss.downcast_index(index.index).do_polysemous_training = False
    begin = time.process_time()
    index.train(split.data.train)
    row = {"train_cpu_s": time.process_time() - begin}
    return {**row, **judged(deepq.from_faiss(index), split.data, split.is_training_row)}
