from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from deepq import _relevance
from deepq.metrics import mean_average_precision, recall


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
        monkeypatch.setattr(_relevance, "_BLOCK", 100)
        assert mean_average_precision(I, q, b) == pytest.approx(whole, abs=1e-15)

    @pytest.mark.parametrize(
        ("arguments", "top", "error", "text"),
        [
            (([[0]], [0], [0.5]), None, TypeError, "for base_labels, got dtype float64"),
            (([[0]], [[1]], [[True]]), None, TypeError, "bools in .n, c. for query_labels, got"),
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
