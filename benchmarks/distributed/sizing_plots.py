"""Draw tail latency against the number of shards.

    python -m benchmarks.distributed.sizing_plots --output docs

Reads what `bench_sizing` recorded; writes sizing_tail.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks.common.results import FOLDER, Row, newest, read

_SLOW = 0.001
_PANELS = (("flat", 0.0), ("flat", 0.5), ("flat", 0.7), ("cells", 0.5))
_STYLES = {1: ("#a63603", "o"), 2: ("#3182bd", "s"), 3: ("#756bb1", "^")}


def draw(rows: list[Row]) -> Figure:
    """Draw a panel for each kind of shard and load, a line for each number of replicas."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (kind, load) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        own = [row for row in rows if (row["kind"], row["load"]) == (kind, load)]
        for replicas, (colour, marker) in _STYLES.items():
            points = sorted(
                (row["shards"], row["p99"]) for row in own if row["replicas"] == replicas
            )
            x, y = [shards for shards, _ in points], [1e3 * seconds for _, seconds in points]
            label = f"{replicas} replica{'s' * (replicas > 1)}"
            axes.plot(x, y, color=colour, marker=marker, markersize=4, label=label)
        caller = sorted({(row["shards"], row["caller_s"]) for row in own})
        axes.plot(
            [shards for shards, _ in caller],
            [1e3 * seconds for _, seconds in caller],
            "--",
            color="#969696",
            label="of this: caller and network",
        )
        axes.set(xscale="log", yscale="log", xlabel="shards", title=f"{kind}, load {load:.0%}")
        ticks = [shards for shards, _ in caller]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("p99 of a query, ms")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def main() -> None:
    """Draw what there are results of."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--output", type=Path, default=Path("docs"), help="folder")
    output = arguments.parse_args().output
    found = [row for row in read(FOLDER / "sizing.jsonl") if row["case"] == "simulation"]
    rows = newest(found, "kind", "shards", "replicas", "load", "slow_share")
    rows = [row for row in rows if row["slow_share"] == _SLOW]
    draw(rows).savefig(output / "sizing_tail.png", dpi=110)


if __name__ == "__main__":
    main()
