"""Put the newest committed results into the tables of README.md.

    python benchmarks/report.py

Each table stands between `<!-- figures: NAME -->` and `<!-- /figures -->`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness import RESULTS, table

README = Path(__file__).parent.parent / "README.md"


def newest(name: str, *key: str) -> list[dict[str, Any]]:
    """Return the last result for every combination of the `key` fields, in order of appearance."""
    path = RESULTS / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["simd"] = row["environment"]["deepq_simd"]
    return list({tuple(row[field] for field in key): row for row in rows}.values())


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
    """Lay out how many times faster than faiss a search is."""
    results = newest("scan", "data", "N", "M", "nbits", "nq", "k", "simd")
    rows = [
        {
            "data": row["data"],
            "vectors": f"{row['N']:,}",
            "bytes": row["M"] * row["nbits"] // 8,
            "queries at once": row["nq"],
            "k": row["k"],
            "deepq's instruction set": row["simd"],
            "us a query": f"{row['us_per_query']:.0f}",
            "faster than faiss's default": f"{row['x_default']:.1f}x",
            "than its best SIMD level": f"{row['x_best']:.1f}x",
        }
        for row in results
    ]
    levels = f" faiss's default here is {results[-1]['faiss_default']}."
    return table(rows, list(rows[0])) + origin(results) + levels


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


def main() -> None:
    """Rewrite the tables."""
    text = README.read_text()
    for name, make in (("recall", recall_table), ("scan", scan_table), ("train", train_table)):
        pattern = rf"(<!-- figures: {name} -->\n).*?(\n<!-- /figures -->)"
        figures = make()
        text = re.sub(pattern, lambda m, f=figures: m[1] + "\n" + f + "\n" + m[2], text, flags=re.S)
    README.write_text(text)


if __name__ == "__main__":
    main()
