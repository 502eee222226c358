"""Tables of docs/hierarchical.md: precision at equal candidates, and time."""

from __future__ import annotations

from statistics import mean, stdev

from benchmarks.common.results import Row

KEY = "case data method seed among wanted rows nq"
_RANKS = ("P@1", "P@4", "P@16")
_SHOWN = {"text_wordnet": (1.0, 50.0, 200.0), "cifar10_jpeg": (1.0, 5.0, 10.0)}
_NEAR = 1.15  # a method reaches a speed-up factor if it comes as near as this


def of_texts(results: list[Row]) -> list[Row]:
    """Lay out precision of the texts."""
    return precision(results, "text_wordnet")


def of_images(results: list[Row]) -> list[Row]:
    """Lay out precision of the images."""
    return precision(results, "cifar10_jpeg")


def precision(results: list[Row], of: str) -> list[Row]:
    """Lay out precision by method and speed-up factor, means over seeds with their spread."""
    shown = _SHOWN[of]
    groups: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in results:
        if row["case"] == "precision" and row["data"] == of and row["wanted"] in shown:
            key = row["data"], row["among"], row["method"], row["wanted"]
            groups.setdefault(key, []).append(row)
    rows: dict[tuple[str, str, str], Row] = {}
    for (data, among, method, wanted), found in groups.items():
        stored = "training rows" if among == "train" else "each other"
        names = {"data": data, "queries among": stored, "buckets": method}
        line = rows.setdefault((data, among, method), names)
        for rank in _RANKS:
            column = f"{rank}, all rows" if wanted == 1 else f"{rank}, {wanted:.0f}x"
            line[column] = _figure(found, rank, wanted)
    columns = ["data", "queries among", "buckets"]
    columns += [f"{rank}, {wanted:.0f}x" for wanted in shown[1:] for rank in _RANKS]
    lines = sorted(rows.values(), key=lambda line: str(line["queries among"]), reverse=True)
    laid = [{name: line.get(name, _exhaustive(line, name)) for name in columns} for line in lines]
    return [line for line in laid if any(line[name] != "-" for name in columns[3:])]


def _figure(found: list[Row], rank: str, wanted: float) -> str:
    if mean(row["speed_up"] for row in found) * _NEAR < wanted:
        return "-"
    values = [row[rank] for row in found]
    spread = f" ±{stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def _exhaustive(line: Row, name: str) -> str:
    """Of a search of all rows there is one figure, whatever the speed-up factor."""
    return str(line.get(f"{name.partition(',')[0]}, all rows", "-"))


def timed(results: list[Row]) -> list[Row]:
    """Choose the wall time of queries."""
    return [row for row in results if row["case"] == "time"]


def flows(results: list[Row]) -> list[Row]:
    """Choose the time of flows."""
    return [row for row in results if row["case"] == "flow"]


def trainings(results: list[Row]) -> list[Row]:
    """Lay out what the trainings took."""
    seen: dict[tuple[str, str, int], Row] = {}
    for row in results:
        if "with_metric" in row:
            seen.setdefault((row["data"], row["method"], row["seed"]), row)
    return [
        {
            "data": row["data"],
            "buckets": row["method"],
            "seed": row["seed"],
            "CPU seconds": f"{row['train_cpu_s']:.0f}",
            "with the metric network": "yes" if row["with_metric"] else "no",
            "NMI of buckets and classes": f"{row['NMI']:.3f}",
        }
        for row in seen.values()
    ]
