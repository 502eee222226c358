"""torch tensors in and out, without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from deepq._common.arrays import is_dlpack, of_dlpack, without_tensor

Method = TypeVar("Method", bound=Callable[..., Any])


def accepts_tensors(method: Method) -> Method:
    """Let a method written for arrays take torch tensors, and whatever has DLPack's methods.

    Tensors are handed on as arrays, without a copy where they are on the CPU. Where
    ``faiss.contrib.torch_utils`` has been imported, which asks for this, results are tensors too,
    unless an array was given.
    """

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        torch = sys.modules.get("torch")
        args = tuple(of_dlpack(v) if is_dlpack(v) else v for v in args)
        kwargs = {name: of_dlpack(v) if is_dlpack(v) else v for name, v in kwargs.items()}
        if torch is None:
            return method(self, *args, **kwargs)
        given = [*args, *kwargs.values()]
        arrays = {id(v): without_tensor(v) for v in given if isinstance(v, torch.Tensor)}
        result = method(
            self,
            *(arrays.get(id(v), v) for v in args),
            **{name: arrays.get(id(v), v) for name, v in kwargs.items()},
        )
        if "faiss.contrib.torch_utils" not in sys.modules:
            return result
        if any(isinstance(v, np.ndarray) for v in given):
            return result
        outputs = {id(array): v for v in given if (array := arrays.get(id(v))) is not None}
        if isinstance(result, tuple):
            return tuple(_to_tensor(r, outputs.get(id(r)), torch) for r in result)
        return _to_tensor(result, outputs.get(id(result)), torch)

    # The name by which torch_utils knows that a method takes tensors already and stays as it is.
    call.__name__ = f"torch_replacement_{method.__name__}"
    return call  # type: ignore[return-value]


def _to_tensor(value: Any, given: Any, torch: Any) -> Any:
    """Return a result as a tensor: the one that was given for it, if one was."""
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(value.astype(np.int64) if value.dtype == np.uint64 else value)
    if given is None:
        return tensor
    if given.data_ptr() != tensor.data_ptr():  # on another device, or of another dtype
        given.copy_(tensor)
    return given
