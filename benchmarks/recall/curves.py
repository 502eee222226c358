"""Draw recall against bytes and against speed, of all methods in one picture each.

    python -m benchmarks.recall.curves --output docs

Reads what `bench_recall.py` and `bench_cells_recall.py` recorded, the newest result of every data
set, method and size, and writes DATA_recall_bytes.png, DATA_recall_speed.png and, of codes in
cells, DATA_cells_BYTES.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.common import results
from benchmarks.common.results import Row

RECALL = "10@10"
TICKS = [8, 16, 32, 64, 128, 256]


class Style(NamedTuple):
    """How the line of a method looks."""

    colour: str
    marker: str
    dashes: str = "-"


# A colour for each kind of code; ours stand out.
STYLES = {
    "deepq": Style("#e6550d", "o"),
    "deepq, re-ranked": Style("#a63603", "D"),
    "deepq, fast, re-ranked": Style("#d94801", "D", "--"),
    "deepq, best, re-ranked": Style("#7f2704", "D", ":"),
    "faiss PQ": Style("#7f7f7f", "o"),
    "faiss OPQ": Style("#3182bd", "s", "--"),
    "faiss OPQ, identity": Style("#08519c", "s"),
    "faiss FastScan": Style("#74c476", "^"),
    "faiss OPQ + FastScan": Style("#238b45", "^"),
    "ScaNN": Style("#00441b", "v", "--"),
    "RQ, re-ranked": Style("#3f007d", "D"),
    "faiss RQ": Style("#6a51a3", "P"),
    "faiss PRQ": Style("#9e9ac8", "P", "--"),
    "faiss LSQ": Style("#c51b8a", "X"),
    "faiss PLSQ": Style("#f768a1", "X", "--"),
    "faiss RaBitQ": Style("#8c6d31", "<"),
    "faiss SQ": Style("#bd9e39", "h"),
    "turbovec": Style("#393b79", ">", ":"),
    "IVFPQ": Style("#7f7f7f", "o"),
    "OPQ, IVFPQ": Style("#3182bd", "s", "--"),
    "OPQ from the identity, IVFPQ": Style("#08519c", "s"),
}
_OTHER = Style("black", ".", ":")


def lines_of(rows: list[Row], size: str = "bytes") -> dict[str, list[Row]]:
    """Return the results of every method by size, in the order of `STYLES`.

    What has one byte more is one method with what has the bytes asked for.
    """
    names = [row["method"].removesuffix(" +1") for row in rows]
    lines = {}
    for name in dict.fromkeys([*STYLES, *names]):
        mine = [row for row, its in zip(rows, names, strict=True) if its == name]
        if mine:
            lines[name] = sorted(mine, key=lambda row: row[size])
    return lines


def queries_per_second(row: Row) -> float:
    """Return the speed of a search on one thread."""
    return 1e6 / row["search_us"]


def picture(
    rows: list[Row],
    x: Callable[[Row], float],
    finish: Callable[[Axes, list[Row]], None],
    size: str = "bytes",
) -> Figure:
    """Draw recall against x, a line for each method, from the least size to the largest."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    for name, line in lines_of(rows, size).items():
        style, ours = STYLES.get(name, _OTHER), name.startswith("deepq")
        axes.plot(
            [x(row) for row in line],
            [row[RECALL] for row in line],
            style.dashes,
            marker=style.marker,
            color=style.colour,
            linewidth=2.4 if ours else 1.3,
            markersize=6.5 if ours else 5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            zorder=3 if ours else 2,
            label=name,
        )
    axes.set_xscale("log")
    axes.set_ylabel("10-recall@10")
    axes.grid(which="major", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    finish(axes, rows)
    figure.legend(loc="outside right center", frameon=False, fontsize=9, handlelength=2.6)
    return figure


def finish_bytes(axes: Axes, rows: list[Row]) -> None:
    """Label the picture of sizes."""
    axes.xaxis.set_minor_locator(NullLocator())
    largest = max(row["bytes"] for row in rows)
    axes.set_xticks([tick for tick in TICKS if tick <= largest])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:.0f}"))
    axes.set_xlabel("bytes a vector")
    axes.set_title(f"{title(rows)}: recall against bytes", loc="left", fontsize=11)


def finish_speed(axes: Axes, rows: list[Row]) -> None:
    """Label the picture of speeds, with the bytes beside every point."""
    _tell_sizes(axes, rows, "bytes")
    axes.set_xlabel("queries a second, one thread (beside each point: bytes a vector)")
    axes.set_title(f"{title(rows)}: recall against speed", loc="left", fontsize=11)


def finish_cells(axes: Axes, rows: list[Row]) -> None:
    """Label the picture of cells, with the number of those looked into beside every point."""
    _tell_sizes(axes, rows, "nprobe")
    axes.set_xlabel("queries a second, one thread (beside each point: cells looked into)")
    about = f"{rows[0]['data']}, {rows[0]['bytes']} bytes, {rows[0]['nlist']} cells"
    axes.set_title(f"{about}: recall against speed", loc="left", fontsize=11)


def _tell_sizes(axes: Axes, rows: list[Row], size: str) -> None:
    for row in rows:
        axes.annotate(
            str(row[size]),
            (queries_per_second(row), row[RECALL]),
            xytext=(4, 2.5),
            textcoords="offset points",
            fontsize=6,
            color=STYLES.get(row["method"].removesuffix(" +1"), _OTHER).colour,
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:,.0f}"))


def title(rows: list[Row]) -> str:
    """Name the data set and its size."""
    return f"{rows[0]['data']}, {rows[0]['base_rows']:,} vectors"


def main() -> None:
    """Draw both pictures of every data set."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[results.FOLDER / "recall.jsonl", results.FOLDER / "cells_recall.jsonl"],
        help="JSON lines",
    )
    arguments.add_argument("--output", type=Path, default=Path(), help="folder of the pictures")
    arguments.add_argument("--format", default="png", choices=["png", "svg"])
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures(options.results).items():
        path = options.output / f"{name}.{options.format}"
        figure.savefig(path, dpi=150)
        print(path)


def pictures(paths: list[Path]) -> dict[str, Figure]:
    """Draw all that files of results have, by the names of pictures."""
    rows = [row for path in paths for row in results.read(path, "recall")]
    rows = results.newest(results.of_one_seed(rows), "data", "method", "bytes")
    drawn = {}
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        timed = [row for row in mine if "search_us" in row]
        drawn[f"{data}_recall_bytes"] = picture(mine, lambda row: row["bytes"], finish_bytes)
        if timed:
            drawn[f"{data}_recall_speed"] = picture(timed, queries_per_second, finish_speed)
    rows = [row for path in paths for row in results.read(path, "cells_recall")]
    rows = results.newest(rows, "data", "method", "bytes", "nprobe")
    for data, size in dict.fromkeys((row["data"], row["bytes"]) for row in rows):
        mine = [row for row in rows if (row["data"], row["bytes"]) == (data, size)]
        figure = picture(mine, queries_per_second, finish_cells, "nprobe")
        drawn[f"{data}_cells_{size}"] = figure
    return drawn


if __name__ == "__main__":
    main()
