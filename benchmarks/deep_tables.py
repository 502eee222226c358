"""Tables of docs/deep.md: retrieval with labels, beside what has been published."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from harness import table

BITS = (12, 24, 32, 48)
# mAP on CIFAR-10 at 12, 24, 32 and 48 bits, of networks pre-trained on ImageNet but for DNNH:
# Cao et al., "Deep quantization network for efficient image retrieval", AAAI 2016, table 1.
PUBLISHED = {
    "DQN": (0.554, 0.558, 0.564, 0.580),
    "DQN_2+": (0.528, 0.534, 0.538, 0.541),
    "DQN_ip": (0.506, 0.513, 0.519, 0.529),
    "DNNH": (0.552, 0.566, 0.558, 0.581),
    "CNNH": (0.484, 0.476, 0.472, 0.489),
    "KSH": (0.303, 0.337, 0.346, 0.356),
}

Rows = list[dict[str, Any]]


def retrieval(results: Rows) -> Rows:
    """Lay out mAP by method and bits: the mean of the seeds, and their standard deviation.

    `results` has the rows of trunks as well.
    """
    rows = []
    measured = [row for row in results if row["benchmark"] == "retrieval"]
    kinds = dict.fromkeys((r["protocol"], r["backbone"], r["method"]) for r in measured)
    for protocol, backbone, method in kinds:
        mine = [r for r in measured if _kind(r) == (protocol, backbone, method)]
        trunk = [
            row["train_cpu_s"]
            for row in results
            if row["benchmark"] == "trunk"
            and (row["protocol"], row["backbone"]) == (protocol, backbone)
        ]
        for (search, database), measure in _MEASURES[protocol].items():
            if not all(measure in r for r in mine) or (search == "L2" and method == "class codes"):
                continue
            given = mine[0]["metric"] if search == "as trained" else search
            rows.append(
                {
                    "method": f"{method}, {backbone}, measured",
                    "search": given,
                    "database": database,
                    **{
                        f"{bits} bits": _spread([r[measure] for r in mine if r["bits"] == bits])
                        for bits in BITS
                    },
                    "float": _spread(_by_seed(mine, "float_mAP")) if measure == "mAP" else "",
                    "seeds": len({r["seed"] for r in mine}),
                    "trunk, CPU s": f"{mean(trunk):.0f}" if trunk else "",
                    "each, CPU s": f"{mean(r['train_cpu_s'] for r in mine):.0f}",
                }
            )
    rows += [
        {
            "method": f"{method}, published",
            **{f"{bits} bits": f"{value:.3f}" for bits, value in zip(BITS, values, strict=True)},
        }
        for method, values in PUBLISHED.items()
    ]
    return rows


def _by_seed(rows: Rows, measure: str) -> list[float]:
    """Mean of each seed."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return [mean(row[measure] for row in rows if row["seed"] == seed) for seed in seeds]


def _kind(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["protocol"], row["backbone"], row["method"]


# Which field is the mAP of a search and database.
_MEASURES = {
    "5000": {
        ("as trained", "54,000"): "mAP_without_training",
        ("as trained", "59,000"): "mAP",
        ("L2", "54,000"): "L2_mAP_without_training",
    },
    "full": {
        ("as trained", "50,000, all learned from"): "mAP",
        ("L2", "50,000, all learned from"): "L2_mAP",
    },
    "unseen": {
        ("as trained", "15,000, of classes not learned"): "mAP",
        ("L2", "15,000, of classes not learned"): "L2_mAP",
    },
}


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


def laid_out(rows: Rows) -> str:
    """Return a table of rows, the columns in the order of the first."""
    return table(rows, list(rows[0])) if rows else ""
