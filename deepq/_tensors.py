"""torch tensors in and out, without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

Method = TypeVar("Method", bound=Callable[..., Any])


def accepts_tensors(method: Method) -> Method:
    """Let a method written for arrays take torch tensors.

    Tensors are handed on as arrays, without a copy where they are on the CPU. Where
    ``faiss.contrib.torch_utils`` has been imported, which asks for this, results are tensors too.
    """

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None:
            return method(self, *args, **kwargs)
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        if not given:
            return method(self, *args, **kwargs)
        result = method(
            self,
            *(_to_array(value, torch) for value in args),
            **{name: _to_array(value, torch) for name, value in kwargs.items()},
        )
        if "faiss.contrib.torch_utils" not in sys.modules:
            return result
        if isinstance(result, tuple):
            return tuple(_to_tensor(value, torch) for value in result)
        return _to_tensor(result, torch)

    # The name by which torch_utils knows that a method takes tensors already and stays as it is.
    call.__name__ = f"torch_replacement_{method.__name__}"
    return call  # type: ignore[return-value]


def _to_array(value: Any, torch: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _to_tensor(value: Any, torch: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return torch.from_numpy(value.astype(np.int64) if value.dtype == np.uint64 else value)
