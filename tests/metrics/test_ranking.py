"""Measures of rankings are their definitions, by loops; ties count as the mean over all orders."""

from __future__ import annotations

from itertools import groupby, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from deepq.metrics import (
    average_precision,
    mean_average_precision,
    precision_at,
    precision_recall_curve,
    recall,
    relevance,
)


def recall_by_loops(I, gt, k, r):
    total = 0.0
    for row, true in zip(I, gt, strict=True):
        total += len({i for i in row[:r] if i >= 0} & set(true[:k])) / k
    return total / len(I)


def map_by_loops(I, share, top):
    total = 0.0
    for q, row in enumerate(I):
        rank = hits = 0
        precisions = []
        for i in row:
            if i < 0:
                continue
            rank += 1
            if rank <= top and share[q][i]:
                hits += 1
                precisions.append(hits / rank)
        possible = min(top, sum(share[q]))
        total += sum(precisions) / possible if possible else 0.0
    return total / len(I)


def ap_by_loops(relevant, top, denominator, R):
    """AP of one ranking, given as a list of bools."""
    hits, total = 0, 0.0
    for rank, rel in enumerate(relevant[:top], 1):
        hits += rel
        total += rel * hits / rank
    divisor = {"possible": min(top, R), "relevant": R, "found": hits}[denominator]
    return total / divisor if divisor else 0.0


def orders_of_ties(relevant, D):
    """Every order of a ranking that differs from it only within groups of equal D."""
    ranked = iter(relevant)
    groups = [[next(ranked) for _ in group] for _, group in groupby(D)]
    for order in product(*(list(permutations(group)) for group in groups)):
        yield [r for group in order for r in group]


def curves_by_loops(I, share):
    """Precision and recall (nq, depth)."""
    precision, recalls = np.zeros((2, *I.shape))
    for q, row in enumerate(I):
        for rank in range(1, len(row) + 1):
            found = sum(i >= 0 and share[q][i] for i in row[:rank])
            precision[q, rank - 1] = found / rank
            recalls[q, rank - 1] = found / max(sum(share[q]), 1)
    return precision, recalls


@st.composite
def labelled(draw):
    """Rankings, labels of either kind, and which base vectors are relevant to which query."""
    nb, I = draw(rankings())
    if draw(st.booleans()):
        label = st.integers(0, 2)
        q, b = ([draw(label) for _ in range(n)] for n in (len(I), nb))
        share = [[x == y for y in b] for x in q]
    else:
        label = st.lists(st.booleans(), min_size=3, max_size=3)
        q, b = ([draw(label) for _ in range(n)] for n in (len(I), nb))
        share = [[any(s and t for s, t in zip(x, y, strict=True)) for y in b] for x in q]
    return I, np.array(q), np.array(b), share


@st.composite
def rankings(draw):
    """A base of a few vectors and rankings of them, cut short and with holes."""
    nb, nq = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    depth = draw(st.integers(1, nb))
    rows = [draw(st.permutations(range(nb)))[:depth] for _ in range(nq)]
    holes = draw(st.lists(st.tuples(st.integers(0, nq - 1), st.integers(0, depth - 1)), max_size=4))
    I = np.array(rows)
    for q, i in holes:
        I[q, i] = -1
    return nb, I


