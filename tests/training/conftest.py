"""What several files of training use."""

from __future__ import annotations

import pytest

from deepq.training import fitting, stages


@pytest.fixture
def small(monkeypatch):
    """Decoders with a small hidden layer, kept whatever they are worth."""
    pytest.importorskip("torch")
    real = stages.plan
    monkeypatch.setattr(stages, "plan", lambda *a, **kw: real(*a, **kw)._replace(hidden=8))
    for module in (stages, fitting):
        monkeypatch.setattr(module, "pays", lambda *_: True)
