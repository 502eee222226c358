"""Supervision: what is similar, what is known, and the batches that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepq._common.errors import DimensionError, InputError, KindError
from deepq.labels.supervision import Classes, Pairs, Positives, Tags, as_supervision


def test_classes() -> None:
    y = np.array([5, 7, 5, 9])
    classes = Classes(y)
    similar, known = classes.similar(np.array([0, 2, 3]))
    np.testing.assert_array_equal(similar, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert known.all()
    np.testing.assert_array_equal(classes.targets(np.arange(4)), np.eye(3)[[0, 1, 0, 2]])
    part = classes.part(np.array([3, 0]))
    np.testing.assert_array_equal(part.y, [9, 5])
    np.testing.assert_array_equal(part.targets(np.arange(2)), np.eye(3)[[2, 0]])  # columns stay
    assert (part.n, part.classes) == (2, 3)


def test_batches_of_classes_are_balanced_and_whole() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 100, 50])
    batches = list(Classes(y).batches(45, rng))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(450))
    for rows in batches:
        assert len(rows) == 45
        assert np.abs(np.bincount(y[rows], minlength=3) - [30, 10, 5]).max() <= 2
    again = list(Classes(y).batches(45, rng))
    assert not all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_tags() -> None:
    y = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.bool_)
    tags = Tags(y)
    similar, known = tags.similar(np.arange(4))
    np.testing.assert_array_equal(similar, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert known.all()
    want = [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(tags.targets(np.arange(4)), want)
    assert tags.several
    np.testing.assert_array_equal(tags.part(np.array([2])).y, y[2:3])


def test_pairs() -> None:
    pairs = Pairs([0, 4, 1], [1, 0, 2], [1, 0, -1])
    rows = np.array([0, 1, 4])
    similar, known = pairs.similar(rows)
    np.testing.assert_array_equal(similar, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(known, [[1, 1, 1], [1, 1, 0], [1, 0, 1]])
    assert pairs.targets(rows) is None
    assert pairs.classes == 0


def test_of_two_verdicts_on_a_pair_yes_counts() -> None:
    similar, known = Pairs([0, 1, 0], [1, 0, 1], [0, 1, 0]).similar(np.array([1, 0]))
    assert similar.all()
    assert known.all()


@given(st.integers(0, 2**32 - 1))
def test_pairs_are_looked_up_as_by_a_matrix(seed) -> None:
    rng = np.random.default_rng(seed)
    i = rng.integers(20, size=30)
    j = (i + rng.integers(1, 20, size=30)) % 20
    s = rng.random(30) < 0.5
    similar, known = np.eye(20, dtype=np.bool_), np.eye(20, dtype=np.bool_)
    similar[i[s], j[s]] = similar[j[s], i[s]] = True
    known[i, j] = known[j, i] = True
    pairs = Pairs(i, j, s)
    rows = rng.permutation(pairs.n)[: rng.integers(1, pairs.n + 1)]
    found = pairs.similar(rows)
    np.testing.assert_array_equal(found[0], similar[np.ix_(rows, rows)])
    np.testing.assert_array_equal(found[1], known[np.ix_(rows, rows)])


def test_batches_of_pairs_have_every_pair_together() -> None:
    rng = np.random.default_rng(0)
    i = rng.integers(100, size=300)
    j = (i + rng.integers(1, 100, size=300)) % 100
    pairs = Pairs(i, j, rng.random(300) < 0.2)
    together = np.zeros((100, 100), np.bool_)
    for rows in pairs.batches(40, rng):
        assert 2 <= len(rows) <= 40
        assert len(np.unique(rows)) == len(rows)
        together[np.ix_(rows, rows)] = True
    assert together[i, j].all()


def test_positives_are_rows_behind_the_vectors() -> None:
    log = Positives(np.zeros((3, 8)), [5, 2, 5]).after(10)
    rows = np.array([5, 2, 10, 11, 12])
    similar, known = log.similar(rows)
    np.testing.assert_array_equal(known, np.array([0, 0, 1, 1, 1])[:, None] != [0, 0, 1, 1, 1])
    want = np.zeros((5, 5), np.bool_)
    for query, right in ((2, 0), (3, 1), (4, 0)):
        want[query, right] = want[right, query] = True
    np.testing.assert_array_equal(similar, want)
    drawn = np.concatenate(list(log.batches(4, np.random.default_rng(0))))
    assert {10, 11, 12} <= set(drawn.tolist())


def test_labels_are_taken_for_what_they_are() -> None:
    assert isinstance(as_supervision(np.array([0, 1, 1]), 3), Classes)
    assert isinstance(as_supervision([0, 1, 1], 3), Classes)
    assert isinstance(as_supervision(np.eye(3, dtype=np.bool_), 3), Tags)
    assert as_supervision(Positives(np.zeros((2, 4)), [0, 1]), 3).n == 5


@pytest.mark.parametrize(
    ("y", "error"),
    [
        (np.array([0.5, 1, 1]), InputError),
        (np.array([np.nan, 1, 0]), InputError),
        (np.array([1j, 1, 0]), KindError),
        (np.array(["a", None, "c"], object), KindError),
        (np.ma.masked_array([0, 1, 1], mask=[1, 0, 0]), KindError),
        (2 * np.eye(3, dtype=np.int64), InputError),
        (np.array([[0], [1], [2]]), KindError),
        (np.zeros((3, 2, 2), np.bool_), KindError),
        (np.array([0, 1]), DimensionError),
        (np.array([4, 4, 4]), InputError),
        (np.zeros((3, 2), np.bool_), InputError),
        (Pairs([0], [3]), InputError),
        (Positives(np.zeros((1, 4)), [3]), InputError),
        (None, KindError),
    ],
)
def test_other_labels_are_refused(y, error) -> None:
    with pytest.raises(error, match=r"expected .*, got"):
        as_supervision(y, 3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([0, 1], [1]), DimensionError),
        (([], []), DimensionError),
        (([0], [-1]), InputError),
        (([0.5], [1]), KindError),
        (([0, 3], [1, 3]), InputError),
        (([0], [1], [1, 0]), DimensionError),
    ],
)
def test_other_pairs_are_refused(arguments, error) -> None:
    with pytest.raises(error, match=r"expected .*, got"):
        Pairs(*arguments)


def test_other_positives_are_refused() -> None:
    for queries, rows in ((np.zeros((2, 4)), [0]), (np.zeros(2), [0, 1]), (np.zeros((0, 4)), [])):
        with pytest.raises(DimensionError, match=r"expected queries .*, got"):
            Positives(queries, rows)
