"""The compiled scans against the plain NumPy reference: equal bits, equal ids, ties included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepq import _scan
from deepq._kernels import reference
from deepq.quantizers import ProductQuantizer, pack

SIMD = _scan.simd_levels()
FLT_MAX = float(np.finfo(np.float32).max)
# Sizes at which a scan changes its way: kernels and their lanes, tiles, samples, rankings.
QUERIES = [1, 2, 3, 16, 17, 40, 41, 64, 65, 97]
ROWS = [0, 1, 2, 5, 63, 65, 511, 512, 513, 1024, 1025, 2048, 2049, 5001, 9000]


@pytest.fixture(params=SIMD, autouse=True)
def simd(request):
    """Run the test with one instruction set."""
    usual = _scan.simd()
    _scan.set_simd(request.param)
    yield request.param
    _scan.set_simd(usual)


# ---- the two scans, and what they must agree with ------------------------------------------------


def queries_in(tables):
    return len(tables["luts"] if "luts" in tables else tables["queries"])


def scan(words, nbits, k, *, codes=None, **options):
    """_scan.search on unpacked words, with the outputs allocated: it must keep to its rows."""
    nq = queries_in(options)
    D, I = np.full((nq + 1, k), 7, np.float32), np.full((nq + 1, k), 7, np.int64)
    codes = pack(words, nbits) if codes is None else codes
    _scan.search(codes, words.shape[1], nbits, D[:nq], I[:nq], **options)
    assert (D[nq] == 7).all()
    assert (I[nq] == 7).all()
    return D[:nq], I[:nq]


def scan_within(words, nbits, radius, *, codes=None, **options):
    """_scan.range_search on unpacked words."""
    codes = pack(words, nbits) if codes is None else codes
    return _scan.range_search(codes, words.shape[1], nbits, radius, **options)


def in_bits(allowed):
    """Flags as _scan takes them; bits beyond the last code mean nothing."""
    return None if allowed is None else np.packbits(np.append(allowed, [1] * 7), bitorder="little")


def assert_equal(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def check(words, nbits, k, luts, *, allowed=None, inner_product=False, num_threads=1, codes=None):
    """Assert that `scan` returns what the reference does."""
    how = {"luts": luts, "inner_product": inner_product}
    got = scan(
        words, nbits, k, codes=codes, allowed=in_bits(allowed), num_threads=num_threads, **how
    )
    assert_equal(got, reference.search(words, k=k, allowed=allowed, **how))
    return got


def check_within(
    words, nbits, radius, luts, *, allowed=None, inner_product=False, num_threads=1, codes=None
):
    """Assert that `scan_within` returns what the reference does."""
    how = {"luts": luts, "inner_product": inner_product}
    got = scan_within(
        words, nbits, radius, codes=codes, allowed=in_bits(allowed), num_threads=num_threads, **how
    )
    assert_equal(got, reference.range_search(words, radius=radius, allowed=allowed, **how))


# ---- words and tables of every kind --------------------------------------------------------------


def quarters(rng, shape, *, most=64):
    """Multiples of 1/4, so that float sums are exact in any order."""
    return (rng.integers(0, most, shape) / 4).astype(np.float32)


def draw(rng, n, M, nbits, nq, *, most=64):
    words = rng.integers(0, 1 << nbits, (n, M)).astype(np.uint8)
    return words, quarters(rng, (nq, M, 1 << nbits), most=most)


def floats(rng, shape):
    """Entries of any scale, on a level of their own in every table."""
    values = rng.standard_normal(shape) * 10 ** rng.uniform(-12, 12)
    levels = rng.standard_normal((*shape[:2], 1)) * 10 ** rng.uniform(-12, 12)
    return (values + levels).astype(np.float32)


def shifted(rng, shape):
    """Whole numbers above minima that are none, so that only sums are rounded."""
    return quarters(rng, shape, most=8) * 4 + np.float32(rng.choice([0.1, 0.2, 1 / 3, -0.7, 10.1]))


def spoiled(rng, shape):
    """Quarters among which some entries, or whole rows, are no finite numbers or overflow."""
    luts = quarters(rng, shape)
    value = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38])
    luts[rng.random(shape) < rng.choice([0.001, 0.01, 0.1, 0.9])] = value
    luts[rng.random(shape[0]) < 0.1] = value
    return luts


def grouped(rng, shape):
    """Entries that differ little where the lower bits of their numbers are the same."""
    luts = rng.standard_normal(shape)
    entries = np.arange(shape[2])
    for bits in range(7, 3, -1):
        share = rng.choice([0, 0.01, 0.1, 0.5])
        luts = share * luts + (1 - share) * luts[:, :, entries % (1 << bits)]
    return (luts + 4).astype(np.float32)


def uneven(rng, shape):
    """Small numbers, beside which some cost very much: sums with these round the others away."""
    luts = rng.random(shape).astype(np.float32) * 8
    costly = rng.random(shape) < rng.choice([0.01, 0.3])
    luts[costly] += rng.choice(np.float32([1e3, 1e6, 1e9, np.inf]))
    luts[:, ::2] += np.float32(10 ** rng.uniform(0, 6))
    return luts


TABLES = {
    "grouped": grouped,
    "quarters": lambda rng, shape: quarters(rng, shape, most=rng.choice([1, 2, 64, 4096])),
    "floats": floats,
    "shifted": shifted,
    "spoiled": spoiled,
    "uneven": uneven,
}


def flags(rng, n, how):
    """Which of n codes are allowed."""
    allowed = rng.random(n) < {"all": 1, "half": 0.5, "percent": 0.01}.get(how, 0)
    if how == "last":
        allowed[-1:] = True
    if how == "one" and n:
        allowed[rng.integers(n)] = True
    return allowed


@dataclass
class Case:
    """A scan but for its tables, small enough to be read when it fails."""

    seed: int
    nbits: int
    M: int
    n: int
    nq: int
    k: int
    distinct: int | None
    allowed: str | None
    inner_product: bool
    num_threads: int

    def arrays(self, tables):
        """The words, the tables, and the options that the reference knows too."""
        rng = np.random.default_rng(self.seed)
        luts = TABLES[tables](rng, (self.nq, self.M, 1 << self.nbits))
        words = rng.integers(0, 1 << self.nbits, (self.distinct or self.n, self.M)).astype(np.uint8)
        if self.distinct:
            words = words[rng.integers(0, self.distinct, self.n)]
        allowed = flags(rng, self.n, self.allowed) if self.allowed else None
        return words, luts, {"inner_product": self.inner_product, "allowed": allowed}


@st.composite
def cases(draw_):
    n = draw_(st.sampled_from(ROWS))
    some, ranked = [1, 2, 10, 65, 600, 4097], [n // 8 - 1, n // 8, n // 8 + 1, n, n + 3]
    return Case(
        seed=draw_(st.integers(0, 2**32 - 1)),
        nbits=draw_(st.integers(1, 8)),
        M=draw_(st.integers(4, 20) | st.integers(1, 128)),
        n=n,
        nq=draw_(st.sampled_from(QUERIES)),
        k=max(1, draw_(st.sampled_from(some) | st.sampled_from(ranked))),
        distinct=draw_(st.sampled_from([None, None, 1, 3, 30])),
        allowed=draw_(
            st.sampled_from([None, None, "all", "none", "one", "half", "percent", "last"])
        ),
        inner_product=draw_(st.booleans()),
        num_threads=draw_(st.sampled_from([1, 1, 2, 5])),
    )


# ---- the proof -----------------------------------------------------------------------------------


@settings(max_examples=100)
@pytest.mark.parametrize("tables", TABLES)
@given(cases())
def test_search_equals_the_reference_ties_included(tables, case):
    words, luts, options = case.arrays(tables)
    check(words, case.nbits, case.k, luts, num_threads=case.num_threads, **options)


@settings(max_examples=100)
@pytest.mark.parametrize("tables", TABLES)
@given(
    cases(),
    st.sampled_from([-np.inf, -FLT_MAX, -1.0, 0.0, 1e9, FLT_MAX, np.inf, np.nan]) | st.none(),
    st.floats(0, 1),
)
def test_range_search_equals_the_reference(tables, case, radius, rank):
    words, luts, options = case.arrays(tables)
    if radius is None:  # exactly the score of a code, which must not be found
        rows = np.sort(reference.scores(words, luts[:1])[0])
        radius = float(rows[int(rank * (len(rows) - 1))]) if len(rows) else 0.0
    check_within(words, case.nbits, radius, luts, num_threads=case.num_threads, **options)


def joined(results):
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


SHAPES = [(M, 8) for M in (4, 5, 8, 12, 16, 24, 48, 65, 96)] + [(24, 4), (10, 3), (13, 5), (64, 1)]


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize(("M", "nbits"), SHAPES)
def test_every_instruction_set_batch_and_thread_count_gives_the_same_bits(M, nbits, inner_product):
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((97, 3 * M)).astype(np.float32)
    words = rng.integers(0, 1 << nbits, (3000, M)).astype(np.uint8)
    options = {
        "codebooks": rng.standard_normal((M, 1 << nbits, 3)).astype(np.float32),
        "inner_product": inner_product,
    }
    whole = scan(words, nbits, 10, queries=queries, **options)
    radius = float(np.median(whole[0][:, 9]))
    within = scan_within(words, nbits, radius, queries=queries, **options)
    for size in (1, 2, 3, 16, 17, 33, 40, 41, 64):
        nq = min(97, 8 * size)
        parts = [queries[i : min(i + size, nq)] for i in range(0, nq, size)]
        got = [scan(words, nbits, 10, queries=part, **options) for part in parts]
        assert_equal(joined(got), [part[:nq] for part in whole])
        got = [scan_within(words, nbits, radius, queries=part, **options)[1:] for part in parts]
        assert_equal(joined(got), [part[: within[0][nq]] for part in within[1:]])
    for nq, num_threads in [(97, 2), (97, 3), (97, 8), (1, 3), (2, 9)]:
        threaded = {"queries": queries[:nq], "num_threads": num_threads, **options}
        assert_equal(scan(words, nbits, 10, **threaded), [part[:nq] for part in whole])
        got = scan_within(words, nbits, radius, **threaded)[1:]
        assert_equal(got, [part[: within[0][nq]] for part in within[1:]])
    ranked = scan(words, nbits, 600, queries=queries, **options)
    assert_equal([part[:, :10] for part in ranked], whole)
    _scan.set_simd("portable")
    assert_equal(scan(words, nbits, 10, queries=queries, **options), whole)
    assert_equal(scan_within(words, nbits, radius, queries=queries, **options), within)


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("nbits", [1, 3, 4, 6, 8])
@pytest.mark.parametrize("nq", [1, 5, 70])
def test_tables_built_from_queries_equal_those_handed_in(nq, nbits, inner_product):
    rng = np.random.default_rng(1)
    codebooks = quarters(rng, (6, 1 << nbits, 3), most=9)
    queries = quarters(rng, (nq, 18), most=9)
    words = rng.integers(0, 1 << nbits, (3000, 6)).astype(np.uint8)
    quantizer = ProductQuantizer(6, nbits)
    quantizer.codebooks = codebooks
    luts = np.ascontiguousarray(quantizer.lookup_tables(queries, 0 if inner_product else 1))
    options = {"queries": queries, "codebooks": codebooks, "inner_product": inner_product}
    expected = reference.search(words, luts, 10, inner_product=inner_product)
    assert_equal(scan(words, nbits, 10, **options), expected)
    expected = reference.range_search(words, luts, 30.25, inner_product=inner_product)
    assert_equal(scan_within(words, nbits, 30.25, **options), expected)


# ---- codes and tables that are hard on pruning ---------------------------------------------------


def ordered(words, luts, how):
    """The words in an order that is hard on a bound taken from a part of them."""
    rows = reference.scores(words, luts[:1])[0]
    orders = {
        "descending": np.argsort(-rows, kind="stable"),
        "ascending": np.argsort(rows, kind="stable"),
        "lexicographic": np.lexsort(words.T),
        "classes": np.sort(np.arange(len(words)) % 7),
    }
    return np.ascontiguousarray(words[orders[how]])


@pytest.mark.parametrize("how", ["descending", "ascending", "lexicographic", "classes"])
@pytest.mark.parametrize(("nq", "M"), [(1, 4), (1, 70), (3, 16), (40, 8), (64, 8), (64, 70)])
@pytest.mark.parametrize("tables", ["quarters", "floats"])
def test_the_order_of_the_codes_does_not_matter(tables, nq, M, how):
    rng = np.random.default_rng(4)
    words, near = draw(rng, 8000, M, 8, nq, most=3)
    luts = quarters(rng, (1, M, 256)) + near  # queries alike: what is hard on one is so on all
    luts = luts if tables == "quarters" else luts * np.float32(np.pi)
    check(ordered(words, luts, how), 8, 10, luts)


@pytest.mark.parametrize("nq", [1, 3, 40, 64])
@pytest.mark.parametrize("M", [4, 8, 70])
@pytest.mark.parametrize("offset", [1e3, 1e6, -1e6, 0.1, -1e6 / 3])
def test_huge_offsets_with_tiny_spans_stay_exact(offset, M, nq):
    words, luts = draw(np.random.default_rng(5), 3000, M, 8, nq)
    check(words, 8, 10, luts + np.float32(offset))


@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize(("M", "least"), [(8, 0.2), (8, 1 / 3), (70, 0.1), (70, 0.7), (70, 10.1)])
def test_whole_numbers_above_a_minimum_that_is_none_are_not_taken_for_exact(M, least, nq):
    luts = np.full((nq, M, 256), np.float32(least) + 1, np.float32)
    luts[:, :, 0] = least  # the differences are 1, but the sums are rounded to less than M apart
    check(np.ones((600, M), np.uint8), 8, 1, luts)


@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize(("M", "least"), [(8, -100), (70, -255)])
def test_entries_that_only_their_difference_rounds_are_not_taken_for_exact(M, least, nq):
    luts = np.zeros((nq, M, 256), np.float32)
    luts[:, 0] = -1e-9
    luts[:, 0, 0] = least
    check(np.ones((600, M), np.uint8), 8, 1, luts)


@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize("M", [4, 16, 70])
@pytest.mark.parametrize("entry", [0, 1, 9, 255])
def test_a_minimum_beside_nan_is_found(entry, M, nq):
    rng = np.random.default_rng(14)
    words, luts = draw(rng, 3000, M, 8, nq)
    luts[:, :, entry] = np.nan
    luts[:, :, (entry + 8) % 256] = -50
    check(words, 8, 10, luts)


def test_equal_codes_come_in_ascending_id():
    luts = quarters(np.random.default_rng(6), (64, 8, 256))
    words = np.full((30_000, 8), 7, np.uint8)
    for nq in (1, 40, 64):
        _, I = scan(words, 8, 10, luts=luts[:nq])
        np.testing.assert_array_equal(I, np.tile(np.arange(10), (nq, 1)))


@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize("M", [4, 5, 16, 70])
@pytest.mark.parametrize("unit", [0.25, 1000.0, 0.1])
def test_what_is_better_by_one_unit_is_found_behind_thousands_of_ties(unit, M, nq):
    luts = np.full((nq, M, 256), 250 * unit, np.float32)
    luts[:, :, 0], luts[:, :, 1] = 0, unit
    words = np.zeros((4000, M), np.uint8)
    words[:, 0] = words[:, M - 1] = 1
    words[3333, 0] = words[3999, M - 1] = 0
    _, I = check(words, 8, 5, luts)
    np.testing.assert_array_equal(I[0], [3333, 3999, 0, 1, 2])
    check_within(words, 8, 2 * unit, luts)


HYPERCUBES = [(12, 1), (12, 4), (12, 6), (48, 8), (48, 4), (63, 7), (64, 8), (64, 1), (100, 4)]


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize(("bits", "nbits"), HYPERCUBES)
def test_binary_codes_are_ranked_by_hamming_distance_and_id(bits, nbits, nq, inner_product):
    rng = np.random.default_rng(15)
    M, places = bits // nbits, np.arange(nbits)
    signs = rng.choice([-1, 1], (nq, bits)).astype(np.float32)
    cube = np.where(np.arange(1 << nbits)[:, None] >> places & 1, 1, -1).astype(np.float32)
    words = rng.integers(0, 1 << nbits, (5000, M)).astype(np.uint8)
    unlike = bits - signs @ cube[words].reshape(5000, bits).T  # twice the Hamming distance
    rows = (bits - unlike if inner_product else 2 * unlike).astype(np.float32)
    I = np.argsort(unlike, axis=1, kind="stable")[:, :100]
    options = {
        "queries": signs,
        "codebooks": np.tile(cube, (M, 1, 1)),
        "inner_product": inner_product,
    }
    for k in (1, 10, 100):
        expected = np.take_along_axis(rows, I[:, :k], 1), I[:, :k]
        assert_equal(scan(words, nbits, k, **options), expected)
    radius = float(rows[0, I[0, 99]])
    better = rows > radius if inner_product else rows < radius
    _, D, ids = scan_within(words, nbits, radius, **options)
    assert_equal((D, ids), (rows[better], np.nonzero(better)[1]))


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("nq", [1, 3, 64])
@pytest.mark.parametrize("M", [4, 8, 70])
def test_nothing_is_lost_where_pruning_is_given_up(M, nq, share):
    words, luts = draw(np.random.default_rng(16), 12_000, M, 8, nq)
    radius = float(np.quantile(reference.scores(words, luts), share))
    check_within(words, 8, radius, luts)


@pytest.mark.parametrize("nq", [1, 3, 17, 40, 65])
@pytest.mark.parametrize("M", [8, 64])
def test_nothing_is_lost_where_the_sample_promises_too_much(M, nq):
    """The only good codes are some of those drawn for the first bound, and fewer than k."""
    n, k, run = 9000, 64, 64 // M
    runs = 24 * k // run
    drawn = (np.arange(runs) * n // runs)[:, None] + np.arange(run)
    rng = np.random.default_rng(M)
    words, luts = draw(rng, n, M, 8, nq)
    words[words == 0] = 1
    words[rng.permutation(drawn.ravel())[: k - 2]] = 0
    luts[:, :, 0] = 0
    luts[:, :, 1:] += 100
    check(words, 8, k, luts)


@pytest.mark.parametrize("worst", [np.inf, FLT_MAX, -np.inf, -FLT_MAX])
def test_the_worst_scores_are_not_neighbours(worst):
    rng = np.random.default_rng(7)
    words, luts = draw(rng, 4000, 4, 8, 64)
    luts[3:5] = 0
    luts[3, 0] = luts[4, 0, 1:] = worst
    for nq in (5, 64):
        _, I = check(words, 8, 10, luts[:nq], inner_product=worst < 0)
        assert (I[3] == -1).all()
    check(words, 8, 600, luts[:5], inner_product=worst < 0)


def test_inner_products_that_overflow_stay_in_their_rows():
    rng = np.random.default_rng(12)
    words, luts = draw(rng, 3000, 4, 4, 5)
    luts[2:] = np.where(luts[2:] > 8, np.float32(3e38), luts[2:])  # sums are infinite
    check(words, 4, 3, luts, inner_product=True)


@pytest.mark.parametrize("k", [500, 4096, 4097, 40_000])
def test_large_k_up_to_the_full_ranking(k):
    rng = np.random.default_rng(8)
    words, luts = draw(rng, 36_000, 4, 8, 3)
    check(words, 8, k, luts)
    check(words, 8, k, luts, allowed=flags(rng, 36_000, "half"), inner_product=True)


@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize("n", [0, 5, 170, 5003])
def test_few_queries_are_shared_out_by_ranges_of_codes(n, inner_product):
    rng = np.random.default_rng(13)
    words, luts = draw(rng, n, 4, 8, 2, most=16)
    luts[1] = np.inf
    for num_threads in (2, 4, 9):
        for how in ("all", "half", "one", "last"):
            options = {"allowed": flags(rng, n, how), "inner_product": inner_product}
            check(words, 8, 10, luts, num_threads=num_threads, **options)
            check_within(words, 8, 20.0, luts, num_threads=num_threads, **options)


# ---- memory of every kind ------------------------------------------------------------------------


def read_only_map(codes, file):
    codes.tofile(file)
    return np.memmap(file, np.uint8, "r", shape=codes.shape)


def at_an_odd_address(codes, _):
    odd = np.frombuffer(b"\0" + codes.tobytes(), np.uint8, offset=1).reshape(codes.shape)
    assert odd.ctypes.data % 2 == 1
    return odd


def rows_of_more(codes, _):
    return np.concatenate([codes[:3], codes, codes[:5]])[3:-5]


@pytest.mark.parametrize("place", [read_only_map, at_an_odd_address, rows_of_more])
@pytest.mark.parametrize(
    ("M", "nbits"), [(3, 8), (4, 8), (5, 8), (8, 8), (16, 8), (17, 8), (70, 8), (9, 5), (24, 4)]
)
def test_codes_are_scanned_wherever_they_lie(M, nbits, place, tmp_path):
    words, luts = draw(np.random.default_rng(11), 2100, M, nbits, 64)
    codes = place(pack(words, nbits), tmp_path / "codes")
    for nq in (1, 5, 64):
        check(words, nbits, 4, luts[:nq], codes=codes)
        check_within(words, nbits, 2.0 * M, luts[:nq], codes=codes)


# ---- ids, codes, nearest codewords, cells --------------------------------------------------------


@given(st.integers(0, 600), st.lists(st.integers(-3, 650)), st.integers(0, 2**32 - 1))
def test_ids_are_marked_in_bits_and_counted(n, ids, seed):
    within = [i for i in range(n) if i in ids]
    marked = _scan.mark_ids(np.array(ids, np.int64), n)
    flags_ = np.unpackbits(marked, bitorder="little")
    np.testing.assert_array_equal(np.flatnonzero(flags_), within)
    assert len(marked) == (n + 7) // 8
    assert _scan.count_ids(marked, n) == len(within)
    some = flags(np.random.default_rng(seed), n, "half")
    assert _scan.count_ids(in_bits(some), n) == some.sum()


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
    np.testing.assert_array_equal(_scan.assign(z, codebooks), reference.assign(z, codebooks))
    np.testing.assert_array_equal(
        _scan.assign(z, codebooks, num_threads=3), reference.assign(z, codebooks)
    )


@pytest.mark.usefixtures("simd")
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1, 1e15])
@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("dsub", [1, 2, 3, 4, 8, 11, 16, 40])
def test_words_of_few_rows_are_the_nearest_however_near_others_are(dsub, offset, scale):
    rng = np.random.default_rng(dsub)
    codebooks = ((rng.standard_normal((3, 200, dsub)) + offset) * scale).astype(np.float32)
    codebooks[:, 100:] = codebooks[:, :100]  # twice, and once more a rounding away
    codebooks[:, 50:100] = np.nextafter(codebooks[:, :50], np.float32(np.inf))
    z = codebooks[:, :20].transpose(1, 0, 2).reshape(20, -1).copy()
    z[10:] = ((rng.standard_normal((10, 3 * dsub)) + offset) * scale).astype(np.float32)
    expected = reference.assign(z.astype(np.float64), codebooks.astype(np.float64))
    np.testing.assert_array_equal(_scan.assign(z, codebooks), expected)


def test_few_rows_whose_distances_float32_does_not_hold():
    codebooks = np.array([[[-2e38], [2e38], [1e38]]], np.float32)
    z = np.array([[-3e38], [0], [1.4e38], [3e38]], np.float32)
    assert _scan.assign(z, codebooks)[:, 0].tolist() == [0, 2, 2, 1]


def in_groups(rng, n, d, gap, *, groups=20, width=1.0):
    """Rows in groups that lie `gap` apart in every column, each about `width` wide."""
    places = gap * rng.permutation(groups)[:, None] * rng.choice([-1, 1], (1, d))
    return (places[rng.integers(0, groups, n)] + width * rng.standard_normal((n, d))).astype("f4")


def sub_spaces(x, M):
    """Rows as codewords (M, len(x), dsub)."""
    return np.ascontiguousarray(x.reshape(len(x), M, -1).transpose(1, 0, 2))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e2, 1e4, 1e6]),
    st.sampled_from([1, 2, 4, 9]),
    st.sampled_from([16, 256, 300]),
    st.sampled_from([1e-30, 1e-12, 1.0, 1e12]),
)
def test_words_in_groups_far_apart_are_those_of_the_nearest_codewords(seed, gap, dsub, ksub, unit):
    rng = np.random.default_rng(seed)
    x = in_groups(rng, ksub + 80, 2 * dsub, gap)
    z, codebooks = x[ksub:] * np.float32(unit), sub_spaces(x[:ksub] * np.float32(unit), 2)
    np.testing.assert_array_equal(_scan.assign(z, codebooks), reference.assign(z, codebooks))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 8]), st.floats(-40, 38))
def test_words_do_not_follow_the_units(seed, dsub, power):
    rng = np.random.default_rng(seed)
    unit = np.float32(10**power)
    z, codebooks = (rng.standard_normal(shape) for shape in ((80, 2 * dsub), (2, 64, dsub)))
    z, codebooks = ((x / 8).astype("f4") * unit for x in (z, codebooks))
    np.testing.assert_array_equal(_scan.assign(z, codebooks), reference.assign(z, codebooks))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 7]), st.sampled_from([1e-3, 1e3, 1e7]))
def test_words_of_rows_and_codewords_far_out(seed, dsub, length):
    """One row and one codeword that are much longer than the others."""
    rng = np.random.default_rng(seed)
    z, codebooks = (rng.standard_normal(s).astype("f4") for s in ((80, dsub), (1, 64, dsub)))
    z[3], codebooks[0, 5] = length * z[3], length * codebooks[0, 5]
    np.testing.assert_array_equal(_scan.assign(z, codebooks), reference.assign(z, codebooks))


def test_of_equal_codewords_the_first_is_stored():
    rng = np.random.default_rng(12)
    codebooks = rng.standard_normal((2, 16, 4)).astype("f4")[:, rng.integers(0, 16, 256)]
    codebooks[1] = codebooks[1, 0]
    z = rng.standard_normal((500, 8)).astype("f4")
    words = _scan.assign(z, codebooks)
    np.testing.assert_array_equal(words, reference.assign(z, codebooks))
    assert not words[:, 1].any()


def test_a_row_that_is_not_finite_gets_words_that_exist():
    rng = np.random.default_rng(13)
    codebooks, z = rng.standard_normal((2, 5, 3)).astype("f4"), np.zeros((90, 6), "f4")
    z[[1, 4, 7], [0, 3, 5]] = np.nan, np.inf, -np.inf
    assert _scan.assign(z, codebooks).max() < 5


def test_cell_sums_and_counts():
    rng = np.random.default_rng(10)
    z = quarters(rng, (500, 6))
    words = rng.integers(0, 8, (500, 3)).astype(np.uint8)
    sums, counts, energy = _scan.accumulate(z, words, 8)
    assert energy == np.square(z, dtype=np.float64).sum()
    for m in range(3):
        for word in range(8):
            cell = z[words[:, m] == word, 2 * m : 2 * m + 2]
            np.testing.assert_array_equal(sums[m, word], cell.sum(axis=0, dtype=np.float64))
            assert counts[m, word] == len(cell)


@given(
    st.integers(0, 60),
    st.integers(1, 40),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_sums_of_whole_rows_are_those_of_numpy(n, d, kind, seed):
    rng = np.random.default_rng(seed)
    x, words = rng.standard_normal((n, d)).astype("f4"), rng.integers(0, 5, (n, 2)).astype(kind)
    want = np.zeros((5, d), np.float32)
    np.add.at(want, words[:, 1], x)
    sums, counts = _scan.sum_cells(x, words[:, 1], 5)
    np.testing.assert_array_equal(sums, want)
    np.testing.assert_array_equal(counts, np.bincount(words[:, 1], minlength=5))


def test_an_unknown_instruction_set_is_refused(simd):
    with pytest.raises(ValueError, match="expected an instruction set"):
        _scan.set_simd("mmx")
    assert _scan.simd() == simd
