"""Curves of what was measured: recall against bytes and time, precision and recall by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepq._common.arrays import as_array
from deepq._common.checks import as_integer, as_real
from deepq._common.errors import InputError, KindError
from deepq.evaluation.suggestion import Suggestion
from deepq.metrics.neighbours import recall
from deepq.metrics.ranking import precision_at as precision_of
from deepq.metrics.ranking import precision_recall_curve
from deepq.plots import style

_BYTES, _TIME, _RECALL = "bytes_per_vector", "us_per_query", "10-recall@10"
# What a curve has where nobody says how fine: a mean of each query's steps needs no more.
_MOST_RANKS = 200
# Of round numbers on a logarithmic axis, ever finer.
_LEADING = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
)


def recall_against_bytes(points: Any, *, measure: str = _RECALL, ax: Any = None) -> Any:
    """Draw recall, or another measure, against the size of a code.

    Each setting is a point. A line joins those that no other point of their series beats: as good
    in fewer bytes.

    Parameters
    ----------
    points : list of Suggestion, sequence of mappings, or mapping of names to these
        What `deepq.suggest` returns; or a mapping for each index with its bytes and what
        `deepq.evaluate` returns, ``{"bytes_per_vector": index.code_size, **evaluate(...)}``. An
        entry "label" is written beside the point. With names, a series for each. A list of
        suggestions becomes a series each of plain codes, re-ranked ones, and those in cells.
    measure : str
        Name of what is drawn; suggestions have "10-recall@10" alone.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError
        If there is no point, or one that is neither of both or lacks its bytes or the measure.
    ImportError
        If matplotlib is missing.
    """
    lines = _lines(points, _BYTES, measure)
    ax = _points(lines, style.axes_of(ax))
    ax.set_xscale("log", base=2)
    sizes = sorted({x for line in lines.values() for x, _, _ in line})
    powers = [2.0**p for p in range(24) if sizes[0] / 2 < 2**p < sizes[-1] * 2]
    style.plain_ticks(ax, sizes if len(sizes) <= 6 else powers)
    return style.finish(ax, "bytes per vector", measure)


def recall_against_time(points: Any, *, measure: str = _RECALL, ax: Any = None) -> Any:
    """Draw recall, or another measure, against the time of a query.

    Each setting is a point. A line joins those that no other point of their series beats: as good
    in less time.

    Parameters
    ----------
    points : list of Suggestion, sequence of mappings, or mapping of names to these
        As for `recall_against_bytes`; a mapping has "us_per_query", as `deepq.evaluate` names it.
        So ``[{"label": n, **evaluate(...)}, ...]`` for values of `nprobe` or `rerank` is a curve.
    measure : str
        Name of what is drawn; suggestions have "10-recall@10" alone.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError
        If there is no point, or one that is neither of both or lacks its time or the measure.
    ImportError
        If matplotlib is missing.
    """
    lines = _lines(points, _TIME, measure)
    ax = _points(lines, style.axes_of(ax))
    ax.set_xscale("log")
    least, *_, most = sorted(x for line in lines.values() for x, _, _ in [*line, *line])
    ticks = _steps(least / 1.4, most * 1.4)
    style.plain_ticks(ax, ticks)
    ax.set_xlim(min(least, *ticks) / 1.25, max(most, *ticks) * 1.3)
    return style.finish(ax, "time of a query (µs, one thread)", measure)


def recall_by_rank(
    found: Any,
    ground_truth: Any,
    *,
    ks: Sequence[int] = (1, 10),
    ranks: Sequence[int] | None = None,
    ax: Any = None,
) -> Any:
    """Draw k-recall@R against R: how many results must be looked at to find the true neighbours.

    Parameters
    ----------
    found : (nq, depth) array of int, or mapping of names to such
        Ids that searches have returned, in ranked order.
    ground_truth : (nq, depth_gt) array of int
        True neighbours in ranked order.
    ks : sequence of int
        How many true neighbours are looked for; a line for each.
    ranks : sequence of int, optional
        Values of R, by default 1, 2, 5, 10, ... up to the depth of `found`; a line begins at k.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, DimensionError, KindError
        As `metrics.recall` does, and if there is no k or rank.
    ImportError
        If matplotlib is missing.
    """
    given = {name: as_array(I, "found") for name, I in style.series_of(found, "results").items()}
    wanted = [as_integer(k, "ks") for k in ks]
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for name, I in given.items():
        depth = I.shape[-1] if I.ndim else 0
        at = (
            style.rounded(depth) if ranks is None else sorted(as_integer(r, "ranks") for r in ranks)
        )
        for k in wanted:
            line = [r for r in at if r >= min(k, depth)]
            label = " ".join(part for part in (name, f"{k}-recall@R") if part)
            lines[label] = line, [recall(I, ground_truth, k=k, r=r) for r in line]
    if not any(at for at, _ in lines.values()):
        raise InputError("expected at least one of ks, and a rank that is not below it, got none")
    ax = style.axes_of(ax)
    _curves(lines, ax)
    ax.set_xscale("log")
    style.plain_ticks(ax, {r for at, _ in lines.values() for r in at})
    ax.set_ylim(0, 1.02)
    return style.finish(ax, "results that are looked at, R", "part of true neighbours found")


def precision_recall(
    found: Any, query_labels: Any, base_labels: Any, *, levels: Any = None, ax: Any = None
) -> Any:
    """Draw precision against recall, by labels.

    Parameters
    ----------
    found : (nq, depth) array of int, or mapping of names to such
        Ids that searches have returned, in ranked order; of whole rankings the curve goes up to a
        recall of 1.
    query_labels, base_labels, levels
        As `metrics.precision_recall_curve` takes them. By default precision and recall at each
        rank, at most 200 of them; with levels of recall, the interpolated precision there.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, DimensionError, KindError
        As `metrics.precision_recall_curve` does.
    ImportError
        If matplotlib is missing.
    """
    lines = {}
    for name, I in style.series_of(found, "results").items():
        precision, at = precision_recall_curve(I, query_labels, base_labels, levels=levels)
        shown = _spread(len(at))
        lines[name] = at[shown], precision[shown]
    ax = style.axes_of(ax)
    _curves(lines, ax, marks=levels is not None)
    ax.set_ylim(0, 1.02)
    ax.set_xlim(left=0)
    return style.finish(ax, "recall", "precision")


def precision_at(
    found: Any, query_labels: Any, base_labels: Any, *, top: Any = None, ax: Any = None
) -> Any:
    """Draw precision at R against R, by labels: what papers call P@R.

    Parameters
    ----------
    found : (nq, depth) array of int, or mapping of names to such
        Ids that searches have returned, in ranked order.
    query_labels, base_labels
        As `metrics.precision_at` takes them.
    top : sequence of int, optional
        Values of R; by default 1, 2, 5, 10, ... up to the depth.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, DimensionError, KindError
        As `metrics.precision_at` does.
    ImportError
        If matplotlib is missing.
    """
    lines = {}
    for name, I in style.series_of(found, "results").items():
        ids = as_array(I, "found")
        wanted = style.rounded(ids.shape[-1] if ids.ndim else 0) if top is None else list(top)
        at = np.sort(as_array(wanted, "top"))
        lines[name] = at, precision_of(ids, query_labels, base_labels, at)
    ax = style.axes_of(ax)
    _curves(lines, ax)
    ax.set_xscale("log")
    style.plain_ticks(ax, {int(r) for at, _ in lines.values() for r in at})
    ax.set_ylim(0, 1.02)
    return style.finish(ax, "results that are looked at, R", "precision at R")


def _curves(lines: Mapping[str, tuple[Any, Any]], ax: Any, *, marks: bool = True) -> None:
    if not lines:
        raise InputError("expected results of at least one search, got none")
    for number, (name, (x, y)) in enumerate(lines.items()):
        colour, mark, dashes = style.look(number)
        how = {"marker": mark, "markersize": 4.5} if marks else {}
        ax.plot(x, y, color=colour, linestyle=dashes, label=name or None, **how)


def _points(lines: dict[str, list[tuple[float, float, str]]], ax: Any) -> Any:
    for number, (name, line) in enumerate(lines.items()):
        colour, mark, dashes = style.look(number)
        x, y = [p[0] for p in line], [p[1] for p in line]
        best = _unbeaten(line)
        ax.plot([p[0] for p in best], [p[1] for p in best], color=colour, linestyle=dashes)
        ax.plot(x, y, mark, color=colour, markersize=6, label=name or None)
        for place, (at, value, said) in enumerate(line):
            above = place % 2 == 0  # so that those of near points do not meet
            how = {"xytext": (0, 6 if above else -6), "va": "bottom" if above else "top"}
            if said:
                ax.annotate(
                    said, (at, value), textcoords="offset points", ha="center", size="small", **how
                )
    ax.margins(x=0.08, y=0.16)
    return ax


def _unbeaten(line: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Points, by rising x, that are better than all before them."""
    best: list[tuple[float, float, str]] = []
    for point in sorted(line, key=lambda p: (p[0], -p[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def _lines(points: Any, x: str, measure: str) -> dict[str, list[tuple[float, float, str]]]:
    """Return x, the measure and a label of every point, by series and rising x."""
    given = style.series_of(points, "series")
    if set(given) == {""} and isinstance(given[""], Mapping | Suggestion | str):
        raise KindError(f"expected a sequence of points, got {type(given['']).__name__}")
    if "" in given and not isinstance(points, Mapping):
        series: dict[str, list[Any]] = {}
        for point in sorted(points, key=_place):
            series.setdefault(_kind(point), []).append(point)
        given = series
    lines = {
        name: sorted((_point(one, x, measure) for one in some), key=lambda p: p[:2])
        for name, some in given.items()
    }
    if not any(lines.values()):
        raise InputError("expected at least one point, got none")
    return {name: line for name, line in lines.items() if line}


def _kind(point: Any) -> str:
    """Name of the series that a suggestion belongs to."""
    if not isinstance(point, Suggestion):
        return ""
    words = ["in cells" if point.nlist else "", "re-ranked" if point.rerank else ""]
    return ", ".join(word for word in words if word) or "codes"


def _place(point: Any) -> int:
    """Where the series of a point comes: plain codes, re-ranked ones, those in cells."""
    is_one = isinstance(point, Suggestion)
    return 2 * bool(point.nlist) + bool(point.rerank) if is_one else 0


def _point(point: Any, x: str, measure: str) -> tuple[float, float, str]:
    if isinstance(point, Suggestion):
        point = {
            _BYTES: point.bytes_per_vector,
            _TIME: point.search_us,
            _RECALL: point.recall,
        }
    if not isinstance(point, Mapping):
        raise KindError(f"expected a Suggestion or a mapping, got {type(point).__name__}")
    missing = [name for name in (x, measure) if name not in point]
    if missing:
        known = ", ".join(map(str, point)) or "nothing"
        raise InputError(f"expected {missing[0]} in every point, got one with {known}")
    at = as_real(point[x], x)
    if not 0 < at < np.inf:
        raise InputError(f"expected {x} above 0, got {at}")
    return at, as_real(point[measure], measure), str(point.get("label", ""))


def _steps(least: float, most: float) -> list[float]:
    """Return round numbers between two, about three to eight of them."""
    powers = range(int(np.floor(np.log10(least))), int(np.ceil(np.log10(most))) + 1)
    for leading in _LEADING:
        steps = [step * 10.0**power for power in powers for step in leading]
        found = [step for step in steps if least <= step <= most]
        if len(found) > 2:
            return found
    return [least, most]


def _spread(depth: int) -> Any:
    """Ranks, from 0, that are shown of a curve: all, or 200 that lie closest at the beginning."""
    if depth <= _MOST_RANKS:
        return np.arange(depth)
    return np.unique(np.geomspace(1, depth, _MOST_RANKS).round().astype(np.int64)) - 1
