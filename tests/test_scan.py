"""The compiled scans against the plain NumPy reference: equal bits, equal ids, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq import _reference, _scan
from deepq.quantizers import ProductQuantizer, pack

SIMD = _scan.simd_levels()


@pytest.fixture(params=SIMD, autouse=True)
def simd(request):
    """Run the test with one instruction set."""
    usual = _scan.simd()
    _scan.set_simd(request.param)
    yield request.param
    _scan.set_simd(usual)


def scan(words, nbits, k, *, num_threads=1, inner_product=False, **tables):
    """_scan.search on unpacked words, with the outputs allocated."""
    nq = len(tables["luts"] if "luts" in tables else tables["queries"])
    D, I = np.empty((nq, k), np.float32), np.empty((nq, k), np.int64)
    _scan.search(
        pack(words, nbits),
        words.shape[1],
        nbits,
        D,
        I,
        num_threads=num_threads,
        inner_product=inner_product,
        **tables,
    )
    return D, I


def quarters(rng, shape, *, most=64):
    """Multiples of 1/4, so that float sums are exact in any order."""
    return (rng.integers(0, most, shape) / 4).astype(np.float32)


def draw(rng, n, M, nbits, nq, *, most=64):
    words = rng.integers(0, 1 << nbits, (n, M)).astype(np.uint8)
    return words, quarters(rng, (nq, M, 1 << nbits), most=most)


@st.composite
def cases(draw_):
    return {
        "seed": draw_(st.integers(0, 2**32 - 1)),
        "nbits": draw_(st.integers(1, 8)),
        "M": draw_(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 16, 32, 33, 50, 97])),
        "n": draw_(st.sampled_from([0, 1, 2, 3, 5, 63, 64, 65, 700, 5001])),
        "nq": draw_(st.sampled_from([1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 97])),
        "k": draw_(st.sampled_from([1, 2, 10, 65, 600, 6000])),
        "most": draw_(st.sampled_from([1, 2, 64, 4096])),
        "inner_product": draw_(st.booleans()),
    }


@given(cases())
def test_ids_and_scores_equal_the_reference_ties_included(case):
    rng = np.random.default_rng(case["seed"])
    words, luts = draw(rng, case["n"], case["M"], case["nbits"], case["nq"], most=case["most"])
    expected = _reference.search(words, luts, case["k"], inner_product=case["inner_product"])
    got = scan(words, case["nbits"], case["k"], luts=luts, inner_product=case["inner_product"])
    np.testing.assert_array_equal(got[1], expected[1])
    np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("nbits", [4, 6, 8])
def test_tables_built_from_queries_equal_those_handed_in(nbits, inner_product):
    rng = np.random.default_rng(1)
    codebooks = quarters(rng, (6, 1 << nbits, 3), most=9)
    queries = quarters(rng, (70, 18), most=9)
    words = rng.integers(0, 1 << nbits, (3000, 6)).astype(np.uint8)
    quantizer = ProductQuantizer(6, nbits)
    quantizer.codebooks = codebooks
    luts = np.ascontiguousarray(quantizer.lookup_tables(queries, 0 if inner_product else 1))
    built = scan(
        words, nbits, 10, queries=queries, codebooks=codebooks, inner_product=inner_product
    )
    given_ = scan(words, nbits, 10, luts=luts, inner_product=inner_product)
    np.testing.assert_array_equal(built, given_)


@pytest.mark.parametrize("M", [4, 8, 16, 24])
def test_every_batch_size_and_thread_count_gives_the_same_bits(M):
    rng = np.random.default_rng(2)
    codebooks = rng.standard_normal((M, 256, 4)).astype(np.float32)
    queries = rng.standard_normal((97, 4 * M)).astype(np.float32)
    words = rng.integers(0, 256, (20_000, M)).astype(np.uint8)
    whole = scan(words, 8, 10, queries=queries, codebooks=codebooks)
    for size in (1, 2, 3, 16, 17, 33, 64):
        parts = [
            scan(words, 8, 10, queries=queries[i : i + size], codebooks=codebooks)
            for i in range(0, 97, size)
        ]
        np.testing.assert_array_equal(np.concatenate([D for D, _ in parts]), whole[0])
        np.testing.assert_array_equal(np.concatenate([I for _, I in parts]), whole[1])
    for num_threads in (2, 3, 8):
        threaded = scan(words, 8, 10, queries=queries, codebooks=codebooks, num_threads=num_threads)
        np.testing.assert_array_equal(threaded, whole)


def test_all_instruction_sets_give_the_same_bits(simd):
    rng = np.random.default_rng(3)
    tables = {
        "codebooks": rng.standard_normal((8, 256, 16)).astype(np.float32),
        "queries": rng.standard_normal((70, 128)).astype(np.float32),
    }
    words = rng.integers(0, 256, (30_000, 8)).astype(np.uint8)
    got = scan(words, 8, 20, **tables)
    _scan.set_simd("portable")
    np.testing.assert_array_equal(got, scan(words, 8, 20, **tables))
    _scan.set_simd(simd)


def ordered(words, luts, how):
    """The words in an order that is hard on a bound taken from a part of them."""
    rows = _reference.scores(words, luts)[0]
    orders = {
        "descending": np.argsort(-rows, kind="stable"),
        "ascending": np.argsort(rows, kind="stable"),
        "lexicographic": np.lexsort(words.T),
    }
    return np.ascontiguousarray(words[orders[how]])


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("n", [0, 5, 170, 5003])
def test_few_queries_are_shared_out_by_ranges_of_codes(n, inner_product):
    rng = np.random.default_rng(13)
    words, luts = draw(rng, n, 4, 8, 2, most=16)
    luts[1] = np.inf
    for num_threads in (2, 4, 9):
        got = scan(words, 8, 10, luts=luts, num_threads=num_threads, inner_product=inner_product)
        expected = _reference.search(words, luts, 10, inner_product=inner_product)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("how", ["descending", "ascending", "lexicographic"])
def test_the_order_of_the_codes_does_not_matter(how):
    rng = np.random.default_rng(4)
    words, luts = draw(rng, 20_000, 8, 8, 40)
    words = ordered(words, luts, how)
    np.testing.assert_array_equal(scan(words, 8, 10, luts=luts), _reference.search(words, luts, 10))


@pytest.mark.parametrize("offset", [0, 1e3, 1e6, -1e6])
def test_huge_offsets_with_tiny_spans_stay_exact(offset):
    rng = np.random.default_rng(5)
    words, luts = draw(rng, 5_000, 4, 8, 40)
    luts += np.float32(offset)
    np.testing.assert_array_equal(scan(words, 8, 10, luts=luts), _reference.search(words, luts, 10))


@given(
    st.integers(0, 2**32 - 1), st.floats(-12, 12), st.floats(-12, 12), st.sampled_from([2, 8, 16])
)
def test_float_tables_of_any_scale_equal_the_reference_bit_for_bit(seed, offset, scale, M):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 256, (3000, M)).astype(np.uint8)
    luts = (
        rng.standard_normal((20, M, 256)) * 10**scale + rng.standard_normal((20, M, 1)) * 10**offset
    )
    luts = luts.astype(np.float32)
    np.testing.assert_array_equal(scan(words, 8, 10, luts=luts), _reference.search(words, luts, 10))


def test_equal_codes_come_in_ascending_id():
    luts = quarters(np.random.default_rng(6), (40, 8, 256))
    words = np.full((30_000, 8), 7, np.uint8)
    _, I = scan(words, 8, 10, luts=luts)
    np.testing.assert_array_equal(I, np.tile(np.arange(10), (40, 1)))


def test_infinite_scores_are_not_neighbours():
    rng = np.random.default_rng(7)
    words, luts = draw(rng, 4000, 4, 8, 40)
    luts[3] = np.inf
    luts[4, :, 1:] = np.inf
    got = scan(words, 8, 10, luts=luts)
    np.testing.assert_array_equal(got, _reference.search(words, luts, 10))
    assert (got[1][3] == -1).all()


def test_inner_products_that_overflow_stay_in_their_rows():
    rng = np.random.default_rng(12)
    words, luts = draw(rng, 3000, 4, 4, 5)
    luts[2:] = np.where(luts[2:] > 8, np.float32(3e38), luts[2:])  # sums are infinite
    D, I = np.full((40, 3), 7, np.float32), np.full((40, 3), 7, np.int64)
    _scan.search(pack(words, 4), 4, 4, D[:5], I[:5], luts=luts, inner_product=True)
    assert (D[5:] == 7).all()
    assert (I[5:] == 7).all()
    expected = _reference.search(words, luts, 3, inner_product=True)
    np.testing.assert_array_equal((D[:5], I[:5]), expected)


@pytest.mark.parametrize("k", [500, 4096, 5000, 40_000])
def test_large_k_up_to_the_full_ranking(k):
    rng = np.random.default_rng(8)
    words, luts = draw(rng, 36_000, 4, 8, 3)
    np.testing.assert_array_equal(scan(words, 8, k, luts=luts), _reference.search(words, luts, k))


@pytest.mark.parametrize("nbits", [1, 3, 4, 5, 6, 7])
def test_unpack_undoes_pack(nbits):
    words = np.random.default_rng(9).integers(0, 1 << nbits, (100, 11)).astype(np.uint8)
    np.testing.assert_array_equal(_scan.unpack(pack(words, nbits), 11, nbits), words)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 5, 300]),
    st.sampled_from([1, 2, 7]),
    st.sampled_from([1, 2, 4, 33]),
    st.sampled_from([2, 16, 64, 256, 512]),
)
def test_assignment_equals_the_reference_ties_included(seed, n, M, dsub, ksub):
    rng = np.random.default_rng(seed)
    z, codebooks = quarters(rng, (n, M * dsub), most=9), quarters(rng, (M, ksub, dsub), most=9)
    np.testing.assert_array_equal(_scan.assign(z, codebooks), _reference.assign(z, codebooks))
    np.testing.assert_array_equal(
        _scan.assign(z, codebooks, num_threads=3), _reference.assign(z, codebooks)
    )


def test_cell_sums_and_counts():
    rng = np.random.default_rng(10)
    z = quarters(rng, (500, 6))
    words = rng.integers(0, 8, (500, 3)).astype(np.uint8)
    sums, counts = _scan.accumulate(z, words, 8)
    for m in range(3):
        for word in range(8):
            cell = z[words[:, m] == word, 2 * m : 2 * m + 2]
            np.testing.assert_array_equal(sums[m, word], cell.sum(axis=0, dtype=np.float64))
            assert counts[m, word] == len(cell)


def test_an_unknown_instruction_set_is_refused(simd):
    with pytest.raises(ValueError, match="expected an instruction set"):
        _scan.set_simd("mmx")
    assert _scan.simd() == simd


def test_read_only_codes_and_a_memory_map_are_scanned(tmp_path):
    rng = np.random.default_rng(11)
    words, luts = draw(rng, 3000, 8, 8, 5)
    words.tofile(tmp_path / "codes")
    mapped = np.memmap(tmp_path / "codes", np.uint8, "r", shape=words.shape)
    D, I = np.empty((5, 4), np.float32), np.empty((5, 4), np.int64)
    _scan.search(mapped, 8, 8, D, I, luts=luts)
    np.testing.assert_array_equal((D, I), _reference.search(words, luts, 4))
