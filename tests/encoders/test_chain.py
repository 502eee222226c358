"""Chains: members in order, each fitted on what comes before it."""

from __future__ import annotations

import numpy as np
import pytest

from deepq._common.errors import DimensionError, InputError
from deepq.encoders import Affine, Chain, Identity, Normalize, Rotation
from deepq.quantizers import ProductQuantizer

from .builders import correlated, learned, normal


def test_chain_is_its_members_in_order() -> None:
    members = [Normalize(4), Affine(normal(3, 4)), Affine(normal(3, 3, seed=1), [1, 2, 3])]
    chain = Chain(members)
    assert (chain.d_in, chain.d_out, chain.is_fitted) == (4, 3, True)
    x = normal(10, 4)
    z = members[2].encode(members[1].encode(members[0].encode(x)))
    np.testing.assert_array_equal(chain.encode(x), z)
    np.testing.assert_array_equal(
        chain.decode(z), members[0].decode(members[1].decode(members[2].decode(z)))
    )


def test_chain_fits_each_member_on_what_comes_before() -> None:
    x = 100 * correlated(600, 8)
    chain, quantizer = Chain([Normalize(8), Rotation(8)]), ProductQuantizer(2, 4)
    assert not chain.is_fitted
    chain.fit(x, quantizer, iterations=5)
    alone, twin = learned(Normalize(8).encode(x), 2, 4, iterations=5)
    np.testing.assert_array_equal(chain.members[1].A, alone.A)
    np.testing.assert_array_equal(quantizer.codebooks, twin.codebooks)


def test_chain_refuses_members_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="at least one"):
        Chain([])
    with pytest.raises(DimensionError, match="4 inputs next, got 3"):
        Chain([Identity(4), Identity(3)])
