"""Additive codes: beam search by loops, wide vectors, and the numbers of an `AdditiveDecoder`."""

from __future__ import annotations

from itertools import product
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq import _decode, _scan
from deepq._common.errors import DimensionError, InputError
from deepq._kernels import reference
from deepq.decoders import AdditiveDecoder
from deepq.decoders.plain import make_decoder
from deepq.decoders.wide import matrix

seeds = st.integers(0, 2**32 - 1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def decoder(M: int = 3, ksub: int = 8, d: int = 5, seed: int = 0, **settings: Any) -> Any:
    arrays = {"tables": normal(M, ksub, d, seed=seed), "centre": normal(d, seed=seed + 1)}
    arrays["shares"] = np.sqrt(np.arange(M, 0, -1) / (M * (M + 1) / 2))
    return AdditiveDecoder(arrays, **settings)


@pytest.mark.parametrize("level", _scan.simd_levels())
@given(seeds, st.integers(1, 4), st.integers(0, 5), st.integers(1, 9), st.booleans())
def test_the_kernel_is_the_loops(level, seed, M, bits, width, ties) -> None:
    rng, ksub = np.random.default_rng(seed), 1 << bits
    if ties:
        costs, cross = (rng.integers(-2, 3, s).astype("f4") for s in shapes(M, ksub))
    else:
        costs, cross = (rng.standard_normal(s).astype("f4") for s in shapes(M, ksub))
    before = _scan.simd()
    _scan.set_simd(level)
    try:
        words = _decode.beam(costs, cross, width)
    finally:
        _scan.set_simd(before)
    assert words.tolist() == [reference.beam(own, cross, width) for own in costs]


def shapes(M: int, ksub: int) -> tuple[tuple[int, ...], ...]:
    return (3, M, ksub), (M * (M - 1) // 2, ksub, ksub)


def test_a_beam_that_is_wide_enough_finds_the_nearest_sum() -> None:
    coder = decoder(3, 4, 6, beam=16)
    z = 2 * normal(40, 6, seed=5)
    all_words = np.array(list(product(range(4), repeat=3)), np.uint8)
    sums = coder.decode(all_words)
    nearest = np.square(z[:, None] - sums).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(coder.choose(z), all_words[nearest])


def test_wider_beams_err_less() -> None:
    z, errors = 2 * normal(500, 6, seed=5), []
    for beam in (1, 2, 8):
        coder = decoder(4, 16, 6, beam=beam)
        errors.append(float(np.square(z - coder.decode(coder.choose(z))).sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


@given(seeds, st.integers(1, 16), st.integers(1, 8))
def test_wide_vectors_have_the_same_distances(seed, M, d) -> None:
    coder = decoder(M, 2, d, seed % 1000)
    z = normal(6, d, seed=seed)
    wide = coder.wide(z)
    assert wide.shape == (6, coder.shape[2]) == (6, M * (d + 1))
    want = np.square(z[:, None] - z).sum(axis=2)
    np.testing.assert_allclose(np.square(wide[:, None] - wide).sum(axis=2), want, atol=1e-4)
    np.testing.assert_allclose(coder.narrow(wide), z, atol=1e-5)
    assert coder.narrow(z) is z
    A, b = matrix(coder.arrays["shares"], coder.arrays["centre"])
    np.testing.assert_allclose(z @ A.T + (0 if b is None else b), wide, atol=1e-5)


def test_tables_rank_as_distances_do_where_lengths_are_sums() -> None:
    M, ksub, part = 3, 8, 2
    blocks = np.zeros((M, ksub, M, part), np.float32)  # in sub-spaces, so that lengths are sums
    blocks[np.arange(M), :, np.arange(M)] = normal(M, ksub, part)
    arrays = {"tables": blocks.reshape(M, ksub, -1), "centre": normal(M * part, seed=2)}
    coder = AdditiveDecoder({**arrays, "shares": np.full(M, M**-0.5)}, shrink=0.7)
    words = np.random.default_rng(0).integers(0, ksub, (50, M)).astype(np.uint8)
    lengths = np.square(coder.arrays["tables"]).sum(axis=2)
    queries = normal(9, M * part, seed=3)
    index = faiss.IndexPQ(coder.shape[2], M, 3)
    faiss.copy_array_to_vector(coder.codebooks(lengths, 0.7).ravel(), index.pq.centroids)
    index.is_trained = True
    rows = coder.wide(queries).reshape(9, M, -1)
    books = coder.codebooks(lengths, 0.7)
    far = np.square(rows[:, None] - books[np.arange(M), words]).sum(axis=(2, 3))
    want = np.square(queries[:, None] - coder.decode(words)).sum(axis=2)
    np.testing.assert_allclose(far - want, np.full_like(far, (far - want)[0, 0]), atol=1e-4)
    assert (far > want - 1e-4).all()


def test_inner_products_need_no_lengths() -> None:
    coder = decoder(4, 8, 5)
    coder = AdditiveDecoder({**coder.arrays, "centre": np.zeros(5)})
    words = np.random.default_rng(0).integers(0, 8, (20, 4)).astype(np.uint8)
    queries = normal(3, 5, seed=9)
    rows = coder.wide(queries).reshape(3, 4, -1)
    found = (rows[:, None] * coder.codebooks(None)[np.arange(4), words]).sum(axis=(2, 3))
    np.testing.assert_allclose(found, queries @ coder.decode(words).T, atol=1e-4)
    assert matrix(coder.arrays["shares"], coder.arrays["centre"])[1] is None


def test_decoding_adds_up_and_draws_to_the_centre() -> None:
    coder, words = decoder(shrink=0.5), np.array([[0, 1, 2], [7, 7, 7]], np.uint8)
    sums = coder.arrays["tables"][np.arange(3), words].sum(axis=1)
    np.testing.assert_allclose(coder.decode(words), coder.arrays["centre"] + sums / 2, rtol=1e-5)
    exact = coder.with_settings(shrink=1)
    np.testing.assert_allclose(
        coder.summands()[np.arange(3), words].sum(axis=1), exact.decode(words), atol=1e-5
    )


def test_words_depend_on_no_neighbours_and_no_threads() -> None:
    coder, z = decoder(4, 16, 40), normal(1200, 40, seed=3)
    words = coder.choose(z)
    np.testing.assert_array_equal(coder.choose(z, 2), words)
    np.testing.assert_array_equal(coder.choose(coder.wide(z)[:7]), coder.choose(z[:7]))
    alone = [coder.choose(z[i : i + 1]) for i in range(9)]
    np.testing.assert_array_equal(np.concatenate(alone), words[:9])
    assert coder.choose(z[:0]).shape == (0, 4)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_words_do_not_depend_on_the_scale(scale) -> None:
    coder, z = decoder(), normal(50, 5, seed=3)
    tables, centre = (coder.arrays[name] * np.float32(scale) for name in ("tables", "centre"))
    coarse = AdditiveDecoder({**coder.arrays, "tables": tables, "centre": centre})
    scaled = coarse.choose(z * np.float32(scale))
    assert (scaled == coder.choose(z)).mean() > 0.95


def test_a_state_makes_the_same_decoder() -> None:
    settings = {"shrink": 0.6, "levelling": 0.5, "length": 2.0, "beam": 3, "spare": 20}
    coder = decoder(**settings)
    again = make_decoder(coder.state())
    assert isinstance(again, AdditiveDecoder)
    assert again.settings == coder.settings == settings
    for name, array in coder.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert not again.arrays[name].flags.writeable


def test_wrong_numbers_are_refused() -> None:
    good = decoder().arrays
    with pytest.raises(InputError, match="shares whose squares add up to 1"):
        AdditiveDecoder({**good, "shares": np.ones(3)})
    with pytest.raises(InputError, match="positive"):
        AdditiveDecoder({**good, "shares": -good["shares"]})
    with pytest.raises(InputError, match="finite numbers in tables"):
        AdditiveDecoder({**good, "tables": good["tables"] * np.nan})
    with pytest.raises(InputError, match="expected the arrays"):
        AdditiveDecoder({"tables": good["tables"]})
    with pytest.raises(DimensionError, match=r"centre of shape \(5\)"):
        AdditiveDecoder({**good, "centre": np.zeros(4)})
    with pytest.raises(InputError, match="at most 32 tables"):
        decoder(33)
    with pytest.raises(InputError, match="at most 32 tables of at most 256"):
        decoder(2, 512, 1)
    for setting in ({"shrink": 0}, {"beam": 0}, {"spare": -1}):
        with pytest.raises(InputError):
            decoder(**setting)
    with pytest.raises(DimensionError, match="rows of 5 or 18 numbers"):
        decoder().choose(np.zeros((2, 6), np.float32))
