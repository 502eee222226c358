"""Put the newest committed results into the tables of README.md and the pages of docs/.

    python benchmarks/report.py

Each table stands between two marks, `<!-- figures: NAME -->` and `<!-- /figures -->` in README.md,
`<!-- NAME-table -->` and `<!-- /NAME-table -->` in docs/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deep_tables
import fault_tables
from goals import ALTERNATIVES_COLUMNS, COLUMNS, LEVELS, alternative_rows, goal_rows
from harness import RESULTS, table

ROOT = Path(__file__).parent.parent
README_QUERIES = (1, 16, 256)
RECALL_BYTES = (8, 16, 32)
PLAIN = ("faiss PQ", "faiss OPQ", "faiss OPQ, identity")
OURS = ("deepq", "deepq, re-ranked")


def newest(name: str, *key: str) -> list[dict[str, Any]]:
    """Return the last result for every combination of the `key` fields, in order of appearance."""
    path = RESULTS / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for row in rows:
        row["simd"] = row["environment"]["deepq_simd"]
    return list({tuple(row.get(field) for field in key): row for row in rows}.values())


def origin(rows: list[dict[str, Any]]) -> str:
    """Say where and with what the rows were measured."""
    environment = rows[-1]["environment"]
    return (
        f"\n\n{environment['cpu']}, one thread, faiss-cpu {environment['faiss']}, "
        f"NumPy {environment['numpy']}, {environment['date'][:10]}."
    )


def recall_table() -> str:
    """Lay out 10-recall@10 of every method, a column for each data set and size."""
    results = [
        row for row in newest("recall", "data", "bytes", "method") if row["bytes"] in RECALL_BYTES
    ]
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
    return table(rows, list(rows[0])) + origin(results)


def learning_table() -> str:
    """Lay out what training gains over the best of PQ and OPQ, and over re-ranked RQ."""
    results = newest("recall", "data", "bytes", "method")
    found = {(row["data"], row["bytes"], row["method"]): row for row in results}
    rows = []
    for data, size in sorted({(row["data"], row["bytes"]) for row in results}):
        plain = [found[data, size, name] for name in PLAIN if (data, size, name) in found]
        ours = [found.get((data, size, name)) for name in OURS]
        if not plain or not all(ours):
            continue
        best = {measure: max(row[measure] for row in plain) for measure in ("10@10", "R@1")}
        rq = found.get((data, size, "RQ, re-ranked"))
        row = {"data": data, "bytes": size, "best of PQ and OPQ": _recalls(best)}
        row["RQ, re-ranked"] = _recalls(rq) if rq else ""
        for name, mine in zip(OURS, ours, strict=True):
            row[name] = f"{_recalls(mine)} {mine['10@10'] / best['10@10']:.2f}x"
        row["training, CPU s"] = " / ".join(f"{mine['train_cpu_s']:.0f}" for mine in ours)
        row["adding, us"] = " / ".join(f"{mine['add_us']:.0f}" for mine in ours)
        rows.append(row)
    return table(rows, list(rows[0])) + origin(results) if rows else ""


def _recalls(row: dict[str, Any]) -> str:
    return f"{row['10@10']:.3f} ({row['R@1']:.3f})"


def metrics_table() -> str:
    """Lay out 10-recall@10 under each metric."""
    results = newest("metrics", "data", "metric", "bytes", "method")
    cases = list(dict.fromkeys((row["data"], row["metric"], row["bytes"]) for row in results))
    rows = []
    for data, metric, size in cases:
        mine = {
            row["method"]: f"{row['10@10']:.3f} ({row['R@1']:.3f})"
            for row in results
            if (row["data"], row["metric"], row["bytes"]) == (data, metric, size)
        }
        rows.append({"data": data, "metric": metric, "bytes": size, **mine})
    lead = (
        "deepq's codewords and decoders are trained for the metric; rotations, and all of faiss's,"
        " for the squared error. 10-recall@10 and 1-recall@1; for the cosine faiss gets vectors of"
        " unit length.\n\n"
    )
    return lead + table(rows, list(rows[0])) + origin(results) if rows else ""


def rerank_table() -> str:
    """Lay out the speed of re-ranked search by the number of vectors."""
    results = newest("rerank", "data", "M", "N", "nq")
    rows = [
        {
            "data": row["data"],
            "vectors": f"{row['N']:,}",
            "bytes": row["M"],
            "queries at once": row["nq"],
            "us a query": f"{row['us_per_query']:.0f}",
            "faster than faiss's default": f"{row['x_default']:.2g}x",
            "than its best SIMD level": f"{row['x_best']:.2g}x",
        }
        for row in results
    ]
    return table(rows, list(rows[0])) + origin(results) if rows else ""


def scan_table() -> str:
    """Lay out how many times faster than faiss a search is, in the most usual cases."""
    results = [
        row
        for row in newest("scan", "case", "data", "N", "M", "nbits", "nq", "k", "metric", "simd")
        if row.get("case") in ("batch", "few", "base50k")
        and row["nq"] in README_QUERIES
        and row["M"] in (8, 16, 48)
        and row["simd"] == next(iter(LEVELS))
    ]
    if not results:
        return ""
    results.sort(key=lambda row: (row["data"], -row["N"], row["M"], row["nq"]))
    rows = [
        {
            "data": row["data"],
            "vectors": f"{row['N']:,}",
            "bytes": row["M"] * row["nbits"] // 8,
            "queries at once": row["nq"],
            "us a query": f"{row['us_per_query']:.0f}",
            "faster than faiss's default": f"{row['x_default']:.1f}x",
            "than its best SIMD level": f"{row['x_best']:.1f}x",
        }
        for row in results
    ]
    levels = f" k = 10; faiss's default here is {results[-1]['faiss_default']}, deepq's "
    return table(rows, list(rows[0])) + origin(results) + levels + f"{LEVELS[results[-1]['simd']]}."


def goals_table() -> str:
    """Lay out what was to be reached with each instruction set, and what is."""
    key = ("case", "data", "d", "N", "M", "nbits", "nq", "k", "metric", "ids", "encoder", "simd")
    results = [
        row for name in ("scan", "codes", "encode") for row in newest(name, *key) if "case" in row
    ]
    if not results:
        return ""
    note = (
        " Against faiss at its default / at its best SIMD level; the worst of each data set, where"
        " several numbers of queries at once or sizes of codes were measured."
    )
    return table(goal_rows(results), COLUMNS) + origin(results) + note


def builds_table() -> str:
    """Lay out how many times faster searches are than with the build before, and than faiss."""
    key = ("case", "data", "N", "M", "nbits", "nq", "selector")
    results = newest("builds", "simd", *key)
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in results:
        case = f"{row['nq']} at once" if row["nq"] > 1 else "1 query"
        if row["selector"]:
            case += f", IDSelector{row['selector']}"
        names = {"case": case, "data": row["data"], "codes": f"{row['N']:,}", "bytes": row["M"]}
        cells = rows.setdefault(tuple(row[field] for field in key), names)
        versus = f", {row['x_default']:.2g}x / {row['x_best']:.2g}x" if "x_best" in row else ""
        cells[LEVELS[row["simd"]]] = (
            f"{row['us_per_query']:.0f} us: {row['x_before']:.2g}x{versus}"
        )
    columns = ["case", "data", "codes", "bytes", *LEVELS.values()]
    shown = [{**dict.fromkeys(columns, "-"), **row} for row in rows.values()]
    columns = [c for c in columns if any(row[c] != "-" for row in shown)]
    return table(shown, columns) + origin(results) if rows else ""


def alternatives_table() -> str:
    """Lay out recall and speed of what one would take instead."""
    results = newest("alternatives", "data", "method", "bytes", "N", "simd")
    if not results:
        return ""
    results = [row for row in results if row["simd"] == results[-1]["simd"]]
    return table(alternative_rows(results), ALTERNATIVES_COLUMNS) + origin(results)


def retrieval_table() -> str:
    """Lay out retrieval by class of images."""
    results = _retrieval()
    return deep_tables.laid_out(deep_tables.retrieval(results)) + origin(results) if results else ""


def hashing_table() -> str:
    """Lay out hashing of images beside it."""
    results = _retrieval()
    return deep_tables.laid_out(deep_tables.hashing(results)) + origin(results) if results else ""


def hashing_time_table() -> str:
    """Lay out mAP by CPU seconds of pairs, triplets and inferred codes."""
    results = newest(
        "hashing", "case", "method", "bits", "epochs", "rate", "margin", "pull", "seed"
    )
    rows = deep_tables.hashing_time(results)
    return deep_tables.laid_out(rows) + origin(results) if rows else ""


def _retrieval() -> list[dict[str, Any]]:
    return newest("retrieval", "data", "protocol", "backbone", "method", "bits", "seed")


def settings_table() -> str:
    """Lay out the choice of settings for retrieval by class."""
    key = ("data", "objective", "bits", "quantization_weight", "width", "learning_rate", "seed")
    results = newest("retrieval_settings", *key)
    rows = deep_tables.settings(results)
    return deep_tables.laid_out(rows) + origin(results) if rows else ""


def labels_table() -> str:
    """Lay out training with labels on embeddings."""
    results = newest("labels", "data", "case", "split", "method", "bits")
    if not results:
        return ""
    return deep_tables.laid_out(deep_tables.labels(results)) + origin(results)


def train_table() -> str:
    """Lay out training times and errors beside those of faiss's OPQ."""
    results = newest("train", "d", "method")
    rows = [
        {
            "dimensions": row["d"],
            "bytes": row["M"],
            "training vectors": f"{row['rows']:,}",
            "method": row["method"],
            "CPU seconds": f"{row['train_cpu_s']:.0f}",
            "relative error of other vectors": f"{row['relative_error']:.3f}",
        }
        for row in results
    ]
    return table(rows, list(rows[0])) + origin(results)


