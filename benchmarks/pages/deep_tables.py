"""Tables of docs/deep.md and docs/hashing.md: retrieval with labels, beside what is published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import mean, stdev
from typing import Any

from benchmarks.common.results import Row

BITS = (12, 24, 32, 48)
# mAP on CIFAR-10 at 12, 24, 32 and 48 bits, of networks pre-trained on ImageNet but for DNNH's:
# Cao et al., "Deep quantization network for efficient image retrieval", AAAI 2016, table 1.
DQNS = {
    "DQN": (0.554, 0.558, 0.564, 0.580),
    "DQN_2+": (0.528, 0.534, 0.538, 0.541),
    "DQN_ip": (0.506, 0.513, 0.519, 0.529),
}
HASHES = {
    "DNNH": (0.552, 0.566, 0.558, 0.581),
    "CNNH": (0.484, 0.476, 0.472, 0.489),
    "KSH-D": (0.502, 0.534, 0.558, 0.563),
    "KSH": (0.303, 0.337, 0.346, 0.356),
}
# All training images as the database: Liu et al., "Deep supervised hashing for fast image
# retrieval", CVPR 2016, table 3.
FULL_HASHES = {"DSH": (0.616, None, None, 0.676)}

Rows = list[Row]


def retrieval(results: Rows) -> Rows:
    """Lay out mAP of DQN's family by method and bits.

    `results` has the rows of trunks as well, here and in `hashing`.
    """
    rows = [
        row
        for kind in _kinds(results, lambda row: row["metric"] != "Hamming")
        for row in _measured(results, kind)
    ]
    return rows + _published({**DQNS, **HASHES})


def hashing(results: Rows) -> Rows:
    """Lay out mAP of hashing and, beside it, of DQN's family, on databases of learned classes."""
    rows = [
        {name: value for name, value in row.items() if name != "float"}
        for kind in _kinds(results, lambda row: row["backbone"] == "convnet")
        for row in _measured(results, kind, (("as trained", _NEW), ("as trained", _ALL)))
    ]
    return rows + _published(HASHES) + _published(FULL_HASHES, _ALL)


def methods(results: Rows) -> Rows:
    """Lay out mAP of everything that learns from labels, in few columns."""
    return [
        {
            "method": str(row["method"]).removesuffix(", convnet, measured"),
            "search": row["search"],
            **{f"mAP, {bits} bits": row[f"{bits} bits"] for bits in (12, 24, 48)},
        }
        for row in hashing(results)
        if row.get("database") == "54,000" and row["search"]
    ]


def _kinds(results: Rows, wanted: Callable[[dict[str, Any]], bool]) -> list[tuple[str, ...]]:
    """Protocols, backbones and methods that were measured, in order of appearance."""
    measured = [row for row in results if row["benchmark"] == "retrieval" and wanted(row)]
    return list(dict.fromkeys(map(_kind, measured)))


def _kind(row: dict[str, Any]) -> tuple[str, ...]:
    return row["protocol"], row["backbone"], row["method"]


def _measured(
    results: Rows, kind: tuple[str, ...], only: tuple[tuple[str, str], ...] | None = None
) -> Rows:
    """Lay out a method's mAP: for each search and database a row, means of the seeds."""
    protocol, backbone, method = kind
    mine = [row for row in results if row["benchmark"] == "retrieval" and _kind(row) == kind]
    trunk = [
        row["train_cpu_s"]
        for row in results
        if row["benchmark"] == "trunk" and (row["protocol"], row["backbone"]) == kind[:2]
    ]
    rows = []
    for (search, database), measure in _MEASURES[protocol].items():
        if (only and (search, database) not in only) or not all(measure in row for row in mine):
            continue
        if search == "L2" and method == "class codes":
            continue
        exact = measure == "mAP" and "float_mAP" in mine[0]
        rows.append(
            {
                "method": f"{method}, {backbone}, measured",
                "search": mine[0]["metric"] if search == "as trained" else search,
                "database": database,
                **{
                    f"{bits} bits": _spread([r[measure] for r in mine if r["bits"] == bits])
                    for bits in BITS
                },
                "float": _spread(_by_seed(mine, "float_mAP")) if exact else "",
                "seeds": len({row["seed"] for row in mine}),
                "trunk, CPU s": f"{mean(trunk):.0f}" if trunk else "",
                "each, CPU s": f"{mean(row['train_cpu_s'] for row in mine):.0f}",
            }
        )
    return rows


def _published(figures: Mapping[str, tuple[float | None, ...]], database: str = "") -> Rows:
    return [
        {
            "method": f"{method}, published",
            "database": database,
            **{f"{bits} bits": f"{v:.3f}" for bits, v in zip(BITS, values, strict=True) if v},
        }
        for method, values in figures.items()
    ]


def _by_seed(rows: Rows, measure: str) -> list[float]:
    """Mean of each seed."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [mean(row[measure] for row in rows if row["seed"] == seed) for seed in seeds]


_NEW, _ALL, _UNSEEN = "54,000", "50,000, all learned from", "15,000, of classes not learned"
# Which field is the mAP of a search and database.
_MEASURES = {
    "5000": {
        ("as trained", _NEW): "mAP_without_training",
        ("as trained", "59,000"): "mAP",
        ("L2", _NEW): "L2_mAP_without_training",
    },
    "full": {("as trained", _ALL): "mAP", ("L2", _ALL): "L2_mAP"},
    "unseen": {("as trained", _UNSEEN): "mAP", ("L2", _UNSEEN): "L2_mAP"},
}


def hashing_time(results: Rows) -> Rows:
    """Lay out mAP and CPU seconds of trainings by method and learning rate, and by epochs."""
    timed = [row for row in results if row["case"] == "time"]
    epochs = sorted({row["epochs"] for row in timed})
    rows = []
    for method, rate in dict.fromkeys((row["method"], row["rate"]) for row in timed):
        mine = [row for row in timed if (row["method"], row["rate"]) == (method, rate)]
        found = {row["epochs"]: f"{row['mAP']:.3f} in {row['train_cpu_s']:.0f} s" for row in mine}
        row = {"method": method, "learning rate": rate}
        rows.append({**row, **{_epochs(number): found.get(number, "") for number in epochs}})
    return rows


def _epochs(number: int) -> str:
    return f"{number} epoch" if number == 1 else f"{number} epochs"


def settings(results: Rows) -> Rows:
    """Lay out what settings gave on training images that were held out."""
    names = ("objective", "bits", "quantization_weight", "width", "learning_rate")
    return [
        {
            **{name.replace("_", " "): row[name] for name in names},
            "loss": f"{row['loss']:.3g}",
            "mAP": f"{row['mAP']:.3f}",
        }
        for row in results
        if row["benchmark"] == "retrieval settings"
    ]


def labels(results: Rows) -> Rows:
    """Lay out what training with labels gives on embeddings: means over splits."""
    rows = []
    for case, method, bits in dict.fromkeys((r["case"], r["method"], r["bits"]) for r in results):
        mine = [r for r in results if (r["case"], r["method"], r["bits"]) == (case, method, bits)]
        row = {"case": case, "method": method, "bits": bits}
        row |= {name: _spread([r[name] for r in mine]) for name in ("mAP", "mAP@5000")}
        row["precision@10"] = _spread([r["precision@10"] for r in mine])
        rows.append({**row, "training, CPU s": f"{mean(r['train_cpu_s'] for r in mine):.0f}"})
    return rows


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ± {stdev(values):.3f}"
