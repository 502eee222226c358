"""Codes of classes that lie far apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepq.labels import class_codes
from deepq.labels.class_codes import distant_codes


def apart(codes: Any) -> list[int]:
    """Hamming distances of all pairs of codes."""
    n = len(codes)
    return [int(sum(codes[a] != codes[b])) for a in range(n) for b in range(a)]


@pytest.mark.parametrize(("bits", "classes"), [(1, 2), (8, 3), (8, 16), (32, 10), (64, 128)])
def test_codes_are_rows_of_a_hadamard_matrix_and_their_opposites(bits, classes) -> None:
    codes = distant_codes(classes, bits, 0)
    assert codes.dtype == np.float32
    assert codes.shape == (classes, bits)
    assert set(np.unique(codes)) <= {-1, 1}
    assert set(apart(codes)) <= {bits // 2, bits}
    assert apart(codes).count(bits) == max(0, classes - bits)


@pytest.mark.parametrize(("bits", "classes"), [(12, 2), (6, 3), (12, 10), (48, 10), (4, 9)])
def test_other_codes_are_the_best_of_many_draws(bits, classes, monkeypatch) -> None:
    monkeypatch.setattr(class_codes, "_DRAWS", 30)
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, 2, (classes, bits)) * 2 - 1 for _ in range(30)]
    codes = distant_codes(classes, bits, 7)
    assert codes.dtype == np.float32
    np.testing.assert_array_equal(codes, max(draws, key=lambda codes: min(apart(codes))))
    np.testing.assert_array_equal(codes, distant_codes(classes, bits, 7))
    assert not np.array_equal(codes, distant_codes(classes, bits, 8))


@pytest.mark.parametrize(("bits", "classes"), [(12, 10), (24, 20), (48, 10), (8, 30)])
def test_codes_that_are_drawn_are_far_apart(bits, classes) -> None:
    draw = np.random.default_rng(0).integers(0, 2, (classes, bits))
    least = min(apart(distant_codes(classes, bits, 0)))
    assert least >= max(1, min(apart(draw)) + 1)
    assert len(np.unique(distant_codes(classes, bits, 0), axis=0)) == classes


def test_of_many_classes_few_codes_are_drawn(monkeypatch) -> None:
    monkeypatch.setattr(class_codes, "_MOST_PAIRS", 3 * 20**2)
    rng = np.random.default_rng(7)
    draws = [rng.integers(0, 2, (20, 12)) * 2 - 1 for _ in range(3)]
    best = max(draws, key=lambda codes: min(apart(codes)))
    np.testing.assert_array_equal(distant_codes(20, 12, 7), best)
    assert distant_codes(40, 12, 7).shape == (40, 12)  # a draw in any case


def test_one_class_has_a_code() -> None:
    assert distant_codes(1, 6, 0).shape == (1, 6)