def faults_table() -> str:
    """Lay out what came of reading damaged files."""
    results = newest("faults", "case", "what", "engine")
    rows = fault_tables.damage(results)
    return table(rows, list(rows[0])) + origin(results) if rows else ""


def events_table() -> str:
    """Lay out what came of everything else."""
    results = newest("faults", "case", "what", "engine")
    rows = fault_tables.events(results)
    return table(rows, list(rows[0])) + origin(results) if rows else ""


def files_table() -> str:
    """Lay out the speed of saving and of checking."""
    results = newest("files", "case", "bytes")
    rows = fault_tables.prices(results)
    return table(rows, list(rows[0])) + origin(results) if rows else ""


Tables = dict[tuple[str, str], Callable[[], str]]

README: Tables = {
    ("figures: recall", "figures"): recall_table,
    ("figures: scan", "figures"): scan_table,
    ("figures: train", "figures"): train_table,
}
LEARNING: Tables = {
    ("learning-table", "learning-table"): learning_table,
    ("metrics-table", "metrics-table"): metrics_table,
    ("rerank-table", "rerank-table"): rerank_table,
}
DEEP: Tables = {
    ("retrieval-table", "retrieval-table"): retrieval_table,
    ("settings-table", "settings-table"): settings_table,
    ("labels-table", "labels-table"): labels_table,
}
HASHING: Tables = {
    ("hashing-table", "hashing-table"): hashing_table,
    ("hashing-time-table", "hashing-time-table"): hashing_time_table,
}
KERNEL: Tables = {
    ("scan-table", "scan-table"): goals_table,
    ("builds-table", "builds-table"): builds_table,
    ("alternatives-table", "alternatives-table"): alternatives_table,
}
RELIABILITY: Tables = {
    ("faults-table", "faults-table"): faults_table,
    ("events-table", "events-table"): events_table,
    ("files-table", "files-table"): files_table,
}


def fill(path: Path, tables: Tables) -> None:
    """Rewrite the tables of a page for which there are results."""
    text = path.read_text()
    for (opening, closing), make in tables.items():
        pattern = rf"(<!-- {opening} -->\n).*?(<!-- /{closing} -->)"
        figures = make()
        if figures:
            text = re.sub(pattern, rf"\1\n{figures}\n\n\2", text, flags=re.S)
    path.write_text(text)


def main() -> None:
    """Rewrite the tables of all pages."""
    fill(ROOT / "README.md", README)
    fill(ROOT / "docs" / "learning.md", LEARNING)
    fill(ROOT / "docs" / "kernel.md", KERNEL)
    fill(ROOT / "docs" / "deep.md", DEEP)
    fill(ROOT / "docs" / "hashing.md", HASHING)
    fill(ROOT / "docs" / "reliability.md", RELIABILITY)


if __name__ == "__main__":
    main()
