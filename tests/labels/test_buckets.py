from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import deepq
from deepq.labels.buckets import assign_buckets

RNG = np.random.default_rng(3)


def cost(scores, chosen, *, crowding=0.0, groups=None, rivalry=0.0) -> float:
    """What an assignment (n, sparsity) costs, pair by pair."""
    h = np.zeros(scores.shape)
    np.put_along_axis(h, chosen, 1, axis=1)
    total = -float((scores * h).sum())
    for i, j in itertools.combinations(range(len(h)), 2):
        total += crowding * float(h[i] @ h[j])
        if groups is not None and groups[i] == groups[j]:
            total += rivalry * float(h[i] @ h[j])
    return total


def fits(chosen, d, *, capacity=None, groups=None, group_capacity=None) -> bool:
    sizes = np.bincount(chosen.ravel(), minlength=d)
    if capacity is not None and sizes.max() > capacity:
        return False
    for group in np.unique(groups) if group_capacity is not None else ():
        if np.bincount(chosen[groups == group].ravel()).max() > group_capacity:
            return False
    return True


def brute_force(scores, sparsity, *, capacity=None, group_capacity=None, **costs) -> float:
    """The least cost of all assignments; infinite where none fits."""
    n, d = scores.shape
    rows = [list(c) for c in itertools.combinations(range(d), sparsity)]
    limits = {"capacity": capacity, "group_capacity": group_capacity, "groups": costs.get("groups")}
    best = np.inf
    for choice in itertools.product(rows, repeat=n):
        chosen = np.array(choice)
        if fits(chosen, d, **limits):
            best = min(best, cost(scores, chosen, **costs))
    return best


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_assignment_costs_less(data) -> None:
    n, d = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    sparsity = data.draw(st.integers(1, min(d, 2)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    scores = rng.integers(-8, 9, (n, d)) / 4  # with ties
    crowding = data.draw(st.sampled_from([0.0, 0.25, 3.0]))
    grouped = data.draw(st.booleans())
    groups = rng.integers(0, 2, n) if grouped else None
    rivalry = data.draw(st.sampled_from([0.0, 0.5, 100.0])) if grouped else 0.0
    capacity = data.draw(st.sampled_from([None, 1, 2]))
    group_capacity = data.draw(st.sampled_from([None, 1])) if grouped else None
    costs = {"crowding": crowding, "groups": groups, "rivalry": rivalry}
    limits = {"capacity": capacity, "group_capacity": group_capacity}
    least = brute_force(scores, sparsity, **costs, **limits)
    if least == np.inf:
        with pytest.raises(deepq.InputError, match="capacit"):
            assign_buckets(scores, sparsity, **costs, **limits)
        return
    found = assign_buckets(scores, sparsity, **costs, **limits)
    assert found.shape == (n, sparsity)
    assert found.dtype == np.int64
    assert (np.diff(found, axis=1) > 0).all()
    assert fits(found, d, groups=groups, **limits)
    assert cost(scores, found, **costs) == pytest.approx(least, abs=1e-6)


@pytest.mark.parametrize(("n", "d", "sparsity"), [(64, 16, 1), (40, 64, 3)])
def test_it_costs_what_a_linear_program_does(n, d, sparsity) -> None:
    """The program of the same pairs: units of flow through a bucket cost 0, 1, 2, ... of them."""
    scores, groups = RNG.standard_normal((n, d)), RNG.integers(0, 9, n)
    crowding, rivalry = 0.1, 0.7
    names = sorted(set(groups))
    parts = [np.flatnonzero(groups == name) for name in names]
    h = n * d
    steps = [np.arange(len(p)) for p in (*parts, np.arange(n)) for _ in range(d)]
    weights = [rivalry] * (len(parts) * d) + [crowding] * d
    c = np.concatenate([-scores.ravel(), *(w * s for w, s in zip(weights, steps, strict=True))])
    ends = h + np.cumsum([0, *map(len, steps)])
    A, b = [], []
    for i in range(n):
        row = np.zeros(len(c))
        row[i * d : i * d + d] = 1
        A.append(row)
        b.append(sparsity)
    for number, part in enumerate((*parts, np.arange(n))):
        for t in range(d):
            row = np.zeros(len(c))
            row[part * d + t] = 1
            row[ends[number * d + t] : ends[number * d + t + 1]] = -1
            A.append(row)
            b.append(0)
    want = linprog(c, A_eq=np.array(A), b_eq=b, bounds=(0, 1), method="highs-ds").fun
    found = assign_buckets(scores, sparsity, crowding=crowding, groups=groups, rivalry=rivalry)
    got = cost(scores, found, crowding=crowding, groups=groups, rivalry=rivalry)
    assert got == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_the_scale_of_scores_does_not_matter(scale) -> None:
    scores = RNG.standard_normal((30, 7))
    want = assign_buckets(scores, crowding=0.3, capacity=6)
    got = assign_buckets(scores * scale, crowding=0.3 * scale, capacity=6)
    np.testing.assert_array_equal(got, want)


def test_scores_may_be_equal_or_few() -> None:
    found = assign_buckets(np.zeros((6, 3)), capacity=2)
    assert np.bincount(found.ravel()).tolist() == [2, 2, 2]
    assert assign_buckets(np.empty((0, 3)), capacity=1).shape == (0, 1)
    assert assign_buckets(np.float16([[1, 2]]), 2).tolist() == [[0, 1]]


def test_ids_of_items_do_not_collide() -> None:
    n, d = 200, 15
    scores = RNG.standard_normal((n, 2, d))
    first = assign_buckets(scores[:, 0], capacity=-(-n // d))
    second = assign_buckets(scores[:, 1], groups=first[:, 0], group_capacity=1)
    ids = first[:, 0] * d + second[:, 0]
    assert len(np.unique(ids)) == n
    assert np.bincount(first[:, 0]).max() <= -(-n // d)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": [1.0, 2.0]}, r"shape \(n, d\)"),
        ({"scores": [[np.nan, 1.0]]}, "row 0"),
        ({"scores": [["a", "b"]]}, "real numbers"),
        ({"sparsity": 4}, "at most 3"),
        ({"sparsity": 0}, "sparsity"),
        ({"capacity": 1}, "at least 2 for 5 items"),
        ({"rivalry": 1.0}, "expected groups"),
        ({"groups": [1, 2]}, r"shape \(5,\)"),
        ({"groups": [0, 0, 0, 0, 1], "group_capacity": 1}, "at least 2 for a group of 4"),
        ({"crowding": -1.0}, "crowding"),
        ({"groups": [0.5] * 5, "rivalry": 1.0}, "whole numbers"),
    ],
)
def test_what_cannot_be(arguments, message) -> None:
    scores = arguments.pop("scores", np.eye(5, 3))
    with pytest.raises((ValueError, TypeError), match=message):
        assign_buckets(scores, **arguments)


def test_limits_that_only_the_solver_finds_out() -> None:
    """Each limit alone would do, both together do not."""
    scores, groups = np.zeros((4, 2)), [0, 0, 1, 2]
    assert assign_buckets(scores, groups=groups, group_capacity=1, capacity=2).shape == (4, 1)
    scores, groups = np.zeros((4, 3)), [0, 0, 0, 1]
    assert len(set(assign_buckets(scores, groups=groups, group_capacity=1)[:3, 0])) == 3


def test_a_missing_solver_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.graph.python.min_cost_flow", None)
    assert assign_buckets([[1.0, 2.0]]).tolist() == [[1]]  # takes none
    with pytest.raises(ImportError, match=r"OR-Tools.*deepq\[hierarchical\]"):
        assign_buckets([[1.0, 2.0]] * 2, capacity=1)
