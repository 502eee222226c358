"""Where torch computes, and what it draws there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from deepq._common.errors import InputError

_CPU = torch.device("cpu")


def as_device(name: str) -> torch.device:
    """Return a device by its name; "auto" is a GPU if there is one, "gpu" another name of "cuda".

    Raises InputError for a word that is none, and for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda" if name == "gpu" else name)
    except RuntimeError as error:
        raise InputError(f'expected device "auto", "cpu" or "cuda", got {name!r}') from error
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f'expected a device that torch can use here, as "auto" does, got {name!r}: {error}'
        ) from error


def computing(device: torch.device, precision: str) -> torch.autocast:
    """Return a context in which networks compute in a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def seeded(seed: int, device: torch.device = _CPU) -> Iterator[None]:
    """Give torch's generators a seed for a while; afterwards they are as they were.

    These are the processor's, and that of `device` if it is a GPU; no other is touched.
    """
    gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        torch.default_generator.manual_seed(torch_seed(seed))
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(torch_seed(seed))
        yield


def torch_seed(seed: int) -> int:
    """Return a seed that torch takes, of any that NumPy takes."""
    return seed % (1 << 63)
