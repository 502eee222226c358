"""Every metric, and an index with a decoder for each."""

from __future__ import annotations

import pytest

from .builders import IP, L2, filled


@pytest.fixture(params=[L2, IP, "cosine"], ids=["l2", "ip", "cosine"])
def metric(request):
    return request.param


@pytest.fixture(params=[4, 8])
def index(request, metric):
    return filled(metric, request.param)
