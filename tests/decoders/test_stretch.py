"""Stretched decoders: the errors by which words are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError
from deepq.decoders import Decoder
from deepq.decoders.panels import block_diagonal

from .test_neural import numbers

M, KSUB, DSUB, H = 4, 8, 3, 8


def whole(seed: int) -> dict[str, np.ndarray]:
    """Arrays of a decoder of whole numbers, of which all arithmetic in float32 is exact."""
    arrays = numbers(M, KSUB, DSUB, H, np.random.default_rng(seed), whole=True)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def vectors(seed: int, n: int = 30) -> np.ndarray:
    return np.random.default_rng(seed + 1).integers(-3, 4, (n, M * DSUB)).astype(np.float32)


def in_its_space(coder: Decoder) -> tuple[Decoder, np.ndarray]:
    """Make a decoder that is not stretched, of vectors that are, and the matrix that does it."""
    arrays = dict(coder.arrays)
    stretch = arrays.pop("stretch")
    S = block_diagonal(stretch)
    arrays |= {name: arrays[name] @ S for name in ("tables", "output")}
    return Decoder({**arrays, "sites": arrays["sites"] @ stretch}, **coder.settings), S


@given(seed=st.integers(0, 1 << 20), candidates=st.integers(1, KSUB))
def test_nearest_sites_are_those_in_the_stretched_space(seed: int, candidates: int) -> None:
    stretch = np.random.default_rng(seed + 2).integers(-1, 2, (M, DSUB, DSUB))
    made, z = Decoder({**whole(seed), "stretch": stretch}, candidates=candidates), vectors(seed)
    plain, S = in_its_space(made)
    np.testing.assert_array_equal(made.nearest(z), plain.nearest(z @ S))


@given(seed=st.integers(0, 1 << 20))
def test_words_are_chosen_by_errors_in_the_stretched_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stretch = np.eye(DSUB) + 0.3 * rng.standard_normal((M, DSUB, DSUB))
    made = Decoder({**numbers(M, KSUB, DSUB, H, rng), "stretch": stretch}, candidates=4)
    z = rng.standard_normal((100, M * DSUB)).astype(np.float32)
    plain, S = in_its_space(made)
    # What a change brings is foretold in 8 bits, whose rounding may differ.
    assert (made.choose(z) != plain.choose(z @ S)).any(axis=1).mean() < 0.05
    errors = [
        np.square((z - made.decode(words)) @ S).sum(axis=1)
        for words in (made.choose(z), made.nearest(z)[:, :, 0])
    ]
    assert (errors[0] <= errors[1] * (1 + 1e-5)).all()


def test_what_is_decoded_is_not_stretched() -> None:
    arrays, words = whole(1), np.random.default_rng(0).integers(0, KSUB, (20, M), np.uint8)
    stretch = np.tile(np.diag([3, 2, 1]), (M, 1, 1))
    made = Decoder({**arrays, "stretch": stretch})
    np.testing.assert_array_equal(made.decode(words), Decoder(arrays).decode(words))
    np.testing.assert_array_equal(made.summands(), Decoder(arrays).summands())


def test_errors_that_count_more_are_smaller() -> None:
    rng = np.random.default_rng(0)
    arrays = numbers(M, 32, DSUB, H, rng)
    z = rng.standard_normal((500, M * DSUB)).astype(np.float32)
    stretch = np.tile(np.diag([5, 1, 1]), (M, 1, 1))

    def errors(coder: Decoder) -> np.ndarray:
        lost = np.square(z - coder.decode(coder.choose(z))).reshape(-1, M, DSUB)
        return lost.mean(axis=(0, 1))

    plain, made = errors(Decoder(arrays)), errors(Decoder({**arrays, "stretch": stretch}))
    assert made[0] < 0.7 * plain[0]
    assert made.sum() > plain.sum()


def test_states_have_the_stretch() -> None:
    made = Decoder({**whole(1), "stretch": np.tile(np.diag([3, 2, 1]), (M, 1, 1))})
    again = Decoder.from_state(made.state())
    np.testing.assert_array_equal(again.arrays["stretch"], made.arrays["stretch"])
    np.testing.assert_array_equal(again.choose(vectors(1)), made.choose(vectors(1)))


def test_other_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(DimensionError, match="stretch"):
        Decoder({**whole(1), "stretch": np.ones((M, DSUB, DSUB + 1))})
    with pytest.raises(InputError, match="stretch"):
        Decoder({**whole(1), "stretch": np.full((M, DSUB, DSUB), np.nan)})
