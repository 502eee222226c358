"""Where torch computes."""

from __future__ import annotations

import torch

from deepq._checks import InputError


def as_device(name: str) -> torch.device:
    """Return a device by its name; "auto" is a GPU if there is one. Raises InputError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'expected device "auto", "cpu" or "cuda", got {name!r}') from error
