"""The inside of an index: how its training went, how codebooks are used and what codes lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from deepq._common.errors import InputError, KindError
from deepq.evaluation.bucket_use import BucketUse
from deepq.evaluation.diagnosis import Diagnosis, diagnose
from deepq.plots import style
from deepq.training.trainer import HELD_OUT

_RISING = ("recall", "mAP")  # measures of which more is better
_PALE = 0.32  # opacity of the bars behind


def training(source: Any, *, stage: str | None = None, ax: Any = None) -> Any:
    """Draw how a training went.

    All stages stand side by side, each in the same width, and every measure as a part of its first
    value in the stage: an error that ends at 0.8 has lost a fifth. What a decoder was judged by is
    its recall as a part of the recall without it. Of one stage, the values themselves are drawn.

    Parameters
    ----------
    source : DeepQuantIndex, DeepQuantIVFIndex or list of dict
        An index, or its `history`.
    stage : str, optional
        Name of a stage, such as "rotation", "codebooks", "order", "decoder" or "network": its
        recall or mAP is drawn, or else its error or loss, by iteration.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError
        If there is no history, or not such a stage in it.
    ImportError
        If matplotlib is missing.
    """
    runs = runs_of(source)
    if stage is not None:
        chosen = [run for run in runs if run.stage == stage]
        if not chosen:
            known = ", ".join(dict.fromkeys(repr(run.stage) for run in runs))
            raise InputError(f"expected one of the stages {known}, got {stage!r}")
        return _one_stage(chosen, style.axes_of(ax))
    runs = [run for run in runs if run.stage != HELD_OUT] or runs  # which is no stage, but measured
    ax = style.axes_of(ax)
    falling, rising = style.look(0), style.look(1)
    named = set()
    for place, run in enumerate(runs):
        for measure, values in run.relative().items():
            colour, mark, dashes = rising if measure in _RISING else falling
            name = "recall, mAP" if measure in _RISING else "error, loss"
            x = place + (np.arange(len(values)) + 0.5) / len(values) * 0.9 + 0.05
            for part in run.parts:
                ax.plot(
                    x[part],
                    values[part],
                    color=colour,
                    linestyle=dashes,
                    marker=mark if len(values) < 12 else "",
                    markersize=4,
                    label=None if name in named else name,
                )
                named.add(name)
    for place in range(1, len(runs)):
        ax.axvline(place, color="gray", linewidth=0.6, alpha=0.5)
    ax.axhline(1, color="gray", linewidth=0.8)
    ax.set_xlim(0, len(runs))
    names = [f"{run.stage} ({len(run.entries)})" for run in runs]
    ax.set_xticks(
        np.arange(len(runs)) + 0.5, names, rotation=30, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(axis="x", length=0, labelsize="small")
    style.finish(ax, "stages, and the number of their steps", "relative to the first")
    ax.grid(visible=False, axis="x")
    if named:
        ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return ax


class Run(NamedTuple):
    """Entries of one stage that follow each other."""

    stage: str
    entries: list[Mapping[str, Any]]

    @property
    def parts(self) -> list[slice]:
        """Where iterations go on from each other: a second start begins anew."""
        counts = [int(entry.get("iteration", 0)) for entry in self.entries]
        begins = [0, *(i for i in range(1, len(counts)) if counts[i] <= counts[i - 1])]
        return [slice(a, b) for a, b in zip(begins, [*begins[1:], len(counts)], strict=True)]

    def values(self) -> dict[str, Any]:
        """Return what was measured at every entry, by name: (n,) float64."""
        names = dict.fromkeys(
            name
            for entry in self.entries
            for name, value in entry.items()
            if isinstance(value, float)
        )
        return {
            name: np.array([float(entry.get(name, np.nan)) for entry in self.entries])
            for name in names
        }

    def relative(self) -> dict[str, Any]:
        """Return each measure as a part of its first value, or of what there was without."""
        values = self.values()
        plain = values.pop("plain", None)
        found = {}
        for name, numbers in values.items():
            first = numbers[:1] if plain is None else plain
            if (first != 0).all():
                found[name] = numbers / first
        return found


def runs_of(source: Any) -> list[Run]:
    """Return the stages of a history, or of an index's, in order.

    Raises InputError where there is none, KindError for anything else.
    """
    history = getattr(source, "history", source)
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise KindError(f"expected an index, or its history, got {type(source).__name__}")
    wrong = [entry for entry in history if not isinstance(entry, Mapping) or "stage" not in entry]
    if wrong:
        raise KindError(f"expected entries with a stage, got {wrong[0]!r:.60}")
    if not history:
        raise InputError("expected a history of a training, got an empty one")
    groups = groupby(history, key=lambda entry: str(entry["stage"]))
    return [Run(stage, list(entries)) for stage, entries in groups]


def codebook_usage(source: Any, *, ax: Any = None) -> Any:
    """Draw how many codewords of every codebook occur, and how many evenly used ones they equal.

    The second number is the perplexity of the words, see `Diagnosis`: the nearer to the number of
    codewords, the more a code tells.

    Parameters
    ----------
    source : Diagnosis, or an index
        What `deepq.diagnose` returns; of an index its stored codes are looked at.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError, StateError
        As `diagnose` does.
    ImportError
        If matplotlib is missing.
    """
    found = source if isinstance(source, BucketUse | Diagnosis) else diagnose(source)
    if not isinstance(found, Diagnosis):
        raise KindError(
            f"expected an index of codes, or its diagnosis, got {type(source).__name__}"
        )
    ax = style.axes_of(ax)
    at = np.arange(len(found.usage))
    colour = style.look(0).colour
    ax.bar(at, found.usage * found.ksub, 0.8, color=colour, alpha=_PALE, label="that occur")
    ax.bar(at, found.perplexity, 0.45, color=colour, label="used evenly (perplexity)")
    ax.axhline(found.ksub, color="gray", linewidth=0.8)
    ax.set_ylim(0, found.ksub * 1.2)
    return _by_codebook(ax, "codewords")


def bucket_usage(source: Any, *, ax: Any = None) -> Any:
    """Draw how many vectors each bucket of a hash table holds, the fullest first.

    Parameters
    ----------
    source : BucketUse, or HashTableIndex
        What `deepq.diagnose` returns of a hash table; of an index its stored vectors count.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError, StateError
        If there are no vectors, or it is no hash table.
    ImportError
        If matplotlib is missing.
    """
    found = source if isinstance(source, BucketUse | Diagnosis) else diagnose(source)
    if not isinstance(found, BucketUse):
        raise KindError(f"expected a hash table, or its use, got {type(source).__name__}")
    ax = style.axes_of(ax)
    first, second = style.look(0), style.look(1)
    sizes = np.sort(found.sizes)[::-1]
    ax.stairs(sizes, np.arange(len(sizes) + 1), color=first.colour, alpha=_PALE, fill=True)
    ax.stairs(sizes, np.arange(len(sizes) + 1), color=first.colour, label="vectors in a bucket")
    ax.axhline(
        sizes.mean(), color=second.colour, linestyle=second.dashes, label="if all were equal"
    )
    ax.set_xlim(0, len(sizes))
    ax.set_ylim(0, max(1, sizes.max()) * 1.1)
    return style.finish(ax, "buckets, the fullest first", "vectors")


def distortion(source: Any, *, ax: Any = None) -> Any:
    """Draw what codes lose of every sub-space, beside what there is of it.

    Parameters
    ----------
    source : Diagnosis
        What ``deepq.diagnose(index, x)`` returns for vectors `x`; stored codes alone do not tell.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, KindError
        If it is no diagnosis of vectors.
    ImportError
        If matplotlib is missing.
    """
    if not isinstance(source, Diagnosis):
        raise KindError(f"expected a Diagnosis, got {type(source).__name__}")
    if source.distortion is None or source.variance is None:
        raise InputError("expected a diagnosis of vectors, diagnose(index, x), got one of codes")
    ax = style.axes_of(ax)
    at = np.arange(len(source.distortion))
    colour = style.look(1).colour
    ax.bar(at, source.variance, 0.8, color=colour, alpha=_PALE, label="variance")
    ax.bar(at, source.distortion, 0.45, color=colour, label="distortion")
    ax.set_ylim(0, max(1e-12, float(max(source.variance.max(), source.distortion.max()))) * 1.25)
    return _by_codebook(ax, "mean squared distance")


def _by_codebook(ax: Any, y: str) -> Any:
    ticker = style.needed("matplotlib.ticker")
    ax.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    ax.set_xlim(-0.6, max(len(bar) for bar in ax.containers) - 0.4)
    style.finish(ax, "codebook (sub-space)", y, names=False)
    ax.grid(visible=False, axis="x")
    ax.legend(frameon=False, ncols=2, loc="upper left", fontsize="small")
    return ax


def _one_stage(runs: list[Run], ax: Any) -> Any:
    names = list(dict.fromkeys(name for run in runs for name in run.values()))
    measure = next((name for name in (*_RISING, "error", "loss") if name in names), None)
    if measure is None:
        raise InputError(f"expected a measure in the stage {runs[0].stage!r}, got none")
    starts = [(run, part) for run in runs for part in run.parts]
    for number, (run, part) in enumerate(starts):
        colour, mark, dashes = style.look(number)
        steps = [entry.get("iteration", 0) for entry in run.entries[part]]
        name = f"start {number + 1}" if len(starts) > 1 else None
        how = {"marker": mark, "markersize": 4} if len(steps) < 30 else {}
        values = run.values()[measure][part]
        ax.plot(steps, values, color=colour, linestyle=dashes, label=name, **how)
    ticker = style.needed("matplotlib.ticker")
    ax.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
    return style.finish(ax, f"iteration of the stage {runs[0].stage!r}", measure)
