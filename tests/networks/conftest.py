"""Every network by its name."""

from __future__ import annotations

import pytest
import torch

from .builders import MAKE


@pytest.fixture(params=MAKE)
def name(request):
    torch.manual_seed(0)
    return request.param