class TestRecall:
    @pytest.mark.parametrize(
        ("k", "r", "expected"),
        [(1, 1, 1 / 3), (1, 2, 2 / 3), (2, 2, 0.5), (1, 4, 2 / 3), (3, 4, 5 / 9)],
    )
    def test_by_hand(self, k, r, expected):
        I = [[3, 1, 0, 9], [5, 2, 8, -1], [7, 6, 4, 1]]
        gt = [[3, 0, 8], [2, 5, 1], [0, 9, 4]]
        assert recall(I, gt, k, r) == pytest.approx(expected)

    def test_default_is_one_neighbour_among_all_results(self):
        assert recall([[4, 2, 7]], [[7, 1]]) == 1.0

    def test_minus_one_never_counts(self):
        assert recall([[-1, -1]], [[-1, 3]], k=2) == 0.0

    def test_any_integer_dtype(self):
        I, gt = np.array([[1, 2**40]]), np.array([[2, 1]], dtype=np.uint16)
        assert recall(I, gt, k=2) == 0.5

    @given(st.data())
    def test_equals_the_definition(self, data):
        nb, I = data.draw(rankings())
        gt = np.array([data.draw(st.permutations(range(nb))) for _ in I])
        k, r = data.draw(st.integers(1, nb)), data.draw(st.integers(1, I.shape[1]))
        assert recall(I, gt, k, r) == pytest.approx(recall_by_loops(I.tolist(), gt.tolist(), k, r))

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            (([[1.0]], [[1]]), TypeError, "integer ids in I, got dtype float64"),
            (([1], [[1]]), ValueError, r"I of shape \(nq, depth\), not empty, got \(1,\)"),
            ((np.zeros((0, 3), int), [[1]]), ValueError, r"not empty, got \(0, 3\)"),
            (([[1]], [[1], [2]]), ValueError, "gt with 1 rows, one for each of I, got 2"),
            (([[1]], [[1]], 2), ValueError, "k from 1 to 1, the width of gt, got 2"),
            (([[1]], [[1]], 0), ValueError, "k from 1 to 1, the width of gt, got 0"),
            (([[1]], [[1]], 1, 5), ValueError, "r from 1 to 1, the width of I, got 5"),
        ],
    )
    def test_refuses(self, arguments, error, text):
        with pytest.raises(error, match=text):
            recall(*arguments)


