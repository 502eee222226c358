"""Wide vectors: made by an encoder, and by the faiss transform that stands for it."""

from __future__ import annotations

import numpy as np
import pytest

from deepq._common.errors import DimensionError, InputError
from deepq.encoders import Affine, Chain, Identity, Rotation, Spread
from deepq.encoders.chain import with_spread, without_spread
from deepq.encoders.plain import encoder_state, make_encoder
from tests.decoders.test_additive import decoder, normal

SHARES = np.sqrt([0.5, 0.3, 0.2])


@pytest.mark.parametrize("centre", [np.zeros(4), np.arange(4)], ids=["at zero", "elsewhere"])
def test_it_is_its_matrix_and_can_be_undone(centre) -> None:
    encoder, x = Spread(SHARES, centre), normal(9, 4)
    z = encoder.encode(x)
    assert z.shape == (9, encoder.d_out) == (9, 15)
    np.testing.assert_allclose(Affine(*encoder.matrix()).encode(x), z, atol=1e-6)
    np.testing.assert_allclose(encoder.decode(z), x, atol=1e-6)
    np.testing.assert_allclose(np.square(z).sum(axis=1), np.square(x - centre).sum(axis=1), 1e-5)


def test_a_state_makes_the_same() -> None:
    encoder = Spread(SHARES, np.arange(4))
    again = make_encoder(encoder_state(encoder))
    assert isinstance(again, Spread)
    np.testing.assert_array_equal(again.shares, encoder.shares)
    np.testing.assert_array_equal(again.centre, encoder.centre)


def test_it_comes_last_and_goes_again() -> None:
    coder = decoder(3, 8, 5)
    for before in (
        Identity(5),
        Affine(normal(5, 7)),
        Chain([Affine(normal(6, 7)), Affine(normal(5, 6))]),
    ):
        with_it = with_spread(before, coder)
        assert isinstance(with_it.members[-1], Spread)
        assert (with_it.d_in, with_it.d_out) == (before.d_in, coder.shape[2])
        x = normal(4, before.d_in)
        np.testing.assert_array_equal(without_spread(with_it).encode(x), before.encode(x))
    rotation = Rotation(5)
    assert without_spread(rotation) is rotation


@pytest.mark.parametrize(
    ("shares", "centre", "error", "text"),
    [
        ([1.0, 1.0], [0.0], InputError, "squares add up to 1"),
        ([-1.0], [0.0], InputError, "positive shares"),
        ([np.nan], [0.0], InputError, "finite shares"),
        ([1.0], [np.inf], InputError, "finite centre"),
        ([[1.0]], [0.0], DimensionError, "shares of shape"),
        ([1.0], [], DimensionError, "centre of shape"),
    ],
)
def test_wrong_numbers_are_refused(shares, centre, error, text) -> None:
    with pytest.raises(error, match=text):
        Spread(shares, centre)
