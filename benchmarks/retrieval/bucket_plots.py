"""Draw precision against the speed-up factor of hash tables.

    python -m benchmarks.retrieval.bucket_plots --output docs

Reads what `bench_hierarchical` recorded; writes DATA_buckets.png for each data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.common.results import FOLDER, Row, newest, read

_RANKS = ("P@1", "P@4", "P@16")
_STYLES = {
    "1 x 1,024 words": ("#a63603", "o", "-"),
    "2 x 32 words": ("#e6550d", "D", "-"),
    "2 x 32 words, N-pair": ("#fd8d3c", "D", "--"),
    "2 x 32 words, N-pair by batch": ("#fdae6b", "D", ":"),
    "1 x 64 words": ("#a63603", "o", "-"),
    "2 x 8 words": ("#e6550d", "D", "-"),
    "k-means, 16 cells": ("#9ecae1", "s", "--"),
    "k-means, 64 cells": ("#3182bd", "s", "-"),
    "k-means, 256 cells": ("#9ecae1", "s", "--"),
    "k-means, 1,024 cells": ("#3182bd", "s", "-"),
    "k-means, 2,048 cells": ("#08519c", "s", ":"),
    "PQ codes, 2 x 32 words": ("#756bb1", "^", "-"),
    "LSH, 10 bits": ("#969696", "v", "--"),
    "PCA signs, 10 bits": ("#525252", "v", "-"),
    "largest number": ("#bdbdbd", "x", ":"),
}


def draw(rows: list[Row], data: str) -> Figure:
    """Draw one data set: a panel for each rank, a line for each method, means over seeds."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, rank in zip(figure.subplots(1, len(_RANKS)), _RANKS, strict=True):
        for method, (colour, marker, dashes) in _STYLES.items():
            points: dict[float, list[Row]] = {}
            for row in rows:
                if row["method"] == method:
                    points.setdefault(row["wanted"], []).append(row)
            if points:
                x = [mean(row["speed_up"] for row in found) for found in points.values()]
                y = [mean(row[rank] for row in found) for found in points.values()]
                axes.plot(x, y, dashes, color=colour, marker=marker, label=method, markersize=4)
        whole = [row[rank] for row in rows if row["method"] == "exhaustive"]
        if whole:
            axes.axhline(mean(whole), color="black", linewidth=1, label="all rows looked at")
        axes.set(xscale="log", xlabel="speed-up factor", ylabel=f"precision@{rank[2:]}")
        ticks = sorted({int(row["wanted"]) for row in rows if row["wanted"] > 1})
        axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3)
    figure.suptitle(data)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def main() -> None:
    """Draw every data set that there are results of."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--output", type=Path, default=Path("docs"), help="folder")
    output = arguments.parse_args().output
    found = read(FOLDER / "hierarchical.jsonl")
    rows = [row for row in found if row["case"] == "precision" and row["among"] == "train"]
    rows = newest(rows, "data", "method", "seed", "wanted")
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        draw(own, data).savefig(output / f"{data}_buckets.png", dpi=110)


if __name__ == "__main__":
    main()
