"""Tables of recall, in README.md and docs/learning.md."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from benchmarks.common.results import Row, of_one_seed

_SIZES = (8, 16, 32)
_PLAIN = ("faiss PQ", "faiss OPQ", "faiss OPQ, identity")
_OURS = ("deepq", "deepq, re-ranked")


def of_usual_sizes(results: list[Row]) -> list[Row]:
    """Keep what README.md shows."""
    return [row for row in of_one_seed(results) if row["bytes"] in _SIZES]


def recall(results: list[Row]) -> list[Row]:
    """Lay out 10-recall@10 of every method, a column for each data set and size."""
    cases = sorted({(row["data"], row["bytes"]) for row in results})
    found = {(row["method"], row["data"], row["bytes"]): row for row in results}
    rows = []
    for method in dict.fromkeys(row["method"] for row in results):
        cells = {
            f"{data}, {size} bytes": f"{found[method, data, size]['10@10']:.3f}"
            if (method, data, size) in found
            else ""
            for data, size in cases
        }
        if sum(cell != "" for cell in cells.values()) > 1:
            rows.append({"10-recall@10": method, **cells})
    return rows


def learning(results: list[Row]) -> list[Row]:
    """Lay out what training gains over the best of PQ and OPQ, and over re-ranked RQ."""
    found = {(row["data"], row["bytes"], row["method"]): row for row in results}
    rows = []
    for data, size in sorted({(row["data"], row["bytes"]) for row in results}):
        plain = [found[data, size, name] for name in _PLAIN if (data, size, name) in found]
        ours = [found[data, size, name] for name in _OURS if (data, size, name) in found]
        if not plain or len(ours) < len(_OURS):
            continue
        best = {measure: max(row[measure] for row in plain) for measure in ("10@10", "R@1")}
        rq = found.get((data, size, "RQ, re-ranked"))
        row = {"data": data, "bytes": size, "best of PQ and OPQ": _recalls(best)}
        row["RQ, re-ranked"] = _recalls(rq) if rq else ""
        for name, mine in zip(_OURS, ours, strict=True):
            row[name] = _times(mine, best)
        alone = {field: ours[1].get(f"tables {field}") for field in best}
        row["its tables alone"] = _times(alone, best) if None not in alone.values() else ""
        row["training, CPU s"] = " / ".join(f"{mine['train_cpu_s']:.0f}" for mine in ours)
        row["adding, us"] = " / ".join(f"{mine['add_us']:.0f}" for mine in ours)
        row["a query, us"] = " / ".join(f"{mine['search_us']:.0f}" for mine in ours)
        rows.append(row)
    return rows


def seeds(results: list[Row]) -> list[Row]:
    """Lay out means and standard deviations over the seeds, where there are three or more."""
    cases: dict[tuple[Any, ...], list[Row]] = {}
    for row in results:
        case = tuple(row[field] for field in ("data", "bytes", "method", "train_rows"))
        cases.setdefault(case, []).append(row)
    heads = {"10@10": "10-recall@10", "R@1": "1-recall@1"}
    return [
        dict(zip(("data", "bytes", "method", "training rows"), case, strict=True))
        | {"seeds": len(found)}
        | {head: _spread([row[field] for row in found]) for field, head in heads.items()}
        for case, found in sorted(cases.items())
        if len(found) > 2
    ]


def by_rows(results: list[Row]) -> list[Row]:
    """Sort results by the rows that were learned from."""
    return sorted(results, key=lambda row: (row["data"], row["bytes"], row["train_rows"]))


def metrics(results: list[Row]) -> list[Row]:
    """Lay out recall under each metric, a column for each method."""
    rows: dict[tuple[str, str, int], Row] = {}
    for result in results:
        case = {name: result[name] for name in ("data", "metric", "bytes")}
        rows.setdefault(tuple(case.values()), case)[result["method"]] = _recalls(result)
    return list(rows.values())


def cells(results: list[Row]) -> list[Row]:
    """Lay out 10-recall@10 of codes in cells, and that in times of the best of faiss's."""
    cases: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in results:
        case = tuple(row[field] for field in ("data", "bytes", "nlist", "nprobe"))
        cases.setdefault(case, {})[row["method"]] = row["10@10"]
    rows = []
    for case, found in cases.items():
        theirs = [value for name, value in found.items() if "IVFPQ" in name]
        if not theirs or any(name not in found for name in _OURS):
            continue
        line: Row = dict(zip(("data", "bytes", "cells", "looked into"), case, strict=True))
        line["best of IVFPQ and OPQ"] = f"{max(theirs):.3f}"
        for name in _OURS:
            line[name] = f"{found[name]:.3f} {found[name] / max(theirs):.2f}x"
        rows.append(line)
    return rows


def _spread(values: list[float]) -> str:
    return f"{mean(values):.4f} +- {stdev(values):.4f}"


def _times(row: Row, best: Row) -> str:
    return f"{_recalls(row)} {row['10@10'] / best['10@10']:.2f}x"


def _recalls(row: Row) -> str:
    return f"{row['10@10']:.3f} ({row['R@1']:.3f})"
