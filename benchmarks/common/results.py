"""Results: JSON lines, each with the commit and machine it belongs to; and tables of them."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import deepq
from deepq import _scan

Row = dict[str, Any]

SEED = 1234  # of a benchmark that is not given another
FOLDER = Path(__file__).parents[1] / "results"


def record(output: Path | None, row: Row) -> None:
    """Append one result with its environment to a file of JSON lines."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("a") as file:
            file.write(json.dumps({**row, "environment": environment()}) + "\n")


def read(path: Path, benchmark: str | None = None) -> list[Row]:
    """Return the results in a file, of one benchmark or of all; none if there is no file."""
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [row for row in rows if benchmark in (None, row["benchmark"])]


def newest(rows: Iterable[Row], *key: str) -> list[Row]:
    """Return the last result for every combination of the `key` fields, in order of appearance."""
    return list({tuple(row.get(field) for field in key): row for row in rows}.values())


def of_one_seed(rows: Iterable[Row]) -> list[Row]:
    """Return the results of the usual seed."""
    return [row for row in rows if row["seed"] == SEED]


def known(output: Path | None, benchmark: str, key: Iterable[str]) -> set[tuple[Any, ...]]:
    """Return the `key` fields of a benchmark's results that the output file has already."""
    rows = [] if output is None else read(output, benchmark)
    return {tuple(row.get(field) for field in key) for row in rows}


def environment() -> dict[str, Any]:
    """Describe the commit, machine and libraries that a figure belongs to."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "deepq": deepq.__version__,
        "deepq_simd": _scan.simd(),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = sorted({"avx2", "avx512bw"} & set(facts.get("flags", "").split()))
    return f"{facts.get('model name', 'unknown')} ({', '.join(flags)})"


def table(rows: list[Row], columns: Iterable[str] | None = None) -> str:
    """Lay rows out as a Markdown table; the columns are those of the first row unless given."""
    names = list(rows[0] if columns is None else columns)
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
