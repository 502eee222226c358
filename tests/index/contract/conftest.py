"""Fixtures of the contract suite; a test overrides one by parametrising its name."""

from __future__ import annotations

import faiss
import pytest

from . import kinds


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(params=kinds.KINDS, ids=str)
def kind(request):
    return request.param


@pytest.fixture(params=kinds.METRICS.values(), ids=kinds.METRICS)
def metric(request):
    return request.param


@pytest.fixture
def nbits():
    return 4


@pytest.fixture
def untrained(kind, metric, nbits):
    """An index that has seen nothing."""
    return kinds.untrained(kind, metric, nbits)


@pytest.fixture
def trained(kind, metric, nbits):
    """An index that is trained and empty."""
    return kinds.trained(kind, metric, nbits)


@pytest.fixture
def index(kind, metric, nbits):
    """An index that is trained and holds XB."""
    return kinds.filled(kind, metric, nbits)
