"""Items dealt out to buckets at the least cost: an exact min-cost flow, by OR-Tools."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from deepq._common.arrays import as_array, as_whole
from deepq._common.checks import as_size, as_weight
from deepq._common.errors import DimensionError, InputError, KindError
from deepq._common.extras import need
from deepq._common.types import Ids

# Costs are whole numbers to the solver, the largest about this. It multiplies them by the number of
# nodes, and adds them up along paths, in 64 bits.
_LARGEST_COST = 1 << 31
_MOST_NODES = 1 << 28


def assign_buckets(
    scores: npt.ArrayLike,
    sparsity: int = 1,
    *,
    capacity: int | None = None,
    crowding: float = 0.0,
    groups: npt.ArrayLike | None = None,
    group_capacity: int | None = None,
    rivalry: float = 0.0,
) -> Ids:
    """Give every item the buckets that it scores best in, without crowding them.

    Of all assignments h, of `sparsity` buckets to each item, it is one of least cost

        - sum_i <scores_i, h_i> + crowding sum_{i<j} <h_i, h_j>
                                + rivalry sum_{i<j, of one group} <h_i, h_j>,

    where no bucket has more than `capacity` items, and none more than `group_capacity` of one
    group. The minimum is exact: the problem is a min-cost flow, as Jeong & Song, "Efficient
    end-to-end learning for quantizable representations", ICML 2018, and Jeong, Kim & Song,
    "End-to-end efficient representation learning via cascading combinatorial optimization", CVPR
    2019, show. Scores are rounded to 2^-31 of the largest cost for it.

    Parameters
    ----------
    scores : (n, d) array of real numbers
        How well each item suits each bucket; larger is better.
    sparsity : int
        Buckets of an item, 1 to d.
    capacity : int, optional
        Most items in a bucket; None for any number.
    crowding : float
        Cost of two items in one bucket, at least 0.
    groups : (n,) array of whole numbers, optional
        Group of each item, such as its bucket on a level above.
    group_capacity : int, optional
        Most items of one group in a bucket.
    rivalry : float
        Cost of two items of one group in one bucket, besides `crowding`.

    Returns
    -------
    (n, sparsity) int64
        Buckets of each item, ascending.

    Raises
    ------
    ImportError
        If OR-Tools is not installed: ``pip install 'deepq[hierarchical]'``.
    DimensionError, KindError
        If `scores` is not an (n, d) array of real numbers, or `groups` not (n,).
    InputError
        If a score is not finite, a number is out of range, or the capacities do not hold all items.

    Notes
    -----
    The network has n + d nodes and n d + d min(n, capacity) arcs; groups add a node for each group
    of at least 2 items and bucket, and n d arcs. OR-Tools pushes flow with scaled costs: at most
    O(V^2 E log(V C)) steps, C the largest cost, in practice about E^1.3. Without limits and costs
    of crowding nothing is solved: each item takes its best buckets.

    Examples
    --------
    Both items suit bucket 0 best; the second loses less elsewhere.

    >>> assign_buckets([[1.0, 0.2], [1.0, 0.9]], capacity=1).tolist()
    [[0], [1]]

    Ids of two digits for items, no two alike, which generative recommenders call semantic ids:

    >>> scores = np.random.default_rng(0).random((9, 2, 3))
    >>> first = assign_buckets(scores[:, 0], capacity=3)
    >>> second = assign_buckets(scores[:, 1], groups=first[:, 0], group_capacity=1)
    >>> len({(int(a), int(b)) for (a,), (b,) in zip(first, second)})
    9
    """
    given = _as_scores(scores)
    n, d = given.shape
    sparsity = as_size(sparsity, "sparsity")
    if sparsity > d:
        raise InputError(f"expected sparsity of at most {d} buckets, got {sparsity}")
    limits = _Limits(
        n if capacity is None else as_size(capacity, "capacity"),
        n if group_capacity is None else as_size(group_capacity, "group_capacity"),
        as_weight(crowding, "crowding"),
        as_weight(rivalry, "rivalry"),
    )
    if n * sparsity > d * min(n, limits.capacity):
        raise InputError(
            f"expected a capacity of at least {-(-n * sparsity // d)} for {n} items in {d} "
            f"buckets, {sparsity} each, got {limits.capacity}"
        )
    parts = _parts(groups, n, limits)
    largest = max((len(part) for part in parts), default=0)
    if largest * sparsity > d * min(largest, limits.group_capacity):
        raise InputError(
            f"expected a group_capacity of at least {-(-largest * sparsity // d)} for a group of "
            f"{largest} items in {d} buckets, {sparsity} each, got {limits.group_capacity}"
        )
    if not parts and not limits.crowding and limits.capacity >= n:
        best = np.argsort(-given, axis=1, kind="stable")[:, :sparsity]
        return np.sort(best, axis=1)
    return _solved(_network(given, sparsity, parts, limits), n, d, sparsity)


class _Limits(NamedTuple):
    capacity: int
    group_capacity: int
    crowding: float
    rivalry: float


class _Arcs(NamedTuple):
    """Arcs from nodes (m,) to nodes (m,), with capacities and costs (m,)."""

    tails: Ids
    heads: Ids
    capacities: Ids
    costs: NDArray[np.float64]


class _Network(NamedTuple):
    """Arcs, those of items to buckets first, and what each node supplies."""

    arcs: _Arcs
    supplies: Ids


def _as_scores(scores: npt.ArrayLike) -> NDArray[np.float64]:
    given = as_array(scores, "scores")
    if given.dtype.kind not in "fiub":
        raise KindError(f"expected scores of real numbers, got dtype {given.dtype}")
    if given.ndim != 2 or not given.shape[1]:
        raise DimensionError(f"expected scores of shape (n, d), got {given.shape}")
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
        raise InputError(f"expected finite scores, got NaN or infinity in row {row}")
    return numbers


def _parts(groups: npt.ArrayLike | None, n: int, limits: _Limits) -> list[Ids]:
    """Return the items of each group that its limits matter to."""
    if groups is None:
        if limits.rivalry or limits.group_capacity < n:
            raise InputError("expected groups with rivalry or group_capacity, got none")
        return []
    numbers = as_whole(groups, "groups")
    if numbers.shape != (n,):
        raise DimensionError(f"expected groups of shape ({n},), got {numbers.shape}")
    if not limits.rivalry and limits.group_capacity >= n:
        return []
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    return [part for part in np.split(order, ends) if len(part) > 1]


def _network(
    scores: NDArray[np.float64], sparsity: int, parts: list[Ids], limits: _Limits
) -> _Network:
    """Lay out items, then a row of buckets for each group, then the buckets, and a sink.

    The m-th unit of flow through a bucket costs (m - 1) times the price of two items in it, which
    an arc for each unit says: the sum is that of all pairs.
    """
    n, d = scores.shape
    buckets = n + len(parts) * d
    sink = buckets + d
    if sink >= _MOST_NODES or n * d >= _MOST_NODES:
        raise InputError(f"expected fewer than {_MOST_NODES} scores, got {n} x {d}")
    first = np.full(n, buckets)
    arcs = []
    for number, part in enumerate(parts):
        own = n + number * d
        first[part] = own
        tails, heads = own + np.arange(d), buckets + np.arange(d)
        arcs += _convex(tails, heads, min(len(part), limits.group_capacity), limits.rivalry)
    sinks = np.full(d, sink)
    most = min(n, limits.capacity)
    if limits.crowding and not parts:
        most = min(most, _most_in_a_bucket(scores, sparsity, limits.crowding))
    arcs += _convex(buckets + np.arange(d), sinks, most, limits.crowding)
    items = np.repeat(np.arange(n), d)
    heads = (first[:, None] + np.arange(d)).ravel()
    arcs.insert(0, _Arcs(items, heads, np.ones(n * d, np.int64), -scores.ravel()))
    supplies = np.zeros(sink + 1, np.int64)
    supplies[:n], supplies[sink] = sparsity, -n * sparsity
    return _Network(
        _Arcs(*(np.concatenate(column) for column in zip(*arcs, strict=True))), supplies
    )


def _most_in_a_bucket(scores: NDArray[np.float64], sparsity: int, crowding: float) -> int:
    """Return how many items a bucket has at most where it costs least.

    Some bucket has no more than the mean. An item of a fuller one that is not there would save the
    crowding of the items that there are more of, but for itself, and lose what the scores differ.
    """
    n, d = scores.shape
    spread = float(np.ptp(scores, axis=1).max(initial=0))
    more = min(float(n), spread / crowding)
    return int(n * sparsity // d + 1 + more)


def _convex(tails: Ids, heads: Ids, most: int, price: float) -> list[_Arcs]:
    """Arcs between pairs of nodes whose m-th unit of flow costs (m - 1) price, up to `most`."""
    if not price:
        return [_Arcs(tails, heads, np.full(len(tails), most), np.zeros(len(tails)))]
    tails, heads = np.repeat(tails, most), np.repeat(heads, most)
    costs = np.tile(np.arange(most) * price, len(tails) // most)
    return [_Arcs(tails, heads, np.ones(len(tails), np.int64), costs)]


def _solved(network: _Network, n: int, d: int, sparsity: int) -> Ids:
    """Send the flow, and read which buckets (n, sparsity) it takes items through."""
    module = "ortools.graph.python.min_cost_flow"
    solver = need(module, "assign buckets", "hierarchical", "OR-Tools")
    arcs, supplies = network
    largest = float(np.abs(arcs.costs).max())
    costs = np.rint(arcs.costs * (_LARGEST_COST / largest if largest else 1.0)).astype(np.int64)
    flow = solver.SimpleMinCostFlow()
    numbers = flow.add_arcs_with_capacity_and_unit_cost(
        arcs.tails.astype(np.int32), arcs.heads.astype(np.int32), arcs.capacities, costs
    )
    flow.set_nodes_supplies(np.arange(len(supplies), dtype=np.int32), supplies)
    status = flow.solve()
    if status != flow.OPTIMAL:  # no flow is there to be read
        raise InputError(
            f"expected capacities that hold all items, got a problem that OR-Tools calls "
            f"{getattr(status, 'name', status)}"
        )
    taken = np.asarray(flow.flows(numbers[: n * d])).reshape(n, d) > 0
    return np.nonzero(taken)[1].reshape(n, sparsity).astype(np.int64)
