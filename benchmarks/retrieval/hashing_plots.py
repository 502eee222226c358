"""Pictures of deep hashing, from committed results.

    python -m benchmarks.retrieval.hashing_plots --output docs

hashing_time.png     mAP by CPU seconds: pairs, triplets and inferred codes (`bench_hashing`)
hashing_grid.png     mAP of DSH by margin and weight of the pull
hashing_outputs.png  outputs of DSH's network by weight of the pull to +-1, and with a sigmoid
hashing_bits.png     mAP by bits of divided features and of one layer (`bench_retrieval`)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import results
from benchmarks.retrieval.axes import EDGES, MARGINS, PULLS, TIMED

Rows = list[dict[str, Any]]


def draw_time(rows: Rows, path: Path) -> None:
    """Draw mAP against the CPU seconds of whole trainings, from the trunk on: one figure a rate."""
    figure, axes = _figure(len({row["rate"] for row in rows}))
    for axis, rate in zip(axes, sorted({row["rate"] for row in rows}), strict=True):
        for method in TIMED:
            mine = [row for row in rows if (row["method"], row["rate"]) == (method, rate)]
            points = sorted((row["train_cpu_s"], row["mAP"]) for row in mine)
            axis.plot(*np.transpose(points), marker="o", markersize=4, label=method)
        axis.set(xlabel="CPU seconds", ylabel="mAP", title=f"rate {rate:g}")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_grid(rows: Rows, path: Path) -> None:
    """Draw mAP by margin and pull."""
    figure, (axis,) = _figure()
    found = {(row["pull"], row["margin"]): row["mAP"] for row in rows}
    values = np.array([[found.get((pull, margin), np.nan) for margin in MARGINS] for pull in PULLS])
    image = axis.imshow(values, aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(values):
        axis.text(j, i, f"{value:.3f}", ha="center", va="center", color="white")
    axis.set_xticks(range(len(MARGINS)), [f"{margin:g}" for margin in MARGINS])
    axis.set_yticks(range(len(PULLS)), [f"{pull:g}" for pull in PULLS])
    axis.set(xlabel="margin / bits", ylabel="weight of the pull")
    figure.colorbar(image, label="mAP")
    figure.savefig(path, dpi=110)


def draw_outputs(rows: Rows, path: Path) -> None:
    """Draw the distributions of outputs."""
    figure, (axis,) = _figure()
    for row in rows:
        counts = np.array(row["histogram"])
        label = f"pull {row['pull']:g}" if "pull" in row else "sigmoid"
        axis.stairs(counts / counts.sum(), EDGES, label=label)
    axis.set(xlabel="output (ends: and beyond)", ylabel="part")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_bits(rows: Rows, path: Path) -> None:
    """Draw mAP by bits of DNNH's two encoders, a mean of the seeds."""
    figure, (axis,) = _figure()
    for method in ("DNNH", "DNNH, one layer"):
        mine = [row for row in rows if row["method"] == method and row["protocol"] == "5000"]
        bits = sorted({row["bits"] for row in mine})
        means = [
            np.mean([row["mAP_without_training"] for row in mine if row["bits"] == b]) for b in bits
        ]
        axis.plot(bits, means, marker="o", markersize=4, label=method)
    axis.set(xlabel="bits", ylabel="mAP, 54,000")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _figure(parts: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * parts, 3.6), layout="constrained")
    return figure, figure.subplots(1, parts, sharey=True, squeeze=False)[0]


def main() -> None:
    """Draw what there are results of."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--output", type=Path, default=Path())
    folder = arguments.parse_args().output
    hashing = results.read(results.FOLDER / "hashing.jsonl")
    retrieval = results.read(results.FOLDER / "retrieval.jsonl", "retrieval")
    pictures = {
        "time": (draw_time, [row for row in hashing if row.get("case") == "time"]),
        "grid": (draw_grid, [row for row in hashing if row.get("case") == "grid"]),
        "outputs": (draw_outputs, [row for row in hashing if row.get("case") == "outputs"]),
        "bits": (draw_bits, [row for row in retrieval if row["method"].startswith("DNNH")]),
    }
    for name, (draw, rows) in pictures.items():
        if rows:
            draw(rows, folder / f"hashing_{name}.png")


if __name__ == "__main__":
    main()
