"""A query and what it has found, as texts or as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_array, as_labels
from deepq._common.checks import as_real, as_size, as_tuple
from deepq._common.errors import DimensionError, InputError, KindError
from deepq.plots import style

_LETTERS = 78  # of a text
_LONG_WORD = 20  # letters, from which on a word may be cut
_CHANNELS = (1, 3)


def neighbours(
    query: Any,
    results: Any,
    *,
    right: Any = None,
    labels: tuple[Any, Any] | None = None,
    scores: Any = None,
    top: int = 10,
    ax: Any = None,
) -> Any:
    """Draw a query and the first of its results.

    What is right has a check mark and, of pictures, a thick whole frame; what is wrong a cross and
    a thin broken one: colour is not needed to read it.

    Parameters
    ----------
    query : str, or an image
        An image is (C, H, W), (H, W, C) or (H, W), uint8 or float from 0 to 1, with 1 or 3
        channels.
    results : sequence of str, or of images
        What was found, in ranked order: ``[base_texts[i] for i in I[q]]``.
    right : (n,) array of bool, optional
        Which results are right.
    labels : pair, optional
        In its place, the label of the query and the labels of the results, classes or multi-hot
        rows: right is what shares a class.
    scores : (n,) array of numbers, optional
        Distances or inner products, written beside each result.
    top : int
        How many results are drawn at most.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError, DimensionError, KindError
        If there are no results, they are neither texts nor images, or `right`, `labels` or `scores`
        do not fit them.
    ImportError
        If matplotlib is missing.
    """
    most = as_size(top, "top")
    shown = as_tuple(results, "results")[:most]
    if not shown:
        raise InputError("expected at least one result, got none")
    count = len(as_tuple(results, "results"))
    marks = _right(right, labels, count)[:most]
    beside = [""] * len(shown)
    if scores is not None:
        numbers = as_tuple(scores, "scores")
        if len(numbers) != count:
            raise DimensionError(f"expected scores of {count} results, got {len(numbers)}")
        beside = [f"{as_real(number, 'scores'):.4g}" for number in numbers[:most]]
    if isinstance(query, str):
        wrong = [one for one in shown if not isinstance(one, str)]
        if wrong:
            raise KindError(f"expected results of texts, got {type(wrong[0]).__name__}")
        return _texts(query, shown, marks, beside, style.axes_of(ax))
    images = [as_image(one, "an image") for one in (query, *shown)]
    return _images(images, marks, beside, style.axes_of(ax))


def share_a_class(label: Any, others: Any) -> NDArray[np.bool_]:
    """Return which of labels (n,) or (n, c) have a class in common with one label."""
    theirs = as_labels(others, "labels")
    own = as_array(label, "labels")
    if own.shape != theirs.shape[1:]:
        raise DimensionError(
            f"expected labels of one form, got a query's of shape {own.shape} and results' of "
            f"shape {theirs.shape}"
        )
    if theirs.ndim == 1:
        return np.asarray(theirs == own[()], bool)
    return np.asarray((theirs & (own > 0)).any(axis=1))


def cut(text: str, letters: int) -> str:
    """Return the beginning of a text in one line, up to a word where one ends soon."""
    line = " ".join(text.split())
    if len(line) <= letters:
        return line
    line = line[: letters - 4]
    words, space, last = line.rpartition(" ")
    return f"{words if space and len(last) < _LONG_WORD else line} ..."


def as_image(value: Any, name: str) -> NDArray[Any]:
    """Return an image as (H, W) or (H, W, 3) uint8.

    Raises DimensionError for another shape, KindError or InputError for other numbers.
    """
    given = as_array(value, name)
    if given.ndim == 3 and given.shape[0] in _CHANNELS:
        given = given.transpose(1, 2, 0)
    if given.ndim == 3 and given.shape[2] == 1:
        given = given[:, :, 0]
    if given.ndim != 2 and not (given.ndim == 3 and given.shape[2] == 3):
        raise DimensionError(f"expected {name} (C, H, W), (H, W, C) or (H, W), got {given.shape}")
    if not given.size:
        raise DimensionError(f"expected pixels in {name}, got shape {given.shape}")
    if given.dtype == np.uint8:
        return given
    if given.dtype.kind != "f":
        raise KindError(f"expected {name} of uint8 or floats, got dtype {given.dtype}")
    if not (given.min() >= 0 and given.max() <= 1):
        raise InputError(f"expected {name} of floats from 0 to 1, got others")
    return np.asarray(np.round(given * 255).astype(np.uint8))


def _right(right: Any, labels: Any, count: int) -> list[bool | None]:
    """Whether each result is right; None where nobody knows."""
    if right is not None and labels is not None:
        raise InputError("expected right or labels, got both")
    if labels is not None:
        if not isinstance(labels, Sequence) or len(labels) != 2:
            raise KindError("expected labels to be that of the query and those of the results")
        known = share_a_class(*labels)
    elif right is not None:
        known = as_array(right, "right")
        if known.dtype.kind != "b":
            raise KindError(f"expected right to be bools, got dtype {known.dtype}")
    else:
        return [None] * count
    if known.shape != (count,):
        raise DimensionError(f"expected marks of {count} results, got shape {known.shape}")
    return [bool(one) for one in known]


def _texts(
    query: str, shown: tuple[Any, ...], marks: list[bool | None], beside: list[str], ax: Any
) -> Any:
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(len(shown) + 0.6, -1.2))
    plain = {"va": "center", "parse_math": False}  # a text may have dollars in it
    ax.text(0, -0.6, cut(query, _LETTERS), weight="bold", **plain)
    for row, (text, mark, score) in enumerate(zip(shown, marks, beside, strict=True)):
        y = row + 0.5
        ax.text(0.045, y, f"{row + 1}", ha="right", alpha=0.7, **plain)
        if mark is not None:
            colour = _colour(mark)
            ax.text(0.075, y, _sign(mark), ha="center", color=colour, weight="bold", **plain)
        ax.text(0.105, y, cut(text, _LETTERS), **plain)
        ax.text(1, y, score, ha="right", size="small", alpha=0.7, **plain)
    return ax


def _images(
    images: list[NDArray[Any]], marks: list[bool | None], beside: list[str], ax: Any
) -> Any:
    patches = style.needed("matplotlib.patches")
    ax.set_axis_off()
    known: list[bool | None] = [None, *marks]
    columns = -(-len(images) // 2) if len(images) > 6 else len(images)
    for number, (image, mark) in enumerate(zip(images, known, strict=True)):
        x, y = (number % columns) * 1.12, (number // columns) * 1.35
        height, width = image.shape[:2]
        w, h = width / max(height, width), height / max(height, width)
        box = (x + (1 - w) / 2, x + (1 + w) / 2, y + (1 + h) / 2, y + (1 - h) / 2)
        ax.imshow(image, extent=box, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        said = "query" if not number else " ".join([str(number), beside[number - 1]]).strip()
        if mark is not None:
            said = f"{_sign(mark)} {said}"
            how = {"linewidth": 3} if mark else {"linewidth": 1.2, "linestyle": "--"}
            corner = (x - 0.02, y - 0.02)
            ax.add_patch(
                patches.Rectangle(corner, 1.04, 1.04, fill=False, edgecolor=_colour(mark), **how)
            )
        ax.text(x + 0.5, y + 1.16, said, ha="center", va="center", size="small")
    rows = -(-len(images) // columns)
    ax.set(xlim=(-0.06, columns * 1.12 - 0.06), ylim=(rows * 1.35 - 0.05, -0.06), aspect="equal")
    return ax


def _colour(mark: bool) -> str:
    return style.COLOURS[2] if mark else style.COLOURS[1]


def _sign(mark: bool) -> str:
    return "\N{CHECK MARK}" if mark else "\N{BALLOT X}"
