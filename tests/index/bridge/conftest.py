"""An index with an encoder that faiss does not know, one that fails, faiss without the bridge."""

from __future__ import annotations

from typing import Any

import pytest

import deepq

from .builders import D_OUT, Failing, chained, filled, waved


@pytest.fixture(params=[waved, chained], ids=["alone", "chained"])
def index(request: pytest.FixtureRequest) -> deepq.DeepQuantIndex:
    return filled(request.param())


@pytest.fixture
def failing() -> Any:
    yield filled(Failing(D_OUT, D_OUT))
    Failing.fault = Failing.answer = None
