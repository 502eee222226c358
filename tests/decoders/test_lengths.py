"""Lengths of decoded vectors: the formula, its limits, and where a quantizer takes it."""

from __future__ import annotations

import numpy as np
import pytest

from deepq._common.errors import InputError
from deepq._common.types import InCells
from deepq.decoders import Decoder
from deepq.decoders.lengths import levelled
from deepq.quantizers import ProductQuantizer

from .test_additive import decoder, normal
from .test_neural import numbers

LEVELLINGS = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("levelling", LEVELLINGS)
def test_lengths_come_nearer_to_the_one_that_is_given(levelling: float) -> None:
    z = normal(50, 7) * np.geomspace(1e-3, 1e3, 50, dtype=np.float32)[:, None]
    before = np.linalg.norm(z.astype(np.float64), axis=1)
    found = levelled(z, levelling, 3.0)
    assert found.dtype == np.float32
    wanted = 3**levelling * before ** (1 - levelling)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), wanted, rtol=1e-6)
    np.testing.assert_allclose(found, z * (wanted / before)[:, None], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_vectors_have_lengths(size: float) -> None:
    z = normal(5, 4)
    np.testing.assert_allclose(
        levelled(z * np.float32(size), 1, size), levelled(z, 1, 1) * np.float32(size), rtol=1e-6
    )


def test_zeros_stay() -> None:
    assert not levelled(np.zeros((2, 3), np.float32), 1, 2.0).any()


@pytest.mark.parametrize("levelling", [-0.25, 0.3, 1.25, float("nan"), "half"])
def test_other_powers_are_refused(levelling) -> None:
    with pytest.raises((InputError, TypeError), match="levelling"):
        decoder(levelling=levelling)


@pytest.mark.parametrize("length", [0, -1, float("inf")])
def test_other_lengths_are_refused(length: float) -> None:
    with pytest.raises(InputError, match="length"):
        decoder(length=length)


def quantizer_of(coder, books) -> ProductQuantizer:
    M, ksub, _ = coder.shape
    made = ProductQuantizer(M, ksub.bit_length() - 1)
    made.codebooks, made.decoder = books, coder
    return made


def test_a_quantizer_levels_what_an_additive_decoder_decodes() -> None:
    coder = decoder(3, 8, 5, levelling=1, length=2.0)
    made = quantizer_of(coder, coder.codebooks(None))
    codes = np.random.default_rng(0).integers(0, 256, (20, made.code_size), np.uint8)
    z = made.decode_narrow(codes)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 2, rtol=1e-6)
    np.testing.assert_array_equal(made.decode(codes), coder.wide(z))
    words = made.choose(z)
    made.decoder = coder.with_settings(levelling=0)
    np.testing.assert_array_equal(made.choose(z), words)
    assert np.linalg.norm(made.decode_narrow(codes), axis=1).std() > 0.1


def test_it_levels_what_is_mixed_with_the_codewords() -> None:
    coder = Decoder(
        numbers(4, 16, 3, 8, np.random.default_rng(0)), levelling=1, length=3.0, weight=0.5
    )
    books = normal(*coder.arrays["sites"].shape, seed=9)
    words = np.random.default_rng(0).integers(0, 16, (20, 4), np.uint8)
    made = quantizer_of(coder, books)
    found = made.reconstruct(words)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 3, rtol=1e-6)
    plain = (coder.decode(words) + made.gather(words)) / 2
    np.testing.assert_allclose(found, levelled(plain, 1, 3.0), rtol=1e-5, atol=1e-6)


def test_in_cells_whole_vectors_have_lengths() -> None:
    coder = Decoder(numbers(4, 16, 3, 8, np.random.default_rng(0)), levelling=1, length=3.0)
    made = quantizer_of(coder, normal(*coder.arrays["sites"].shape, seed=9))
    rng = np.random.default_rng(0)
    words = rng.integers(0, 16, (20, 4), np.uint8)
    centres = normal(4, coder.shape[2], seed=3)
    cells = InCells(centres, rng.integers(0, 4, 20))
    whole = made.reconstruct(words, cells) + centres[cells.cells]
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 3, rtol=1e-5)
