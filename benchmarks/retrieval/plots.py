"""Pictures of retrieval by class, from committed results; and of what queries find.

    python -m benchmarks.retrieval.plots --results benchmarks/results/retrieval.jsonl --output docs
    python -m benchmarks.retrieval.plots --data cifar-10-python.tar.gz --index trunk.dpq

The first draws precision against recall, and precision at top R, of every method at each number of
bits, means over seeds. The second draws one query of each class and the ten images an index finds
first in the training part, a frame around those of the same class.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import deepq
from benchmarks.common.results import read
from benchmarks.retrieval.axes import LEVELS
from benchmarks.retrieval.images import load
from deepq.datasets import ImageSet

_FOUND = 10


def curves(results: Path, output: Path) -> None:
    """Draw both curves for every protocol and number of bits."""
    rows = read(results, "retrieval")
    for protocol, bits in sorted({(row["protocol"], row["bits"]) for row in rows}):
        mine = [row for row in rows if (row["protocol"], row["bits"]) == (protocol, bits)]
        _draw(mine, bits, output / f"retrieval_{protocol}_{bits}.png")


def _draw(rows: list[dict[str, Any]], bits: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        left.plot(LEVELS, np.mean([row["precision_at_recall"] for row in mine], axis=0))
        tops = sorted(map(int, mine[0]["precision_at"]))
        means = [np.mean([row["precision_at"][str(top)] for row in mine]) for top in tops]
        right.plot(tops, means, marker="o", markersize=3, label=method)
    left.set(xlabel="recall", ylabel="precision", title=f"{bits} bits", ylim=(0, 1))
    right.set(xlabel="R", ylabel="precision at top R", xscale="log", ylim=(0, 1))
    right.legend(frameon=False)
    figure.savefig(path, dpi=110)


def pictures(images: ImageSet, index: Any, path: Path) -> None:
    """Draw a query of each class, and what it finds among the training part."""
    from matplotlib.figure import Figure

    index.reset()
    index.add(images.train)
    classes, first = np.unique(images.test_labels, return_index=True)
    I = index.search(images.test[first], _FOUND)[1]
    figure = Figure(figsize=(_FOUND + 1.4, len(classes)), layout="constrained")
    axes = figure.subplots(len(classes), _FOUND + 1, squeeze=False)
    for row, (query, label, found) in enumerate(zip(first, classes, I, strict=True)):
        shown = [images.test[query], *images.train[found]]
        same = [True, *(images.train_labels[found] == label)]
        for column, (image, right) in enumerate(zip(shown, same, strict=True)):
            axis = axes[row, column]
            axis.imshow(image.transpose(1, 2, 0))
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set(color="tab:green" if right else "tab:red", linewidth=2.5)
        axes[row, 0].set_ylabel(images.label_names[label] if images.label_names else str(label))
    figure.savefig(path, dpi=80)


def main() -> None:
    """Draw curves, or what queries find."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--results", type=Path)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--index", type=Path)
    arguments.add_argument("--output", type=Path, default=Path())
    options = arguments.parse_args()
    if options.results is not None:
        curves(options.results, options.output)
    if options.index is not None:
        pictures(load(options.data), deepq.read_index(options.index), options.output / "found.png")


if __name__ == "__main__":
    main()
