"""Nested data compared, array by array, and bytes that are none."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import safetensors.numpy


def assert_same(a: Any, b: Any) -> None:
    """Equal to the bit, types and shapes included."""
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    else:
        assert type(a) is type(b)
        assert a == b


WRONG = {
    "nothing": b"",
    "zeros": bytes(100),
    "text": b"a line of text, not a checkpoint\n" * 9,
    "json": json.dumps({"key": {}, "stages": {}}).encode(),
    "a pickle": pickle.dumps({"key": {}, "stages": {}}),
    "a huge header": (1 << 62).to_bytes(8, "little") + b"{}",
    "no metadata": safetensors.numpy.save({"0": np.ones(3)}),
    "another's metadata": safetensors.numpy.save({"0": np.ones(3)}, {"format": "pt"}),
    "metadata that is no JSON": safetensors.numpy.save({"0": np.ones(3)}, {"deepq": "{"}),
    "no checksum": safetensors.numpy.save({}, {"deepq": "{}"}),
    "deep JSON": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "a list": safetensors.numpy.save({}, {"deepq": "[]"}),
    "arrays by other names": safetensors.numpy.save({"x": np.ones(3)}, {"deepq": "{}"}),
}
