"""Decoders: the formula by loops, what is chosen under it, and the network that learns it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq import _decode, _scan
from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.types import InCells
from deepq.decoders import Decoder, neural
from deepq.decoders.panels import in_bytes
from deepq.quantizers import ProductQuantizer

sizes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture
def level(request):
    """An instruction set, in use."""
    before = _scan.simd()
    _scan.set_simd(request.param)
    yield request.param
    _scan.set_simd(before)


each_level = pytest.mark.parametrize("level", _scan.simd_levels(), indirect=True)


def numbers(
    M: int, ksub: int, dsub: int, h: int, rng: np.random.Generator, *, whole: bool = False
) -> dict[str, np.ndarray]:
    """Arrays of a decoder; of -1, 0 and 1, all arithmetic in float32 is exact."""
    d, b = M * dsub, (2 * h + 2) // 3  # narrower inside the block
    shapes = {"tables": (M, ksub, d), "features": (M, ksub, h), "inner": (h, b), "bias": (b,)}
    shapes |= {"outer": (b, h), "output": (h, d), "centre": (d,), "sites": (M, ksub, dsub)}
    if whole:
        return {name: rng.integers(-1, 2, shape) for name, shape in shapes.items()}
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}


def decode_one(
    arrays: dict[str, np.ndarray], words: np.ndarray, shrink: float = 1, cell: Any = None
) -> np.ndarray:
    """The formula in the module's docstring, a vector at a time, in float64."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    h, z = np.zeros(len(a["output"])), np.zeros(len(a["centre"]))
    if cell is not None:
        h = a["cells"].T @ cell
    for m, word in enumerate(words):
        h = h + a["features"][m, word]
        z = z + a["tables"][m, word]
    W1, W2, O = a["inner"].T, a["outer"].T, a["output"].T
    h = h + W2 @ np.maximum(W1 @ h + a["bias"], 0)
    z = z + O @ np.maximum(h, 0)
    return a["centre"] + shrink * (z - a["centre"])


