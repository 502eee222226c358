"""What several files of training use."""

from __future__ import annotations

import pytest

from deepq.training import stages


@pytest.fixture
def small(monkeypatch):
    """Decoders with a small hidden layer, kept whatever they are worth."""
    pytest.importorskip("torch")
    real = stages.plan
    monkeypatch.setattr(stages, "plan", lambda *a, **kw: real(*a, **kw)._replace(hidden=8))
    monkeypatch.setattr(stages, "pays", lambda *_: True)
