"""What tests of pictures share: matplotlib without a window, and small indexes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import deepq
from tests.index.reranked import builders

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")

QUICK = deepq.TrainConfig(epochs=2, max_points=600)


@pytest.fixture(autouse=True)
def no_figures_left():
    """Pictures of a test are closed after it."""
    plt.switch_backend("Agg")
    yield
    plt.close("all")


class Set(NamedTuple):
    """An index, its vectors, and queries with labels."""

    index: deepq.DeepQuantIndex
    base: np.ndarray
    queries: np.ndarray
    labels: np.ndarray
    query_labels: np.ndarray


@pytest.fixture(scope="session")
def small() -> Set:
    """An index of 600 vectors in three clusters, which are their classes."""
    rng = np.random.default_rng(0)
    labels, query_labels = np.arange(600) % 3, np.arange(30) % 3
    centres = 3 * rng.standard_normal((3, 16))
    base, queries = (
        (centres[y] + rng.standard_normal((len(y), 16))).astype(np.float32)
        for y in (labels, query_labels)
    )
    index = deepq.DeepQuantIndex(16, 4, 4, training=QUICK)
    index.train(base)
    index.add(base)
    return Set(index, base, queries, labels, query_labels)


@pytest.fixture(scope="session")
def cells(small) -> deepq.DeepQuantIVFIndex:
    """The same vectors in eight cells."""
    index = deepq.DeepQuantIVFIndex(16, 8, 4, 4, training=QUICK)
    index.train(small.base)
    index.add(small.base)
    index.nprobe = 2
    return index


@pytest.fixture(scope="session")
def reranked() -> deepq.DeepQuantIndex:
    """An index of the vectors `builders.XB`, with a decoder."""
    return builders.filled()
