"""Nested data and arrays as bytes: they go round; other bytes are refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import FormatError
from deepq._common.plain_data import from_bytes, to_bytes

from .builders import WRONG, assert_same

arrays = st.builds(
    lambda shape, dtype, seed: np.random.default_rng(seed).integers(0, 99, shape).astype(dtype),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.sampled_from(["f4", "f8", "u1", "u2", "i8"]),
    st.integers(0, 99),
)
leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | arrays
leaves |= st.floats(allow_nan=False, allow_infinity=False)
nested = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(nested)
def test_nested_data_goes_round(value: Any) -> None:
    assert_same(value, from_bytes(to_bytes(value)))


def test_arrays_go_round_in_any_layout() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    x.flags.writeable = False
    for array in (x, x.T, x[::2, 1::3], x[:0]):
        np.testing.assert_array_equal(from_bytes(to_bytes([array]))[0], array)


def test_arrays_of_no_dimensions_go_round() -> None:
    assert_same({"step": np.array(3.0)}, from_bytes(to_bytes({"step": np.array(3.0)})))


def test_the_bytes_are_a_whole_safetensors_file() -> None:
    content = to_bytes({"a": np.arange(5), "b": [1, {"c": np.ones((2, 2), np.float32)}]})
    tensors = safetensors.numpy.load(content)
    assert sorted(array.shape for array in tensors.values()) == [(2, 2), (5,)]


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(FormatError, match=r"expected data of deepq in safetensors, got"):
        from_bytes(content)


WHOLE = to_bytes({"a": np.arange(5), "b": ["text", {"c": np.ones(3)}]})


def test_every_prefix_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(FormatError):
            from_bytes(WHOLE[:length])


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_changed_byte_is_refused_or_means_nothing(mask: int) -> None:
    """Blanks pad the header, and may be other white space."""
    for at in range(len(WHOLE)):
        damaged = WHOLE[:at] + bytes([WHOLE[at] ^ mask]) + WHOLE[at + 1 :]
        with suppress(FormatError):
            assert_same(from_bytes(damaged), from_bytes(WHOLE))


@pytest.mark.parametrize("number", [0, 1])
def test_a_changed_number_is_refused(number: int) -> None:
    at = len(WHOLE) - 1 - 24 * number
    with pytest.raises(FormatError, match="damaged data"):
        from_bytes(WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :])
