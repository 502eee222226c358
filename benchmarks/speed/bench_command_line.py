"""Seconds and memory of the command line on a Parquet file: train, add, search.

    python -m benchmarks.speed.bench_command_line --output benchmarks/results/command_line.jsonl

Each command runs in a process of its own, in one thread. The file is made first: rows of normal
numbers near a subspace, which are no use but have the right size. Memory is the most that the
process had at a time; Python and the libraries take some 150 MB of it, as a run with --smoke shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.harness import in_one_thread, parser, run

COLUMNS = ["case", "rows", "seconds", "cpu_s", "peak_MB"]
_BLOCK = 20_000


def write_parquet(path: Path, rows: int, d: int, group: int, seed: int) -> None:
    """Write so many rows in row groups of `group`, a block at a time."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d // 4, d), dtype=np.float32)
    schema = pa.schema([("emb", pa.list_(pa.float32(), d))])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, rows, group):
            parts = []
            for start in range(first, min(first + group, rows), _BLOCK):
                n = min(_BLOCK, first + group - start, rows - start)
                x = rng.standard_normal((n, d // 4), dtype=np.float32) @ mixing
                x += rng.standard_normal((n, d), dtype=np.float32)
                parts.append(pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), d))
            writer.write_table(pa.table({"emb": pa.chunked_array(parts)}), row_group_size=group)


# The most that a process had is asked for inside: from outside it would be that of its parent.
_COMMAND = """
import pathlib, re
from deepq.cli import main
try:
    main()
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path(PEAK).write_text(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1])
"""


def command(peak: Path, *arguments: str) -> tuple[dict[str, float], bytes]:
    """Run `deepq` in a process of its own; return what it took, and what it wrote."""
    code = _COMMAND.replace("PEAK", repr(str(peak)))
    line = [sys.executable, "-c", code, *arguments]
    start = time.perf_counter()
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        written = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"expected {arguments[0]} to end well, got {process.returncode}")
    seconds = time.perf_counter() - start
    cpu = used.ru_utime + used.ru_stime
    return {"seconds": seconds, "cpu_s": cpu, "peak_MB": int(peak.read_text()) / 1024}, written


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train, add and search, one after the other."""
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        base, queries = Path(folder, "base.parquet"), Path(folder, "queries.parquet")
        index, answers = str(Path(folder, "base.dpq")), str(Path(folder, "answers.jsonl"))
        write_parquet(base, options.rows, options.d, options.group, options.seed)
        write_parquet(queries, options.queries, options.d, options.group, options.seed + 1)
        sizes = {"d": options.d, "file_MB": base.stat().st_size / 1e6}
        lines = {
            "train": ("train", str(base), index, "--kind", options.kind, "--json"),
            "add": ("add", index, str(base), "--json"),
            "search": ("search", index, str(queries), "-k", "10", "--output", answers),
        }
        for case, line in lines.items():
            figures, written = command(Path(folder, "peak"), *line)
            if case == "add":
                assert json.loads(written)["ntotal"] == options.rows
            n = options.queries if case == "search" else options.rows
            yield {"case": case, "rows": n, **sizes, **figures}


def main() -> None:
    """Run from the command line."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--queries", type=int, default=10_000)
    arguments.add_argument("--d", type=int, default=384)
    arguments.add_argument("--kind", default="OPQ16,PQ16")
    arguments.add_argument("--group", type=int, default=100_000, help="rows in a row group")
    arguments.add_argument("--work", help="folder for the files, which may be large")
    options = arguments.parse_args()
    if options.smoke:
        options.rows, options.queries, options.d, options.kind = 2000, 50, 16, "OPQ4,PQ4x4"
    run(options, "command_line", rows(options), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
