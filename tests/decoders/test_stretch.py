"""Stretched decoders: the errors by which words are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError
from deepq.decoders import Decoder
from deepq.decoders.panels import block_diagonal, diagonal_blocks

from .test_neural import numbers

M, KSUB, DSUB, H = 4, 8, 3, 8
D = M * DSUB


def whole(seed: int) -> dict[str, np.ndarray]:
    """Arrays of a decoder of whole numbers, of which all arithmetic in float32 is exact."""
    arrays = numbers(M, KSUB, DSUB, H, np.random.default_rng(seed), whole=True)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def vectors(seed: int, n: int = 30) -> np.ndarray:
    return np.random.default_rng(seed + 1).integers(-3, 4, (n, M * DSUB)).astype(np.float32)


def symmetric(seed: int) -> np.ndarray:
    """Stretch of small whole numbers."""
    drawn = np.triu(np.random.default_rng(seed + 2).integers(-1, 2, (D, D)))
    return drawn + drawn.T


@given(seed=st.integers(0, 1 << 20), candidates=st.integers(1, KSUB))
def test_nearest_sites_are_those_of_stretched_sub_vectors(seed: int, candidates: int) -> None:
    arrays, stretch, z = whole(seed), symmetric(seed), vectors(seed)
    blocks = diagonal_blocks(stretch, M)
    plain = Decoder({**arrays, "sites": arrays["sites"] @ blocks}, candidates=candidates)
    made = Decoder({**arrays, "stretch": stretch}, candidates=candidates)
    np.testing.assert_array_equal(made.nearest(z), plain.nearest(z @ block_diagonal(blocks)))


def test_sub_vectors_of_one_number() -> None:
    M, rng = 8, np.random.default_rng(1)
    z = rng.standard_normal((50, M)).astype(np.float32)
    made = Decoder({**numbers(M, KSUB, 1, H, rng), "stretch": np.diag(np.arange(1.0, M + 1))})
    near = np.abs(z[:, :, None] - made.arrays["sites"][:, :, 0]).argmin(2)
    np.testing.assert_array_equal(made.nearest(z)[:, :, 0], near)
    assert made.choose(z).shape == (50, M)


@given(seed=st.integers(0, 1 << 20))
def test_words_are_those_of_a_plain_decoder_in_the_stretched_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = np.eye(DSUB) + 0.3 * rng.standard_normal((M, DSUB, DSUB))
    S, arrays = block_diagonal(blocks), numbers(M, KSUB, DSUB, H, rng)
    made = Decoder({**arrays, "stretch": S}, candidates=4)
    there = {name: arrays[name] @ S for name in ("tables", "output")}
    plain = Decoder({**arrays, **there, "sites": arrays["sites"] @ blocks}, candidates=4)
    z = rng.standard_normal((100, D)).astype(np.float32)
    # What a change brings is foretold in 8 bits, whose rounding may differ.
    assert (made.choose(z) != plain.choose(z @ S)).any(axis=1).mean() < 0.05


@given(seed=st.integers(0, 1 << 20))
def test_words_are_chosen_by_errors_in_the_stretched_space(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = numbers(M, KSUB, DSUB, H, rng)
    S = np.eye(D) + 0.1 * rng.standard_normal((D, D))
    made = Decoder({**arrays, "stretch": S}, candidates=KSUB)
    z = rng.standard_normal((100, D)).astype(np.float32)
    # The same with all that is decoded stretched. Any word may be taken, whatever its site.
    plain = Decoder({**arrays, **{k: arrays[k] @ S for k in ("tables", "output")}}, candidates=KSUB)
    chosen, others = made.choose(z), plain.choose((z @ S).astype(np.float32))

    def errors(words: np.ndarray) -> np.ndarray:
        lost: np.ndarray = np.square((z - made.decode(words)) @ S).sum(axis=1)
        return lost

    assert (errors(chosen) <= errors(made.nearest(z)[:, :, 0]) * (1 + 1e-5)).all()
    # They begin at other words, so they may end at others.
    assert errors(chosen).mean() < 1.1 * errors(others).mean()


def test_what_is_decoded_is_not_stretched() -> None:
    arrays, words = whole(1), np.random.default_rng(0).integers(0, KSUB, (20, M), np.uint8)
    made = Decoder({**arrays, "stretch": symmetric(1)})
    np.testing.assert_array_equal(made.decode(words), Decoder(arrays).decode(words))
    np.testing.assert_array_equal(made.summands(), Decoder(arrays).summands())


def test_errors_that_count_more_are_smaller() -> None:
    rng = np.random.default_rng(0)
    arrays = numbers(M, 32, DSUB, H, rng)
    z = rng.standard_normal((500, M * DSUB)).astype(np.float32)
    stretch = np.diag([5, 1, 1] * M)

    def errors(coder: Decoder) -> np.ndarray:
        lost = np.square(z - coder.decode(coder.choose(z))).reshape(-1, M, DSUB)
        return lost.mean(axis=(0, 1))

    plain, made = errors(Decoder(arrays)), errors(Decoder({**arrays, "stretch": stretch}))
    assert made[0] < 0.7 * plain[0]
    assert made.sum() > plain.sum()


def test_states_have_the_stretch() -> None:
    made = Decoder({**whole(1), "stretch": symmetric(1)})
    again = Decoder.from_state(made.state())
    np.testing.assert_array_equal(again.arrays["stretch"], made.arrays["stretch"])
    np.testing.assert_array_equal(again.choose(vectors(1)), made.choose(vectors(1)))


def test_other_shapes_and_numbers_are_refused() -> None:
    with pytest.raises(DimensionError, match="stretch"):
        Decoder({**whole(1), "stretch": np.ones((D, D + 1))})
    with pytest.raises(InputError, match="stretch"):
        Decoder({**whole(1), "stretch": np.full((D, D), np.nan)})