class TestMeanAveragePrecision:
    def test_by_hand(self):
        # Query 0: relevant at ranks 1 and 3 of 3 relevant; query 1: at rank 2 of 1 relevant.
        base = [0, 1, 0, 0, 2]
        expected = ((1 / 1 + 2 / 3) / 3 + 1 / 2) / 2
        assert mean_average_precision([[0, 1, 2], [3, 4, 0]], [0, 2], base) == pytest.approx(
            expected
        )

    def test_top_bounds_both_ranks_and_the_divisor(self):
        I, base = [[0, 1, 2, 3]], [7, 5, 7, 7]
        assert mean_average_precision(I, [7], base, top=1) == 1.0
        assert mean_average_precision(I, [7], base, top=2) == pytest.approx(1 / 2)
        assert mean_average_precision(I, [7], base, top=3) == pytest.approx((1 + 2 / 3) / 3)

    def test_query_without_relevant_vectors_counts_as_zero(self):
        assert mean_average_precision([[0, 1], [0, 1]], [3, 0], [0, 0]) == 0.5

    def test_minus_one_takes_no_rank_and_is_not_the_last_row(self):
        assert mean_average_precision([[-1, 0, -1]], [1], [1, 1]) == 0.5

    def test_one_shared_class_is_enough(self):
        q = np.array([[1, 1, 0]], dtype=bool)
        b = np.array([[0, 1, 1], [0, 0, 1], [1, 1, 0]], dtype=bool)
        assert mean_average_precision([[1, 0, 2]], q, b) == pytest.approx((1 / 2 + 2 / 3) / 2)

    def test_rows_without_a_class_share_none(self):
        none = np.zeros((1, 2), dtype=bool)
        assert mean_average_precision([[0]], none, none) == 0.0

    @given(st.data())
    def test_equals_the_definition(self, data):
        nb, I = data.draw(rankings())
        deep = 3 if I.shape[1] == nb else 0
        top = data.draw(st.integers(1, I.shape[1] + deep))
        if data.draw(st.booleans()):
            classes = st.integers(0, 2)
            q = np.array([data.draw(classes) for _ in I])
            b = np.array([data.draw(classes) for _ in range(nb)])
            share = [[x == y for y in b] for x in q]
        else:
            row = st.lists(st.booleans(), min_size=3, max_size=3)
            q = np.array([data.draw(row) for _ in I])
            b = np.array([data.draw(row) for _ in range(nb)])
            share = [[any(s and t for s, t in zip(x, y, strict=True)) for y in b] for x in q]
        found = mean_average_precision(I, q, b, top=top)
        assert found == pytest.approx(map_by_loops(I.tolist(), share, top))
        assert 0 <= found <= 1 + 1e-12

    def test_agrees_with_scikit_learn_on_whole_rankings(self):
        rng = np.random.default_rng(0)
        scores, b, q = rng.random((20, 60)), rng.integers(0, 4, 60), rng.integers(0, 4, 20)
        I = np.argsort(-scores, axis=1)
        expected = np.mean(
            [average_precision_score(b == c, s) for c, s in zip(q, scores, strict=True)]
        )
        assert mean_average_precision(I, q, b) == pytest.approx(expected)

    def test_blocks_do_not_matter(self, monkeypatch):
        rng = np.random.default_rng(1)
        b, q = rng.integers(0, 4, 50), rng.integers(0, 4, 9)
        I = np.argsort(rng.random((9, 50)), axis=1)
        whole = mean_average_precision(I, q, b)
        monkeypatch.setattr(relevance, "_BLOCK", 100)
        assert mean_average_precision(I, q, b) == pytest.approx(whole, abs=1e-15)

    @pytest.mark.parametrize(
        ("arguments", "top", "error", "text"),
        [
            (([[0]], [0], [0.5]), None, ValueError, "whole numbers in base_labels, got 0.5"),
            (([[0]], [0], [np.nan]), None, ValueError, "whole numbers in base_labels, got nan"),
            (([[0]], [0], [1j]), None, TypeError, "in base_labels .n,., got dtype complex128"),
            (([[0]], [[1]], [[True]]), None, TypeError, "query_labels.ravel.. are classes"),
            (([[0]], [[1, 2]], [[1, 0]]), None, ValueError, "bools, or 0 and 1, in query_labels"),
            (([[0]], ["a"], [0]), None, TypeError, "expected names, or integers, in both"),
            (([[0.0]], [0], [0]), None, TypeError, "integer ids in I"),
            (
                ([[0]], [0, 1], [0]),
                None,
                ValueError,
                "1 query_labels, one for each row of I, got 2",
            ),
            (([[0]], [0], [[True]]), None, ValueError, "of the same form"),
            (([[1]], [0], [0]), None, ValueError, "ids from -1 to 0, got 1 to 1"),
            (([[-2]], [0], [0]), None, ValueError, "ids from -1 to 0, got -2 to -2"),
            (([[0]], [0], [0, 1]), 2, ValueError, "top from 1 to 1, the width of I, got 2"),
            (([[0]], [0], [0]), 0, ValueError, "top from 1 to 1, the width of I, got 0"),
            (([[0]], [], [0]), None, ValueError, "query_labels of shape"),
        ],
    )
    def test_refuses(self, arguments, top, error, text):
        with pytest.raises(error, match=text):
            mean_average_precision(*arguments, top=top)


each_denominator = pytest.mark.parametrize("denominator", ["possible", "relevant", "found"])


class TestConventions:
    def test_denominators_by_hand(self):
        # Of four relevant vectors two are among the first three, at the ranks 2 and 3.
        I, base = [[0, 1, 2, 3]], [5, 7, 7, 5, 7, 7]
        gain = 1 / 2 + 2 / 3
        for denominator, divisor in {"possible": 3, "relevant": 4, "found": 2}.items():
            found = average_precision(I, [7], base, top=3, denominator=denominator)
            np.testing.assert_allclose(found, [gain / divisor])

    @each_denominator
    @given(labelled(), st.integers(1, 12))
    def test_equals_the_definition(self, denominator, case, top):
        I, q, b, share = case
        top = min(top, I.shape[1])
        expected = [
            ap_by_loops([s[i] for i in row if i >= 0], top, denominator, sum(s))
            for row, s in zip(I, share, strict=True)
        ]
        found = average_precision(I, q, b, top=top, denominator=denominator)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        mean = mean_average_precision(I, q, b, top=top, denominator=denominator)
        assert mean == pytest.approx(np.mean(expected))
        left = [e for e in expected if e > 0] or [0.0]
        kept = mean_average_precision(
            I, q, b, top=top, denominator=denominator, drop_zero_hits=True
        )
        assert kept == pytest.approx(np.mean(left))

    def test_found_is_never_lower(self):
        rng = np.random.default_rng(3)
        b, q = rng.integers(0, 3, 30), rng.integers(0, 3, 20)
        I = np.argsort(rng.random((20, 30)), axis=1)
        by = {
            d: average_precision(I, q, b, top=7, denominator=d)
            for d in ("possible", "relevant", "found")
        }
        assert (by["relevant"] <= by["possible"]).all()
        assert (by["possible"] <= by["found"]).all()

    def test_any_integer_ids(self):
        for dtype in (np.int32, np.uint16, np.uint64):
            assert average_precision(np.array([[1, 0]], dtype), [7], [5, 7]).tolist() == [1.0]

    def test_refuses_another_denominator(self):
        with pytest.raises(ValueError, match="'possible', 'relevant' or 'found', got 'R'"):
            average_precision([[0]], [0], [0], denominator="R")


