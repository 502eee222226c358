"""The compiled scans of cells against plain NumPy: equal bits, equal ids, ties included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepq import _cells, _scan
from deepq._kernels import reference
from deepq.quantizers import pack

SIMD = _scan.simd_levels()
FLT_MAX = float(np.finfo(np.float32).max)
WORST = np.nextafter(np.float32(FLT_MAX), np.float32(0))


@pytest.fixture(params=SIMD, autouse=True)
def simd(request):
    """Run the test with one instruction set."""
    usual = _scan.simd()
    _scan.set_simd(request.param)
    yield request.param
    _scan.set_simd(usual)


@dataclass
class Lists:
    """Codes in cells, and all that a search needs of them."""

    words: list
    ids: list
    codebooks: np.ndarray
    centres: np.ndarray
    nbits: int
    by_residual: bool
    inner_product: bool

    def __post_init__(self):
        self.codes = [pack(words, self.nbits) for words in self.words]
        self.table = _cells.Cells(
            len(self.words),
            self.codebooks,
            self.centres,
            self.nbits,
            self.by_residual,
            self.inner_product,
        )
        self.look()

    def look(self):
        """Let the table know where the lists are: vectors as faiss has them."""
        self.vectors = np.zeros((2, len(self.codes), 10), np.uint64)
        for cell, (codes, ids) in enumerate(zip(self.codes, self.ids, strict=True)):
            self.vectors[0, cell, 8:] = codes.ctypes.data, codes.nbytes
            self.vectors[1, cell, 8:] = ids.ctypes.data, ids.size
        self.table.place(*(part.ctypes.data for part in self.vectors), 80, 64, 72)

    def centre(self, cell):
        parts, per_part = self.centres.shape[:2]
        return np.concatenate(
            [self.centres[part, cell // per_part**part % per_part] for part in range(parts)]
        )

    def vectors_in(self, cell):
        M = len(self.codebooks)
        words = self.words[cell]
        return np.concatenate([self.codebooks[m][words[:, m]] for m in range(M)], axis=1)

    def all_scores(self, query, cells, allowed):
        """Scores, ids and places of the codes that a query may find."""
        found = []
        for cell in cells[cells >= 0]:
            scores = reference.scores_in_cell(
                query,
                self.centre(cell),
                self.vectors_in(cell),
                by_residual=self.by_residual,
                inner_product=self.inner_product,
            )
            rows = np.arange(len(scores))
            if allowed is not None:
                rows = rows[np.unpackbits(allowed[cell], count=len(rows), bitorder="little") > 0]
            found.append((scores[rows], self.ids[cell][rows], (int(cell) << 32) + rows))
        parts = zip(*found, strict=True) if found else ([np.empty(0)],) * 3
        return [np.concatenate(part) for part in parts]

    def right(self, queries, cells, k, allowed=None):
        """D, I and places by the definition."""
        shape = len(queries), k
        D = np.full(shape, -FLT_MAX if self.inner_product else FLT_MAX, np.float32)
        I, places = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        for q, query in enumerate(queries):
            with np.errstate(over="ignore", invalid="ignore"):
                scores, ids, where = self.all_scores(query, cells[q], allowed)
            order = np.lexsort((where, ids, scores))
            order = order[scores[order] <= WORST][:k]
            D[q, : len(order)] = -scores[order] if self.inner_product else scores[order]
            I[q, : len(order)], places[q, : len(order)] = ids[order], where[order]
        return D, I, places

    def found(self, queries, cells, k, **options):
        """D, I and places by the kernels."""
        shape = len(queries), k
        D, I, places = (
            np.empty(shape, np.float32),
            np.empty(shape, np.int64),
            np.empty(shape, np.int64),
        )
        _cells.search(self.table, queries, cells, D, I, places, **options)
        return D, I, places


def draw(
    rng,
    *,
    sizes=(0, 1, 30, 511, 512, 513, 1500, 700),
    M=4,
    dsub=4,
    nbits=8,
    by_residual=True,
    inner_product=False,
    parts=1,
    scale=1.0,
    far=0.0,
    whole=False,
):
    """Lists of random codes; `whole` for numbers that make many ties."""
    d, nlist = M * dsub, len(sizes)
    per_part = nlist if parts == 1 else 4
    numbers = rng.integers(-2, 3, 1 << 16) if whole else rng.standard_normal(1 << 16)

    def draw(*shape):
        return rng.choice(numbers, shape)

    codebooks = (draw(M, 1 << nbits, dsub) * scale).astype(np.float32)
    centres = (draw(parts, per_part, d // parts) * scale * 2 + far).astype(np.float32)
    words = [rng.integers(0, 1 << nbits, (n, M)).astype(np.uint8) for n in sizes]
    ids = [rng.integers(0, 1 << 40, n) for n in sizes]
    return Lists(words, ids, codebooks, centres, nbits, by_residual, inner_product)


def ask(rng, lists, nq, nprobe):
    """Queries near centres, and cells: the nearest first, and some places empty."""
    nlist = len(lists.words)
    order = np.stack([rng.permutation(nlist)[:nprobe] for _ in range(nq)])
    near = np.stack([lists.centre(cell) for cell in order[:, 0]])
    scale = np.abs(lists.codebooks).max() or 1
    queries = near + scale * rng.standard_normal(near.shape)
    order[rng.random(order.shape) < 0.05] = -1
    return queries.astype(np.float32), order.astype(np.int64)


def assert_equal(got, expected):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("by_residual", [True, False])
@pytest.mark.parametrize("inner_product", [False, True])
@pytest.mark.parametrize(
    ("M", "dsub", "nbits"),
    [(8, 4, 8), (4, 8, 8), (16, 2, 8), (3, 5, 8), (8, 3, 4), (52, 1, 8), (1, 6, 8)],
)
def test_results_are_those_of_the_definition(M, dsub, nbits, by_residual, inner_product):
    rng = np.random.default_rng(M * 100 + nbits)
    lists = draw(
        rng, M=M, dsub=dsub, nbits=nbits, by_residual=by_residual, inner_product=inner_product
    )
    for nq, nprobe, k in ((1, 1, 1), (1, 8, 10), (40, 5, 10), (3, 8, 2000), (20, 3, 100)):
        queries, cells = ask(rng, lists, nq, nprobe)
        assert_equal(lists.found(queries, cells, k), lists.right(queries, cells, k))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_results_are_those_of_the_definition_whatever_the_numbers(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    lists = draw(
        rng,
        sizes=data.draw(st.lists(st.integers(0, 1200), min_size=4, max_size=16)),
        M=data.draw(st.sampled_from([1, 2, 4, 6, 8, 16])),
        dsub=data.draw(st.sampled_from([2, 4, 8])),
        nbits=data.draw(st.sampled_from([1, 2, 4, 8])),
        by_residual=data.draw(st.booleans()),
        inner_product=data.draw(st.booleans()),
        parts=data.draw(st.sampled_from([1, 2])),
        scale=data.draw(st.sampled_from([1e-18, 1e-3, 1.0, 1e4, 1e18])),
        far=data.draw(st.sampled_from([0.0, 0.0, 1e3, 1e6])),
        whole=data.draw(st.booleans()),
    )
    nlist = len(lists.words)
    queries, cells = ask(
        rng, lists, data.draw(st.integers(1, 40)), data.draw(st.integers(1, nlist))
    )
    k = data.draw(st.sampled_from([1, 2, 10, 100]))
    allowed = None
    if data.draw(st.booleans()):
        share = data.draw(st.sampled_from([0.0, 0.01, 0.5]))
        allowed = {
            c: np.packbits(rng.random(len(i)) < share, bitorder="little")
            for c, i in enumerate(lists.ids)
        }
    right = lists.right(queries, cells, k, allowed)
    assert_equal(lists.found(queries, cells, k, allowed=allowed), right)
    assert_equal(lists.found(queries, cells, k, allowed=allowed, num_threads=3), right)


@pytest.mark.parametrize("inner_product", [False, True])
def test_all_within_a_radius_are_found(inner_product):
    rng = np.random.default_rng(5)
    lists = draw(rng, inner_product=inner_product)
    queries, cells = ask(rng, lists, 30, 5)
    radius = float(np.median(lists.right(queries, cells, 50)[0][:, 49]))
    lims, D, I = _cells.range_search(lists.table, queries, cells, radius, num_threads=2)
    for q, query in enumerate(queries):
        scores, ids, _ = lists.all_scores(query, cells[q], None)
        inside = scores < -radius if inner_product else scores < radius
        order = np.argsort(ids[inside], kind="stable")
        part = slice(lims[q], lims[q + 1])
        np.testing.assert_array_equal(I[part], ids[inside][order])
        np.testing.assert_array_equal(
            D[part], (-scores if inner_product else scores)[inside][order]
        )


def test_lists_that_grow_are_looked_at_again():
    rng = np.random.default_rng(6)
    lists = draw(rng)
    queries, cells = ask(rng, lists, 10, 6)
    lists.found(queries, cells, 10)
    lists.words = [np.concatenate([w, w[:200][::-1]]) for w in lists.words]
    lists.ids = [np.concatenate([i, i[:200] + 7]) for i in lists.ids]
    lists.codes = [pack(words, lists.nbits) for words in lists.words]
    lists.look()
    assert_equal(lists.found(queries, cells, 10), lists.right(queries, cells, 10))
    lists.words = [w[::-1].copy() for w in lists.words]
    lists.codes = [pack(words, lists.nbits) for words in lists.words]
    lists.look()
    lists.table.forget()  # the sizes do not say that they have changed
    assert_equal(lists.found(queries, cells, 10), lists.right(queries, cells, 10))


def test_entries_and_codes_are_told_by_place():
    rng = np.random.default_rng(7)
    lists = draw(rng)
    ids, places = lists.table.entries()
    np.testing.assert_array_equal(ids, np.concatenate(lists.ids))
    np.testing.assert_array_equal(lists.table.codes_at(places), np.concatenate(lists.codes))
    np.testing.assert_array_equal(lists.table.sizes(), [len(i) for i in lists.ids])
    codes, own = lists.table.list_of(3)
    np.testing.assert_array_equal(codes, lists.codes[3])
    np.testing.assert_array_equal(own, lists.ids[3])


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_nearest_cells_come_in_the_order_of_their_distances(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    nlist = data.draw(st.sampled_from([1, 5, 31, 32, 33, 200, 600]))
    lists = draw(
        rng,
        sizes=[0] * nlist,
        dsub=data.draw(st.sampled_from([1, 4, 9])),
        scale=data.draw(st.sampled_from([1e-18, 1.0, 1e12])),
        far=data.draw(st.sampled_from([0.0, 1e3])),
        whole=data.draw(st.booleans()),
    )
    centres = lists.centres[0]
    nq = data.draw(st.integers(1, 9))
    queries = centres[rng.integers(0, nlist, nq)] + np.abs(centres).max() * rng.integers(
        -1, 2, (nq, centres.shape[1])
    ).astype(np.float32)
    cells = np.empty((nq, data.draw(st.integers(1, nlist))), np.int64)
    assume(lists.table.nearest(queries, cells, 2))  # not where all centres are one, and far away
    differences = queries[:, None].astype(np.float64) - centres[None]
    distances = np.zeros(differences.shape[:2])
    for t in range(centres.shape[1]):
        distances += np.square(differences[..., t])
    right = np.argsort(distances, axis=1, kind="stable")[:, : cells.shape[1]]
    np.testing.assert_array_equal(cells, right)


def test_cells_whose_distances_overflow_are_left_to_others():
    rng = np.random.default_rng(8)
    lists = draw(rng)
    queries = np.full((3, lists.centres.shape[2]), 1e38, np.float32)
    assert not lists.table.nearest(queries, np.empty((3, 4), np.int64), 1)
