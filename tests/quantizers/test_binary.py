"""Binary codewords: bits of their numbers, packed as faiss packs them."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq._common.errors import DimensionError, InputError
from deepq.decoders import Decoder
from deepq.encoders import Rotation, Sign
from deepq.quantizers import BinaryQuantizer, ProductQuantizer
from deepq.quantizers.binary import kind_of

from .bits import bare, each_nbits, packed, signs

shapes = given(st.integers(1, 9), st.integers(1, 8), st.integers(0, 40), st.integers(0, 2**32 - 1))


# ---- the quantizer -------------------------------------------------------------------------------


def test_codewords_are_the_bits_of_their_numbers() -> None:
    quantizer = BinaryQuantizer(2, 2)
    assert (quantizer.is_trained, quantizer.is_frozen, quantizer.dsub) == (True, True, 2)
    for book in quantizer.codebooks:
        assert book.tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    whole = BinaryQuantizer(1).codebooks[0]
    np.testing.assert_array_equal(packed(whole).ravel(), np.arange(256))


@shapes
def test_codes_are_packed_bits(M: int, nbits: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = np.round(rng.standard_normal((n, M * nbits)), 1).astype(np.float32)
    z[z == 0] *= rng.choice([1, -1], (z == 0).sum())
    quantizer = BinaryQuantizer(M, nbits)
    codes = quantizer.encode(z)
    assert quantizer.assign(z).dtype == codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, packed(z))
    decoded = quantizer.decode(codes)
    np.testing.assert_array_equal(decoded, np.where(z >= 0, 1, -1))
    np.testing.assert_array_equal(quantizer.encode(decoded), codes)


@shapes
def test_faiss_gives_rows_of_signs_the_same_codes(M: int, nbits: int, n: int, seed: int) -> None:
    z = signs(n, M * nbits, seed)
    quantizer = BinaryQuantizer(M, nbits)
    twin = faiss.ProductQuantizer(M * nbits, M, nbits)
    faiss.copy_array_to_vector(quantizer.codebooks.ravel(), twin.centroids)
    np.testing.assert_array_equal(quantizer.encode(z), twin.compute_codes(z))
    for row in z[:3]:
        np.testing.assert_array_equal(quantizer.encode(row[None]), twin.compute_codes(row[None]))


def test_faiss_alone_may_take_0_for_minus_1() -> None:
    """Which of equally near codewords it takes depends on its SIMD level: docs/hashing.md."""
    index = bare(1)
    plain = deepq.to_faiss(index)
    zeros, uneven = np.zeros((1, 8), np.float32), np.full((1, 8), 1e-6, np.float32)
    uneven[0, 0] = 1e6
    assert index.sa_encode(zeros) == index.sa_encode(uneven) == 255
    assert plain.sa_encode(uneven) & 1
    with_sign = bare(1, encoder=Sign(8))
    replicas = faiss.IndexReplicas(8)
    replicas.add_replica(with_sign)
    replicas.add(np.concatenate([zeros, uneven]))
    assert faiss.vector_to_array(with_sign.codes).tolist() == [255, 255]


def test_words_follow_the_sign_however_small_a_number_is() -> None:
    z = np.array([[1e30, -1e-40, 0.0, -0.0]], np.float32)
    assert BinaryQuantizer(1, 4).assign(z).tolist() == [[0b1101]]
    assert BinaryQuantizer(4, 1).assign(z).tolist() == [[1, 0, 1, 1]]


def test_nothing_is_learned() -> None:
    quantizer = BinaryQuantizer(2, 3)
    before = quantizer.codebooks
    entries: list[Any] = []
    quantizer.train(np.ones((1, 6), np.float32), progress=entries.append)
    assert quantizer.codebooks is before
    assert not entries
    assert quantizer.least_rows == 1
    with pytest.raises(InputError, match="finite training vectors"):
        quantizer.train(np.full((3, 6), np.nan, np.float32))
    with pytest.raises(DimensionError, match="6 columns, got 4"):
        quantizer.train(np.ones((3, 4), np.float32))


def test_other_codebooks_are_refused() -> None:
    quantizer = BinaryQuantizer(2, 2)
    before = quantizer.codebooks.copy()
    quantizer.codebooks = before.tolist()
    quantizer.codebooks = None  # forgets what was learned, which is nothing
    trained = ProductQuantizer(2, 2)
    trained.codebooks = before * 2
    z, rng = 3 * signs(20, 4), np.random.default_rng(0)
    for change in (
        lambda: setattr(quantizer, "codebooks", -before),
        lambda: setattr(quantizer, "codebooks", before[:, :, :1]),
        lambda: quantizer.share(before[:1]),
        lambda: quantizer.take(trained),
        lambda: quantizer.draw(z, rng),
        lambda: quantizer.update(z, quantizer.assign(z), rng),
        lambda: Rotation(4).fit(z.repeat(50, axis=0), quantizer),
    ):
        with pytest.raises(InputError, match="codewords of \\+-1 that a BinaryQuantizer always"):
            change()
    with pytest.raises(DimensionError):
        quantizer.codebooks = before[:1]
    with pytest.raises(ValueError, match="read-only"):
        quantizer.codebooks[0, 0, 0] = 5
    np.testing.assert_array_equal(quantizer.codebooks, before)


def test_wrong_numbers_and_decoders_are_refused() -> None:
    for nbits in (0, 9):
        with pytest.raises(InputError, match=f"nbits .*got {nbits}"):
            BinaryQuantizer(1, nbits)
    with pytest.raises(InputError, match="expected no decoder for a BinaryQuantizer"):
        BinaryQuantizer(1).decoder = object.__new__(Decoder)


@each_nbits
def test_the_kind_is_known_by_the_codebooks(nbits: int) -> None:
    books = BinaryQuantizer(2, nbits).codebooks
    assert kind_of(books) is BinaryQuantizer
    for other in (books[:, ::-1], books * 2, books[:, :, :-1], np.repeat(books, 2, axis=2)):
        assert kind_of(other) is ProductQuantizer
    other = books.copy()
    other[1, 0, 0] = np.nan
    assert kind_of(other) is ProductQuantizer


# ---- Sign ----------------------------------------------------------------------------------------


def test_sign_is_never_0() -> None:
    x = np.array([[2.0, -1e-40, 0.0, -0.0, np.inf, -np.inf, np.nan]], np.float32)
    encoder = Sign(7)
    z = encoder.encode(x)
    np.testing.assert_array_equal(z, [[1, -1, 1, 1, 1, -1, np.nan]])
    assert z.dtype == np.float32
    assert x[0, 2] == 0
    rows = np.asfortranarray(signs(5, 7) * 3)
    np.testing.assert_array_equal(encoder.encode(rows), signs(5, 7))
    np.testing.assert_array_equal(encoder.decode(rows), rows)
    with pytest.raises(DimensionError, match="rows of 7 numbers"):
        encoder.encode(x[:, :3])