class TestTies:
    @each_denominator
    @given(st.data())
    def test_is_the_mean_over_all_orders(self, denominator, data):
        n = data.draw(st.integers(1, 7))
        b = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
        D = sorted(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
        I = data.draw(st.permutations(range(n)))
        top = data.draw(st.integers(1, n))
        relevant = [b[i] == 1 for i in I]
        orders = list(orders_of_ties(relevant, D))
        by_chance = len({sum(order[:top]) for order in orders}) > 1
        arguments = ([I], [1], b)
        options = {"top": top, "denominator": denominator, "D": [D]}
        if by_chance and denominator == "found":
            with pytest.raises(ValueError, match="where top cuts ties, got 'found'"):
                average_precision(*arguments, **options)
            return
        expected = np.mean([ap_by_loops(o, top, denominator, sum(b)) for o in orders])
        np.testing.assert_allclose(average_precision(*arguments, **options), [expected], atol=1e-12)

    def test_without_ties_it_is_the_plain_one(self):
        rng = np.random.default_rng(5)
        b, q = rng.integers(0, 4, 3000), rng.integers(0, 4, 9)
        D = rng.random((9, 3000))
        I = np.argsort(D, axis=1)
        D = np.take_along_axis(D, I, axis=1)
        plain = average_precision(I, q, b, top=2000)
        np.testing.assert_allclose(average_precision(I, q, b, top=2000, D=D), plain, rtol=1e-9)
        np.testing.assert_allclose(average_precision(I, q, b, top=2000, D=-D), plain, rtol=1e-9)

    def test_does_not_depend_on_the_order_of_ties_or_on_blocks(self, monkeypatch):
        rng = np.random.default_rng(6)
        b, q = rng.integers(0, 4, 200), rng.integers(0, 4, 12)
        D = rng.integers(0, 9, (12, 200))
        found = []
        for shuffled in (rng.permutation(200), np.arange(200)):
            I = shuffled[np.argsort(D[:, shuffled], axis=1, kind="stable")]
            ranked = np.take_along_axis(D, I, axis=1)
            found.append(average_precision(I, q, b, D=ranked, top=77))
        monkeypatch.setattr(relevance, "_BLOCK", 500)
        found.append(average_precision(I, q, b, D=ranked, top=77))
        np.testing.assert_allclose(found[0], found[1])
        np.testing.assert_allclose(found[1], found[2])

    def test_a_depth_that_shows_where_the_ties_end(self):
        b = [1, 0, 1, 0, 1]
        whole = average_precision([[0, 1, 2, 3, 4]], [1], b, top=2, D=[[1, 1, 1, 2, 2]])
        cut = average_precision([[0, 1, 2, 3]], [1], b, top=2, D=[[1, 1, 1, 2]])
        np.testing.assert_allclose(cut, whole)
        for top, D in ((2, [[1, 1, 1, 1]]), (4, [[1, 1, 1, 2]])):
            with pytest.raises(ValueError, match=f"ties at rank {top} end, got ties up .* depth 4"):
                average_precision([[0, 1, 2, 3]], [1], b, top=top, D=D)

    def test_where_nothing_more_was_found_the_ties_have_ended(self):
        inf = np.inf
        found = average_precision([[0, 1, -1], [-1] * 3], [1, 1], [1, 0, 1, 0], D=[[2, 2, inf]] * 2)
        np.testing.assert_allclose(found, [(1 + 1 / 2) / 2 / 2, 0])

    @pytest.mark.parametrize(
        ("D", "error", "text"),
        [
            ([[1, 2]], ValueError, r"D of the shape \(1, 3\) of its ids, got \(1, 2\)"),
            ([[1, 3, 2]], ValueError, "rows of D that rise or fall"),
            ([[1, np.nan, 2]], ValueError, "rows of D that rise or fall"),
            ([["a", "b", "c"]], TypeError, "real numbers in D, got dtype <U1"),
        ],
    )
    def test_refuses(self, D, error, text):
        with pytest.raises(error, match=text):
            average_precision([[0, 1, 2]], [0], [0, 1, 0], D=D)


class TestPrecision:
    @given(labelled(), st.data())
    def test_equals_the_definition(self, case, data):
        I, q, b, share = case
        precision, _ = curves_by_loops(I, share)
        tops = data.draw(st.lists(st.integers(1, I.shape[1]), min_size=1, max_size=4))
        expected = precision.mean(axis=0)[np.array(tops) - 1]
        np.testing.assert_allclose(precision_at(I, q, b, tops), expected)
        assert precision_at(I, q, b, tops[0]) == pytest.approx(expected[0])

    @pytest.mark.parametrize(
        ("top", "error", "text"),
        [
            (0, ValueError, "top from 1 to 2, the width of I, got 0"),
            ([1, 3], ValueError, r"top from 1 to 2, the width of I, got \[1, 3\]"),
            ([[1]], ValueError, "top from 1 to 2"),
            (1.0, TypeError, "integers for top, got dtype float64"),
        ],
    )
    def test_refuses(self, top, error, text):
        with pytest.raises(error, match=text):
            precision_at([[0, 1]], [0], [0, 1], top)


class TestPrecisionRecallCurve:
    @given(labelled())
    def test_equals_the_definition(self, case):
        I, q, b, share = case
        expected = [curve.mean(axis=0) for curve in curves_by_loops(I, share)]
        np.testing.assert_allclose(precision_recall_curve(I, q, b), expected, atol=1e-12)

    @given(labelled())
    def test_interpolated(self, case):
        I, q, b, share = case
        levels = np.linspace(0, 1, 11)
        expected = np.zeros(11)
        for precision, recalls in zip(*curves_by_loops(I, share), strict=True):
            for at, level in enumerate(levels):
                reached = precision[recalls >= level - 1e-9]
                expected[at] += reached.max(initial=0) / len(I)
        found, at = precision_recall_curve(I, q, b, levels=levels)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_array_equal(at, levels)

    def test_blocks_do_not_matter(self, monkeypatch):
        rng = np.random.default_rng(1)
        b, q = rng.integers(0, 4, 50), rng.integers(0, 4, 9)
        I = np.argsort(rng.random((9, 50)), axis=1)
        whole = precision_recall_curve(I, q, b)
        monkeypatch.setattr(relevance, "_BLOCK", 100)
        np.testing.assert_allclose(precision_recall_curve(I, q, b), whole)

    @pytest.mark.parametrize("levels", [0.5, [1.1], [-0.1], [np.nan]])
    def test_refuses(self, levels):
        with pytest.raises(ValueError, match=r"levels of shape \(n,\) from 0 to 1"):
            precision_recall_curve([[0]], [0], [0], levels=levels)


MEASURES = {
    "recall": lambda I, _, b: recall(I, np.tile(np.flatnonzero(b == 7)[:2], (len(I), 1)), k=2),
    "AP": lambda I, q, b: average_precision(I, q, b),
    "AP of the found": lambda I, q, b: average_precision(I, q, b, denominator="found"),
    "precision": lambda I, q, b: precision_at(I, q, b, [1, I.shape[1]]),
    "curve": lambda I, q, b: precision_recall_curve(I, q, b),
    "curve at levels": lambda I, q, b: precision_recall_curve(I, q, b, levels=[0, 0.5, 1]),
}


class TestRepeatedIds:
    """An id counts once, at its first place: after that it is as if nothing had been found."""

    @pytest.mark.parametrize("measure", MEASURES)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([5, 5000]))
    def test_are_as_nothing(self, measure, seed, depth, nb):
        rng = np.random.default_rng(seed)
        b, q = rng.integers(6, 9, nb), np.full(4, 7)
        b[:2] = 7
        I = rng.integers(-1, 5, (4, depth))
        plain = I.copy()
        for row in plain:
            for place in range(depth):
                if row[place] in row[:place]:
                    row[place] = -1
        found, expected = MEASURES[measure](I, q, b), MEASURES[measure](plain, q, b)
        np.testing.assert_array_equal(found, expected)
        assert np.max(found) <= 1 + 1e-12

    def test_of_one_document_in_pieces(self):
        I = [[0, 0, 0, 1]]
        assert recall(I, [[0, 1]], k=2, r=3) == 0.5
        assert average_precision(I, [7], [7, 7]).tolist() == [1.0]
        assert precision_at(I, [7], [7, 7], 4) == 0.5

    def test_among_ties(self):
        assert average_precision([[0, 0, 1]], [7], [7, 5], D=[[1, 1, 1]]).tolist() == [0.75]

    def test_in_the_truth(self):
        assert recall([[3, 4]], [[3, 3]], k=2) == 0.5


