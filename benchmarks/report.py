"""Put the newest committed results into the tables of README.md and docs/kernel.md.

    python benchmarks/report.py

Each table stands between two marks, `<!-- figures: NAME -->` and `<!-- /figures -->` in README.md,
`<!-- NAME-table -->` and `<!-- /NAME-table -->` in docs/kernel.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goals import ALTERNATIVES_COLUMNS, COLUMNS, LEVELS, alternative_rows, goal_rows
from harness import RESULTS, table

ROOT = Path(__file__).parent.parent
README_QUERIES = (1, 16, 256)


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
    results = newest("recall", "data", "bytes", "method")
    cases = list(dict.fromkeys((row["data"], row["bytes"]) for row in results))
    rows = []
    for method in dict.fromkeys(row["method"] for row in results):
        mine = {(row["data"], row["bytes"]): row for row in results if row["method"] == method}
        cells = {
            f"{data}, {size} bytes": f"{mine[data, size]['10@10']:.3f}" for data, size in cases
        }
        rows.append({"10-recall@10": method, **cells})
    sizes = {row["data"]: f"{row['train_rows']:,} / {row['base_rows']:,}" for row in results}
    rows.append(
        {"10-recall@10": "training / stored vectors"}
        | {f"{data}, {size} bytes": sizes[data] for data, size in cases}
    )
    return table(rows, list(rows[0])) + origin(results)


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


def alternatives_table() -> str:
    """Lay out recall and speed of what one would take instead."""
    results = newest("alternatives", "data", "method", "bytes", "N", "simd")
    if not results:
        return ""
    results = [row for row in results if row["simd"] == results[-1]["simd"]]
    return table(alternative_rows(results), ALTERNATIVES_COLUMNS) + origin(results)


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


Tables = dict[tuple[str, str], Callable[[], str]]

README: Tables = {
    ("figures: recall", "figures"): recall_table,
    ("figures: scan", "figures"): scan_table,
    ("figures: train", "figures"): train_table,
}
KERNEL: Tables = {
    ("scan-table", "scan-table"): goals_table,
    ("alternatives-table", "alternatives-table"): alternatives_table,
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
    fill(ROOT / "docs" / "kernel.md", KERNEL)


if __name__ == "__main__":
    main()