def choose_one(
    decoder: Decoder, z: np.ndarray, candidates: np.ndarray, cell: Any = None
) -> np.ndarray:
    """What `choose` does for one vector, by loops, in float64."""
    whole, _, unit = in_bytes(decoder.summands())
    summands = whole[:, :, : len(z)].astype(np.float64) * unit
    words = candidates[:, 0].copy()
    rest = z - decode_one(decoder.arrays, words, cell=cell)
    together, left = 2, None
    for _ in range(decoder.sweeps * max(16, len(words) // 2)):
        other = words.copy()
        if together:
            together -= 1
            aim = rest.copy()
            for m, row in enumerate(candidates):
                steps = summands[m, row] - summands[m, words[m]]
                change = np.square(steps).sum(axis=1) - 2 * steps @ aim
                if change.min() < 0:
                    other[m] = row[change.argmin()]
                    aim -= steps[change.argmin()]
            together *= bool((other != words).any())
        alone = (other == words).all()
        if alone:
            if left is None:
                left = {}
                for m, word in ((m, w) for m, row in enumerate(candidates) for w in row):
                    step = summands[m, word] - summands[m, words[m]]
                    if word != words[m]:
                        left[m, word] = step @ step - 2 * rest @ step
            limit = neural._HOPE / len(words) * (rest @ rest)
            if not left or min(left.values()) >= limit:
                break
            m, word = min(left, key=left.__getitem__)
            del left[m, word]
            other[m] = word
        after = z - decode_one(decoder.arrays, other, cell=cell)
        if after @ after < rest @ rest:
            words, rest, left = other, after, None
        elif not alone:
            together = 0
    return words


def squared_errors(decoder: Decoder, z: np.ndarray, words: np.ndarray) -> np.ndarray:
    return np.square(z - decoder.with_settings(shrink=1.0).decode(words)).sum(axis=1)


@given(sizes, st.integers(1, 9), st.sampled_from([np.uint8, np.uint16]), st.floats(0.1, 1), seeds)
def test_decode_is_the_formula(shape, n, dtype, shrink, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = numbers(*shape, rng)
    words = rng.integers(0, shape[1], (n, shape[0])).astype(dtype)
    got = Decoder(arrays, shrink=shrink).decode(words)
    assert got.dtype == np.float32
    want = np.stack([decode_one(arrays, row, shrink) for row in words])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@each_level
@pytest.mark.parametrize(
    "shape", [(1, 4, 1, 1), (3, 300, 11, 33), (7, 16, 16, 64), (12, 256, 8, 70)]
)
def test_decode_with_every_instruction_set(level, shape) -> None:
    assert _scan.simd() == level
    rng = np.random.default_rng(3)
    arrays = numbers(*shape, rng)
    words = rng.integers(0, shape[1], (150, shape[0])).astype(np.uint16)
    decoder = Decoder(arrays, shrink=0.9)
    got = decoder.decode(words)
    want = np.stack([decode_one(arrays, row, 0.9) for row in words])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)
    alone = np.concatenate([decoder.decode(words[i : i + 1]) for i in range(len(words))])
    np.testing.assert_array_equal(got, alone)


@pytest.mark.skipif("avx512" not in _scan.simd_levels(), reason="no AVX-512")
def test_instruction_sets_that_fuse_agree_to_the_bit() -> None:
    rng = np.random.default_rng(4)
    decoder = Decoder(numbers(6, 64, 8, 50, rng), candidates=6, sweeps=2)
    z = rng.standard_normal((500, 48), dtype=np.float32)
    words = rng.integers(0, 64, (500, 6)).astype(np.uint8)
    before, found = _scan.simd(), []
    for name in ("avx2", "avx512"):
        _scan.set_simd(name)
        found.append((decoder.decode(words), decoder.choose(z)))
    _scan.set_simd(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_summands_of_an_open_network_add_up_to_what_it_decodes() -> None:
    arrays = numbers(3, 8, 4, 5, np.random.default_rng(0))
    arrays["bias"] = np.full(4, 100.0)
    arrays["outer"] = np.abs(arrays["outer"]) + 0.1  # so is the second layer
    decoder, words = Decoder(arrays), np.random.default_rng(1).integers(0, 8, (40, 3), np.uint8)
    sums = decoder.summands()[np.arange(3), words].sum(axis=1)
    np.testing.assert_allclose(sums, decoder.decode(words), rtol=1e-3, atol=1e-2)
    whole, offset, unit = in_bytes(decoder.summands())
    assert whole.dtype == np.int8
    assert whole.shape == (3, 8, _decode.PANEL)
    rough = offset + unit * whole[np.arange(3), words].sum(axis=1)[:, :12]
    assert np.abs(rough - sums).max() < 3 * unit


def test_summands_are_nearer_than_tables_alone() -> None:
    rng = np.random.default_rng(5)
    decoder = Decoder(numbers(4, 16, 4, 12, rng))
    words = rng.integers(0, 16, (500, 4), np.uint8)
    off = []
    for part in (decoder.summands(), decoder.arrays["tables"]):
        rest = decoder.decode(words) - part[np.arange(4), words].sum(axis=1)
        off.append(np.square(rest - rest.mean(axis=0)).mean())
    assert off[0] < off[1]


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 300), st.integers(1, 70), seeds)
def test_least_numbers_and_their_gaps(M, n, ksub, count, seed) -> None:
    rng, count = np.random.default_rng(seed), min(count, ksub)
    rows = rng.integers(-50, 50, (M, n, ksub)).astype(np.float32)  # with ties
    places, gaps = _decode.least(rows, count)
    want = np.argsort(rows, axis=2, kind="stable")
    np.testing.assert_array_equal(places, want[:, :, :count].transpose(1, 0, 2))
    more = np.take_along_axis(rows, want[:, :, : count + 1], axis=2)
    np.testing.assert_array_equal(gaps, np.diff(more, axis=2).min(axis=2, initial=np.inf).T)


@given(sizes, st.integers(1, 9), seeds)
def test_nearest_words_are_those_of_the_nearest_sites(shape, count, seed) -> None:
    rng = np.random.default_rng(seed)
    M, ksub, dsub, _ = shape
    decoder = Decoder(numbers(*shape, rng), candidates=count)
    z = rng.standard_normal((30, M * dsub), dtype=np.float32)
    parts = z.reshape(-1, M, 1, dsub).astype(np.float64)
    far = np.square(parts - decoder.arrays["sites"][None]).sum(axis=3)
    got = decoder.nearest(z)
    assert (got.dtype, got.shape) == (np.uint8, (30, M, min(count, ksub)))
    assert all(len(set(row)) == len(row) for row in got.reshape(-1, got.shape[2]))
    want = np.sort(far, axis=2)[:, :, : min(count, ksub)]
    at = got.astype(int)
    np.testing.assert_allclose(np.take_along_axis(far, at, axis=2), want, rtol=1e-4, atol=1e-5)


def test_more_than_256_words() -> None:
    rng = np.random.default_rng(0)
    decoder = Decoder(numbers(2, 300, 2, 3, rng), candidates=300, sweeps=20)
    words = rng.integers(250, 300, (20, 2)).astype(np.uint16)
    z = decoder.decode(words)
    assert decoder.nearest(z).dtype == np.uint16
    chosen = decoder.choose(z)
    assert chosen.dtype == np.uint16
    assert chosen.max() > 255


def test_nearest_words_do_not_cancel_far_from_the_origin() -> None:
    rng = np.random.default_rng(0)
    arrays = numbers(4, 16, 4, 3, rng)
    z = rng.standard_normal((300, 16), dtype=np.float32)
    for offset in (0, 4096):
        moved = Decoder({**arrays, "sites": arrays["sites"] + offset}, candidates=1)
        near = _scan.assign(z + np.float32(offset), moved.arrays["sites"])
        assert (moved.nearest(z + np.float32(offset))[:, :, 0] == near).mean() > 0.99


@given(
    st.sampled_from([1e2, 1e4, 1e6]), st.integers(1, 20), st.sampled_from([1e-25, 1, 1e9]), seeds
)
def test_nearest_words_in_groups_far_apart(gap, count, unit, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = numbers(3, 16, 4, 3, rng)
    places = gap * rng.integers(-2, 3, (16, 1))
    x = (places[rng.integers(0, 16, 16 + 40)] + rng.standard_normal((56, 12))) * unit
    x = x.astype(np.float32)
    arrays["sites"] = x[:16].reshape(16, 3, 4).transpose(1, 0, 2)
    for name in ("tables", "output"):
        arrays[name] = arrays[name] * np.float32(unit)
    decoder, z = Decoder(arrays, candidates=count), x[16:]
    parts = z.reshape(40, 3, 1, 4).astype(np.float64)
    distances = np.square(parts - arrays["sites"].astype(np.float64)).sum(axis=3)
    expected = np.argsort(distances, axis=2, kind="stable")[:, :, :count]
    np.testing.assert_array_equal(decoder.nearest(z), expected)


def test_choose_does_not_follow_the_unit() -> None:
    rng = np.random.default_rng(3)
    arrays, z = numbers(3, 16, 4, 3, rng), rng.standard_normal((50, 12), dtype=np.float32)
    words = Decoder(arrays).choose(z)
    tiny = np.float32(2.0**-80)
    for name in ("sites", "tables", "output", "centre"):
        arrays[name] = arrays[name] * tiny
    np.testing.assert_array_equal(Decoder(arrays).choose(z * tiny), words)


@each_level
@pytest.mark.parametrize("shape", [(1, 6, 3, 4), (4, 16, 2, 5), (8, 16, 4, 40), (3, 300, 12, 3)])
@pytest.mark.parametrize(("A", "sweeps"), [(1, 1), (3, 1), (5, 2)])
def test_choose_tries_changes_in_the_order_of_what_they_promise(level, shape, A, sweeps) -> None:
    assert _scan.simd() == level
    rng = np.random.default_rng(7)
    arrays = numbers(*shape, rng)
    z = 2 * rng.standard_normal((60, shape[0] * shape[2]), dtype=np.float32)
    for shrink in (1.0, 0.5):  # drawing towards the centre does not enter
        decoder = Decoder(arrays, shrink=shrink, candidates=A, sweeps=sweeps)
        candidates = decoder.nearest(z).astype(int)
        want = [choose_one(decoder, *row) for row in zip(z, candidates, strict=True)]
        got = decoder.choose(z)
        assert got.dtype == (np.uint8 if shape[1] <= 256 else np.uint16)
        assert (got == want).all(axis=1).mean() > 0.96  # what is as good to a rounding may differ


@given(sizes, st.integers(1, 5), st.integers(1, 3), seeds)
def test_what_is_chosen_is_never_worse_than_the_start(shape, A, sweeps, seed) -> None:
    rng = np.random.default_rng(seed)
    decoder = Decoder(numbers(*shape, rng), shrink=0.7, candidates=A, sweeps=sweeps)
    z = rng.standard_normal((20, shape[0] * shape[2]), dtype=np.float32)
    candidates = decoder.nearest(z)
    words = decoder.choose(z)
    start = squared_errors(decoder, z, candidates[:, :, 0])
    assert (squared_errors(decoder, z, words) <= start * (1 + 1e-5) + 1e-5).all()
    assert (words[:, :, None] == candidates).any(axis=2).all()


def test_one_sub_space_with_all_candidates_is_brute_force(monkeypatch) -> None:
    monkeypatch.setattr(neural, "_HOPE", np.inf)
    rng = np.random.default_rng(0)
    decoder = Decoder(numbers(1, 32, 8, 4, rng), candidates=32, sweeps=1000)
    z = rng.standard_normal((300, 8), dtype=np.float32)
    decoded = decoder.decode(np.arange(32, dtype=np.uint8)[:, None])
    best = np.square(z[:, None] - decoded[None]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(decoder.choose(z)[:, 0], best)


def test_many_sweeps_end_where_no_single_word_can_be_bettered(monkeypatch) -> None:
    monkeypatch.setattr(neural, "_HOPE", np.inf)
    rng = np.random.default_rng(1)
    decoder = Decoder(numbers(3, 8, 2, 4, rng), candidates=8, sweeps=300)
    z = rng.standard_normal((50, 6), dtype=np.float32)
    words = decoder.choose(z)
    least = squared_errors(decoder, z, words)
    for m in range(3):
        for word in range(8):
            other = words.copy()
            other[:, m] = word
            assert (squared_errors(decoder, z, other) >= least - 1e-4).all()


@pytest.mark.parametrize(("n", "num_threads"), [(300, 1), (1100, 1), (2100, 3)])
def test_blocks_and_threads_show_neither_in_what_is_chosen_nor_decoded(n, num_threads) -> None:
    rng = np.random.default_rng(2)
    decoder = Decoder(numbers(4, 16, 2, 4, rng, whole=True), candidates=5, sweeps=2)
    z = rng.integers(-9, 10, (n, 8)).astype(np.float32)
    alone = [decoder.choose(z[i : i + 1])[0] for i in range(n)]
    words = decoder.choose(z, num_threads)
    np.testing.assert_array_equal(words, alone)
    whole = [decoder.decode(words[i : i + 1])[0] for i in range(n)]
    np.testing.assert_array_equal(decoder.decode(words, num_threads), whole)


def test_no_words_decode_to_no_vectors() -> None:
    decoder = Decoder(numbers(3, 8, 2, 4, np.random.default_rng(0)), shrink=0.9)
    assert decoder.choose(np.empty((0, 6), np.float32)).shape == (0, 3)
    assert decoder.decode(np.empty((0, 3), np.uint8)).shape == (0, 6)


# ---- cells ---------------------------------------------------------------------------------------


def that_knows_cells(
    M: int, ksub: int, dsub: int, h: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Arrays of a decoder that knows cells."""
    return numbers(M, ksub, dsub, h, rng) | {"cells": 0.5 * rng.standard_normal((M * dsub, h))}


def some_cells(n: int, d: int, rng: np.random.Generator) -> InCells:
    """Cells of n vectors, among more than there are of them."""
    centres = rng.standard_normal((2 * n + 1, d), dtype=np.float32)
    return InCells(centres, rng.integers(0, len(centres), n))


@given(sizes, st.integers(1, 9), st.floats(0.1, 1), seeds)
def test_decode_in_cells_is_the_formula(shape, n, shrink, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = that_knows_cells(*shape, rng)
    words = rng.integers(0, shape[1], (n, shape[0])).astype(np.uint8)
    cells = some_cells(n, shape[0] * shape[2], rng)
    got = Decoder(arrays, shrink=shrink).decode(words, cells=cells)
    centres = cells.centres[cells.cells]
    pairs = zip(words, centres, strict=True)
    want = np.stack([decode_one(arrays, row, shrink, centre) for row, centre in pairs])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@each_level
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 300, 11, 33), (12, 256, 8, 70)])
def test_decode_in_cells_does_not_depend_on_what_is_beside(level, shape) -> None:
    assert _scan.simd() == level
    rng = np.random.default_rng(3)
    arrays, d = that_knows_cells(*shape, rng), shape[0] * shape[2]
    words = rng.integers(0, shape[1], (150, shape[0])).astype(np.uint16)
    decoder, cells = Decoder(arrays), some_cells(150, d, rng)
    got = decoder.decode(words, cells=cells)
    for i in range(len(words)):
        own = InCells(cells.centres[cells.cells[i]][None], np.zeros(1, np.int64))
        np.testing.assert_array_equal(decoder.decode(words[i : i + 1], cells=own)[0], got[i])


@each_level
@pytest.mark.parametrize("shape", [(1, 6, 3, 4), (4, 16, 2, 5), (8, 16, 4, 40), (3, 300, 12, 3)])
@pytest.mark.parametrize("A", [3, 5])
def test_choose_in_cells_tries_what_it_does_with_one(level, shape, A) -> None:
    assert _scan.simd() == level
    rng = np.random.default_rng(7)
    arrays, d = that_knows_cells(*shape, rng), shape[0] * shape[2]
    z, cells = 2 * rng.standard_normal((150, d), dtype=np.float32), some_cells(150, d, rng)
    decoder = Decoder(arrays, candidates=A)
    centres, candidates = cells.centres[cells.cells], decoder.nearest(z).astype(int)
    want = [choose_one(decoder, *row) for row in zip(z, candidates, centres, strict=True)]
    assert (decoder.choose(z, cells=cells) == want).all(axis=1).mean() > 0.95


@pytest.mark.skipif("avx512" not in _scan.simd_levels(), reason="no AVX-512")
def test_instruction_sets_that_fuse_agree_to_the_bit_in_cells() -> None:
    rng = np.random.default_rng(4)
    decoder = Decoder(that_knows_cells(6, 64, 8, 50, rng), candidates=6)
    z, cells = rng.standard_normal((500, 48), dtype=np.float32), some_cells(500, 48, rng)
    words = rng.integers(0, 64, (500, 6)).astype(np.uint8)
    before, found = _scan.simd(), []
    for name in ("avx2", "avx512"):
        _scan.set_simd(name)
        found.append((decoder.decode(words, cells=cells), decoder.choose(z, cells=cells)))
    _scan.set_simd(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_decoder_that_knows_cells_must_be_told_them() -> None:
    rng = np.random.default_rng(0)
    decoder = Decoder(that_knows_cells(2, 4, 3, 3, rng))
    with pytest.raises(InputError, match=r"expected the cells of vectors .*got none"):
        decoder.decode(np.zeros((1, 2), np.uint8))
    with pytest.raises(InputError, match=r"expected the cells of vectors .*got none"):
        decoder.choose(np.zeros((1, 6), np.float32))
    other = Decoder.from_state(decoder.state())
    words, cells = np.array([[1, 3]], np.uint8), some_cells(1, 6, rng)
    np.testing.assert_array_equal(
        other.decode(words, cells=cells), decoder.decode(words, cells=cells)
    )


def test_a_decoder_without_cells_needs_none() -> None:
    rng = np.random.default_rng(0)
    decoder, words = Decoder(numbers(2, 4, 3, 3, rng)), np.array([[1, 3]], np.uint8)
    got = decoder.decode(words, cells=some_cells(1, 6, rng))
    np.testing.assert_array_equal(got, decoder.decode(words))


# ---- its numbers and settings --------------------------------------------------------------------


def test_numbers_are_copied_and_frozen() -> None:
    given = numbers(2, 4, 3, 3, np.random.default_rng(0))
    given = {name: array.astype(np.float32) for name, array in given.items()}
    decoder = Decoder(given)
    words = np.array([[1, 3]], np.uint8)
    before = decoder.decode(words)
    for name, array in decoder.arrays.items():
        assert array.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        given[name][...] = 0
    np.testing.assert_array_equal(decoder.decode(words), before)
    assert decoder.shape == (2, 4, 6)


def test_other_settings_leave_the_decoder_alone() -> None:
    decoder = Decoder(numbers(2, 4, 3, 3, np.random.default_rng(0)), candidates=3, sweeps=2)
    other = decoder.with_settings(shrink=0.5)
    assert all(other.arrays[name] is decoder.arrays[name] for name in decoder.arrays)
    kept = {
        "weight": 1.0,
        "levelling": 0.0,
        "length": 1.0,
        "candidates": 3,
        "sweeps": 2,
        "spare": 0,
    }
    assert decoder.settings == {"shrink": 1.0, **kept}
    assert other.settings == {"shrink": 0.5, **kept}
    words = np.array([[0, 0], [1, 2]], np.uint8)
    centre = decoder.arrays["centre"]
    half_way = (decoder.decode(words) + centre) / 2
    np.testing.assert_allclose(other.decode(words), half_way, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [1.0, 0.75, 0.25])
def test_weight_mixes_the_decoder_with_the_codewords(weight) -> None:
    rng = np.random.default_rng(3)
    arrays = numbers(3, 4, 2, 5, rng)
    quantizer = ProductQuantizer(3, 2)
    quantizer.codebooks = books = rng.standard_normal((3, 4, 2))
    quantizer.decoder = Decoder(arrays, shrink=0.9, weight=weight, candidates=2)
    words = rng.integers(4, size=(20, 3)).astype(np.uint8)
    own = np.stack([books[np.arange(3), row].ravel() for row in words])
    decoded = np.stack([decode_one(arrays, row, 0.9) for row in words])
    want = weight * decoded + (1 - weight) * own
    np.testing.assert_allclose(quantizer.reconstruct(words), want, rtol=1e-5, atol=1e-5)
    z = rng.standard_normal((50, 6)).astype(np.float32)  # the choice of words stays the decoder's
    alone = quantizer.decoder.with_settings(weight=1.0)
    np.testing.assert_array_equal(quantizer.choose(z), alone.choose(z))


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("shrink", 0, InputError),
        ("shrink", 1.5, InputError),
        ("shrink", np.nan, InputError),
        ("weight", 0, InputError),
        ("weight", 1.5, InputError),
        ("candidates", 0, InputError),
        ("sweeps", -1, InputError),
        ("sweeps", 1.5, KindError),
        ("spare", -1, InputError),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, error) -> None:
    arrays = numbers(2, 4, 3, 3, np.random.default_rng(0))
    with pytest.raises(error, match=f"expected {setting} .*got"):
        Decoder(arrays, **{setting: value})


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("sites", (2, 4), r"\(M, ksub, dsub\)"),
        ("sites", (2, 4, 2), r"\(M, ksub, 6 / M\)"),
        ("tables", (2, 4), r"\(2, 4, d\)"),
        ("features", (2, 5, 3), r"\(2, 4, h\)"),
        ("features", (3, 4, 3), r"\(2, 4, h\)"),
        ("inner", (4, 2), r"\(3, w\)"),
        ("bias", (4,), r"\(2,?\)"),
        ("outer", (9,), r"\(2, 3\)"),
        ("output", (6, 3), r"\(3, 6\)"),
        ("centre", (5,), r"\(6,?\)"),
        ("cells", (5, 3), r"\(6, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, shape, wanted) -> None:
    arrays = numbers(2, 4, 3, 3, np.random.default_rng(0))
    arrays[name] = np.zeros(shape)
    got = ", ".join(map(str, shape))
    with pytest.raises(DimensionError, match=rf"expected {name} of shape {wanted}, got \({got}"):
        Decoder(arrays)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad) -> None:
    arrays = numbers(2, 4, 3, 3, np.random.default_rng(0))
    arrays["output"][1, 2] = bad
    with pytest.raises(InputError, match="expected finite numbers in output, got NaN or infinity"):
        Decoder(arrays)


def test_a_decoder_is_made_of_its_parts() -> None:
    arrays = numbers(2, 4, 3, 3, np.random.default_rng(0))
    decoder = Decoder(arrays, shrink=0.9, candidates=3, sweeps=2)
    other = Decoder.from_state(decoder.state())
    assert other.settings == decoder.settings
    words = np.array([[1, 3]], np.uint8)
    np.testing.assert_array_equal(other.decode(words), decoder.decode(words))
    with pytest.raises(KeyError):
        Decoder.from_state({"arrays": arrays})


def test_other_settings_are_checked() -> None:
    decoder = Decoder(numbers(2, 4, 3, 3, np.random.default_rng(0)))
    with pytest.raises(InputError, match=r"expected shrink .*got"):
        decoder.with_settings(shrink=2)
    assert decoder.shrink == 1


def test_missing_and_unknown_arrays_are_refused() -> None:
    arrays = numbers(2, 4, 3, 3, np.random.default_rng(0))
    with pytest.raises(InputError, match=r"expected the arrays .*bias.* got"):
        Decoder({name: array for name, array in arrays.items() if name != "bias"})
    with pytest.raises(InputError, match=r"expected the arrays .* got .*extra"):
        Decoder({**arrays, "extra": np.zeros(3)})


# ---- sums of table rows --------------------------------------------------------------------------


@given(sizes, st.integers(0, 40), st.booleans(), seeds)
def test_add_up_sums_rows_of_tables(shape, n, wide, seed) -> None:
    rng = np.random.default_rng(seed)
    M, ksub, d = shape[0], 1000 if wide else shape[1], shape[2]
    tables = rng.standard_normal((M, ksub, d), dtype=np.float32)
    words = rng.integers(0, ksub, (n, M)).astype(np.uint16 if wide else np.uint8)
    want = tables[np.arange(M), words].sum(axis=1) if n else np.zeros((0, d))
    got = _scan.add_up(tables, words)
    assert (got.dtype, got.shape) == (np.float32, (n, d))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_add_up_takes_frozen_tables_and_words_with_strides() -> None:
    rng = np.random.default_rng(0)
    tables = rng.standard_normal((3, 8, 5), dtype=np.float32)
    tables.flags.writeable = False
    words = rng.integers(0, 8, (6, 10), dtype=np.uint8)[::2, 1:9:3]
    words.flags.writeable = False
    want = tables[np.arange(3), words].sum(axis=1)
    np.testing.assert_allclose(_scan.add_up(tables, words), want, rtol=1e-5)


# ---- in a quantizer ------------------------------------------------------------------------------


def trained(nbits: int = 4) -> tuple[ProductQuantizer, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((600, 16)) @ rng.standard_normal((16, 16))
    quantizer = ProductQuantizer(4, nbits)
    quantizer.train(z.astype(np.float32), iterations=3)
    return quantizer, z.astype(np.float32)


def test_a_decoder_chooses_and_reconstructs_in_place_of_the_codewords() -> None:
    quantizer, z = trained()
    arrays = numbers(4, 16, 4, 5, np.random.default_rng(1))
    quantizer.decoder = Decoder(arrays, candidates=3, sweeps=2)
    words = quantizer.choose(z)
    np.testing.assert_array_equal(words, quantizer.decoder.choose(z))
    assert (words != quantizer.assign(z)).any()
    decoded = quantizer.decoder.decode(words)
    np.testing.assert_array_equal(quantizer.reconstruct(words), decoded)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(z)), decoded)
    quantizer.decoder = None
    np.testing.assert_array_equal(quantizer.choose(z), quantizer.assign(z))
    np.testing.assert_array_equal(quantizer.reconstruct(words), quantizer.gather(words))


def test_a_decoder_that_does_not_fit_is_refused() -> None:
    quantizer, _ = trained()
    for shape in [(3, 16, 4), (4, 8, 4), (4, 16, 3)]:
        decoder = Decoder(numbers(*shape, 5, np.random.default_rng(0)))
        with pytest.raises(DimensionError, match=r"expected a decoder .*\(4, 16, 16\), got \("):
            quantizer.decoder = decoder
    assert quantizer.decoder is None


def test_new_codebooks_forget_the_decoder_and_shared_ones_do_not() -> None:
    quantizer, _ = trained()
    quantizer.decoder = decoder = Decoder(numbers(4, 16, 4, 5, np.random.default_rng(1)))
    quantizer.share(np.float32(0.8) * quantizer.trained())
    assert quantizer.decoder is decoder
    quantizer.codebooks = quantizer.codebooks
    assert quantizer.decoder is None


# ---- the network that learns it ------------------------------------------------------------------


@pytest.fixture
def learner():
    """A learner whose weights are all at random, the ones that start as zero too."""
    torch = pytest.importorskip("torch")
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    quantizer, z = trained()
    made = Learner(
        quantizer.trained(), quantizer.trained(), z + 3, Plan(8, 6, 4, 4, 1, 1000), 5, "cpu"
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.network.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator)
    return made


def test_a_decoder_computes_what_its_network_did(learner) -> None:
    import torch

    network = learner.network
    words = np.random.default_rng(0).integers(0, 16, (50, 4))
    with torch.no_grad():
        T, U = network.summands()
        at = torch.from_numpy(words)
        out = network.offset + network.add_up(T, at)
        out = out + network.head(network.start + network.add_up(U, at))
    decoder = learner.result()
    want = out.numpy() * learner.scale + learner.mean
    got = decoder.decode(words.astype(np.uint8))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * learner.scale)
    own = network.sites.detach().numpy() * learner.scale
    sites = decoder.arrays["sites"]
    np.testing.assert_allclose(sites, own + learner.mean.reshape(4, 1, 4), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(decoder.arrays["centre"], learner.mean)


def test_network_and_decoder_choose_alike(learner) -> None:
    import torch

    from deepq.training.decoding import nearest

    _, z = trained()
    x = torch.from_numpy((z - learner.mean) / np.float32(learner.scale))
    with torch.no_grad():
        near = nearest(x.reshape(len(x), 4, 4).transpose(0, 1), learner.network.sites, 4)
        in_learning = learner.network.choose(x, near, *learner.network.summands()).numpy()
    decoder = learner.result()
    assert (decoder.candidates, decoder.sweeps) == (4, 1)
    assert (decoder.nearest(z) == near.numpy()).mean() > 0.99
    chosen = decoder.choose(z), in_learning.astype(np.uint8)
    errors = [squared_errors(decoder, z, words) for words in chosen]
    assert errors[0].mean() < 1.02 * errors[1].mean()
    assert (in_learning != near[:, :, 0].numpy()).any()


def test_a_network_that_knows_cells_and_its_decoder_agree() -> None:
    torch = pytest.importorskip("torch")
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    quantizer, z = trained()
    centres = np.random.default_rng(1).standard_normal((9, 16), dtype=np.float32) + 30
    own = np.random.default_rng(2).integers(0, 9, len(z))
    books = [quantizer.trained()] * 2
    made = Learner(*books, z, Plan(8, 6, 4, 4, 1, 1000), 5, "cpu", centres)
    words, cells = quantizer.assign(z), InCells(centres, own)
    first = made.result()  # no step yet: the network adds nothing
    np.testing.assert_allclose(first.decode(words, cells=cells), quantizer.gather(words), atol=1e-4)
    errors = [made.step(z, progress, own) for progress in np.linspace(0.1, 1, 30)]
    assert errors[-1] < errors[0]
    network, decoder = made.network, made.result()
    with torch.no_grad():
        T, U = network.summands()
        at = torch.from_numpy(words.astype(np.int64))
        out = network.offset + network.add_up(T, at)
        out = out + network.head(made._in_cells(own) + network.add_up(U, at))
    want = out.numpy() * made.scale + made.mean
    np.testing.assert_allclose(decoder.decode(words, cells=cells), want, rtol=1e-3, atol=1e-3)
    other = InCells(centres, (own + 1) % 9)
    assert np.abs(decoder.decode(words, cells=other) - want).max() > 0.01


@pytest.mark.parametrize("offset", [0, 50])
def test_the_first_reconstruction_is_that_of_the_codewords(offset: float) -> None:
    pytest.importorskip("torch")
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    quantizer, z = trained()
    z = z + np.float32(offset)
    quantizer.codebooks = quantizer.trained() + np.float32(offset)
    decoder = Learner(
        quantizer.trained(), quantizer.trained(), z, Plan(8, 6, 4, 5, 3, 1000), 5, "cpu"
    ).result()
    assert (decoder.candidates, decoder.sweeps, decoder.shrink) == (5, 3, 1.0)
    np.testing.assert_allclose(decoder.arrays["sites"], quantizer.trained(), atol=1e-4)
    words = quantizer.assign(z)
    np.testing.assert_allclose(decoder.decode(words), quantizer.gather(words), atol=1e-4)


def test_steps_lower_the_error_and_start_from_that_of_the_quantizer() -> None:
    pytest.importorskip("torch")
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    quantizer, z = trained()
    plan = Plan(8, 6, 4, 4, 1, 1000)
    learner = Learner(quantizer.trained(), quantizer.trained(), z, plan, 5, "cpu")
    errors = [learner.step(z, (i + 1) / 40) for i in range(40)]
    plain = np.square(z - quantizer.gather(quantizer.assign(z))).sum(axis=1).mean()
    assert errors[0] == pytest.approx(plain, rel=1e-3)
    decoder = learner.result()
    decoded = decoder.decode(decoder.choose(z))
    assert np.square(z - decoded).sum(axis=1).mean() < 0.97 * plain


def test_vectors_that_are_all_the_same_are_learned() -> None:
    pytest.importorskip("torch")
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    z = np.full((100, 4), 7, np.float32)
    books, plan = np.full((2, 4, 2), 7, np.float32), Plan(8, 6, 2, 2, 1, 100)
    learner = Learner(books, books, z, plan, 5, "cpu")
    learner.step(z, 0.5)
    decoder = learner.result()
    np.testing.assert_allclose(decoder.decode(np.zeros((1, 2), np.uint8)), z[:1], atol=1e-2)


def test_a_learner_goes_on_from_its_state() -> None:
    pytest.importorskip("torch")
    from deepq._common.plain_data import from_bytes, to_bytes
    from deepq.training.decoding import Learner
    from deepq.training.settings import Plan

    quantizer, z = trained()
    plan = Plan(8, 6, 4, 4, 1, 1000)
    whole = Learner(quantizer.trained(), quantizer.trained(), z, plan, 5, "cpu")
    halves = Learner(quantizer.trained(), quantizer.trained(), z, plan, 5, "cpu")
    for i in range(8):
        whole.step(z[i::8], (i + 1) / 8)
        if i == 4:
            kept = from_bytes(to_bytes(halves.state()))
            halves = Learner(quantizer.trained(), quantizer.trained(), z, plan, 5, "cpu")
            halves.load(kept)
        halves.step(z[i::8], (i + 1) / 8)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, halves.state()[name], err_msg=name)


@pytest.mark.parametrize("shape", [(3, 5), (3, 7), (6,)], ids=str)
def test_rows_of_another_length_are_refused(shape) -> None:
    rng = np.random.default_rng(0)
    quantizer = ProductQuantizer(3, 2)
    quantizer.codebooks = rng.standard_normal((3, 4, 2))
    quantizer.decoder = Decoder(numbers(3, 4, 2, 5, rng))
    with pytest.raises(DimensionError, match="expected"):
        quantizer.choose(np.zeros(shape, np.float32))