class TestRecallOfCopies:
    def copies(self, seed, metric_is_distance):
        """True distances of ten vectors that are there four times each, for five queries."""
        rng = np.random.default_rng(seed)
        D = rng.integers(0, 4, (5, 10)).repeat(4, axis=1).astype("f4")
        order = np.argsort(D if metric_is_distance else -D, axis=1, kind="stable")
        return D, order

    @pytest.mark.parametrize("is_distance", [True, False])
    @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
    def test_an_exact_search_has_all(self, is_distance, seed, k, r):
        D, order = self.copies(seed, is_distance)
        other = np.argsort(D[:, ::-1] if is_distance else -D[:, ::-1], axis=1, kind="stable")
        other = 39 - other  # the last of equals first
        of_other, of_order = (np.take_along_axis(D, I, 1) for I in (other, order))
        found = recall(other, order, k, r, D=of_other, gt_D=of_order)
        assert found == min(k, r) / k
        assert found >= recall(other, order, k, r)

    @given(st.integers(0, 2**32 - 1), st.integers(1, 40))
    def test_counts_what_is_as_near_as_the_kth(self, seed, k):
        D, order = self.copies(seed, True)
        I = np.random.default_rng(seed).permuted(order, axis=1)[:, :12]
        of_order, of_I = (np.take_along_axis(D, ids, 1) for ids in (order, I))
        near = (of_I <= of_order[:, k - 1 : k]).sum(axis=1)
        expected = np.minimum(near, k).sum() / (5 * k)
        assert recall(I, order, k, D=of_I, gt_D=of_order) == pytest.approx(expected)

    def test_without_an_order_only_equals_are_as_near(self):
        D, gt_D = [[0.0, 5.0, 0.0]], [[0.0, 0.0]]
        assert recall([[5, 6, -1]], [[1, 2]], k=2, D=D, gt_D=gt_D) == 0.5

    def test_refuses(self):
        with pytest.raises(ValueError, match="expected D and gt_D, or neither, got D"):
            recall([[0]], [[0]], D=[[0.0]])
        with pytest.raises(ValueError, match="expected D and gt_D, or neither, got gt_D"):
            recall([[0]], [[0]], gt_D=[[0.0]])
        with pytest.raises(ValueError, match="expected gt_D of the shape"):
            recall([[0]], [[0, 1]], D=[[0.0]], gt_D=[[0.0]])
        with pytest.raises(ValueError, match="all rise, or all fall"):
            recall([[0]], [[0, 1, 2]], D=[[0.0]], gt_D=[[0.0, 2.0, 1.0]])
        with pytest.raises(TypeError, match="expected real numbers in gt_D"):
            recall([[0]], [[0]], D=[[0.0]], gt_D=[["near"]])
