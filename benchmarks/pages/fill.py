"""Put the newest committed results into the tables of README.md and the pages of docs/.

    python -m benchmarks.pages.fill [--check]

A table stands between two marks, `<!-- NAME-table -->` and `<!-- /NAME-table -->`. `PAGES` says
which tables a page has, and what each is made of. With --check nothing is written: a page that
would change is an error.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.common.results import FOLDER, Row, newest, of_one_seed, read, table
from benchmarks.pages import (
    bucket_tables,
    cell_tables,
    cluster_tables,
    deep_tables,
    fault_tables,
    recall_tables,
    sizing_tables,
    speed_tables,
    training_tables,
)
from benchmarks.speed import goals

ROOT = Path(__file__).parents[2]
Rows = list[Row]
# Where and with what something was measured.
_ORIGIN = "{cpu}, one thread, faiss-cpu {faiss}, NumPy {numpy}, {date:.10}."


def columns(forms: dict[str, str]) -> Callable[[Rows], Rows]:
    """Return what makes a row of every result, from headings and the forms of their cells."""
    return lambda results: [
        {heading: form.format(**row) for heading, form in forms.items()} for row in results
    ]


class Table(NamedTuple):
    """A table of a page.

    Attributes
    ----------
    files : str
        Names of files of results, separated by spaces.
    key : str
        Fields of a result, separated by spaces: of those that agree in all, the last one counts.
    rows : callable
        Results -> rows of the table; the columns are those of the first.
    chosen : callable
        Results -> those that the table is about.
    note : str
        What is said below; fields of the newest result stand in braces.
    """

    files: str
    key: str
    rows: Callable[[Rows], Rows]
    chosen: Callable[[Rows], Rows] = list
    note: str = ""

    def filled(self) -> str:
        """Return the table with where it comes from, or nothing if there are no results."""
        found = [row for name in self.files.split() for row in read(FOLDER / f"{name}.jsonl")]
        for row in found:
            row["simd"] = row["environment"]["deepq_simd"]
            row["level"] = goals.LEVELS[row["simd"]]
        results = self.chosen(newest(found, *self.key.split()))
        rows = self.rows(results)
        if not results or not rows:
            return ""
        last = max(results, key=lambda row: row["environment"]["date"])
        machines = " and ".join(dict.fromkeys(row["environment"]["cpu"] for row in results))
        words = (_ORIGIN + self.note).format(**last["environment"] | last | {"cpu": machines})
        return f"{table(rows)}\n\n{words}"


# Fields in which results of a room differ.
RECALL = "data bytes method seed"
RETRIEVAL = "data protocol backbone method bits seed"
FAULTS = "case what"
CELLS = "case data N nlist M nq simd"
SIZING = sizing_tables.KEY
_SIMULATED = " Milliseconds, simulated from measured times of one shard."

PAGES: dict[str, dict[str, Table]] = {
    "README.md": {
        "recall": Table("recall", RECALL, recall_tables.recall, recall_tables.of_usual_sizes),
        "scan": Table(
            "scan",
            "case data N M nbits nq k metric simd",
            columns(
                {
                    "data": "{data}",
                    "vectors": "{N:,}",
                    "bytes": "{M}",
                    "queries at once": "{nq}",
                    "us a query": "{us_per_query:.0f}",
                    "faster than faiss's default": "{x_default:.1f}x",
                    "than its best SIMD level": "{x_best:.1f}x",
                }
            ),
            speed_tables.of_usual_searches,
            " k = 10; faiss's default here is {faiss_default}, deepq's {level}.",
        ),
        "train": Table(
            "train",
            "d method",
            columns(
                {
                    "dimensions": "{d}",
                    "bytes": "{M}",
                    "training vectors": "{rows:,}",
                    "method": "{method}",
                    "CPU seconds": "{train_cpu_s:.0f}",
                    "relative error of other vectors": "{relative_error:.3f}",
                }
            ),
        ),
    },
    "docs/quick_start.md": {
        "first": Table(
            "first_result",
            "from command",
            columns({"from": "{from}", "command": "{command}", "seconds": "{seconds}"}),
        ),
        "install": Table(
            "install",
            "what",
            columns(
                {
                    "": "{what}",
                    "faiss and NumPy": "{alone} {unit}",
                    "with deepq": "{whole} {unit}",
                    "more": "{besides} {unit}",
                }
            ),
            note=" Times are CPU times of a new process; a search has a file read before.",
        ),
    },
    "docs/learning.md": {
        "learning": Table("recall", RECALL, recall_tables.learning, of_one_seed),
        "seeds": Table("recall", f"{RECALL} train_rows", recall_tables.seeds),
        "rows": Table(
            "recall_by_rows",
            f"{RECALL} train_rows",
            columns(
                {
                    "data": "{data}",
                    "bytes": "{bytes}",
                    "training rows": "{train_rows:,}",
                    "10-recall@10 (1-recall@1)": "{10@10:.3f} ({R@1:.3f})",
                    "training, CPU s": "{train_cpu_s:.0f}",
                }
            ),
            recall_tables.by_rows,
        ),
        "metrics": Table("metrics", "data metric bytes method", recall_tables.metrics),
        "training": Table("training", "case data rows M seed", training_tables.defaults),
        "kmeans": Table("training", "case data rows M seed", training_tables.k_means),
        "rerank": Table(
            "rerank",
            "data M N nq",
            columns(
                {
                    "data": "{data}",
                    "vectors": "{N:,}",
                    "bytes": "{M}",
                    "queries at once": "{nq}",
                    "us a query": "{us_per_query:.0f}",
                    "faster than faiss's default": "{x_default:.2g}x",
                    "than its best SIMD level": "{x_best:.2g}x",
                }
            ),
        ),
    },
    "docs/kernel.md": {
        "scan": Table(
            "scan codes encode",
            "case data d N M nbits nq k metric ids encoder simd",
            goals.goal_rows,
        ),
        "builds": Table(
            "builds",
            "case data N M nbits nq k selector simd",
            speed_tables.beside_the_build_before,
        ),
        "alternatives": Table(
            "alternatives",
            "data method bytes N simd",
            goals.alternative_rows,
            speed_tables.of_last_level,
        ),
        "composites": Table("composites", "data M N nq composite simd", goals.composite_rows),
    },
    "docs/command_line.md": {
        "command-line": Table(
            "command_line",
            "case rows d kind",
            columns(
                {
                    "command": "{case}",
                    "rows": "{rows:,}",
                    "seconds": "{seconds:.0f}",
                    "of the processor": "{cpu_s:.0f}",
                    "memory, MB": "{peak_MB:.0f}",
                }
            ),
            note=" The file has {file_MB:,.0f} MB.",
        ),
    },
    "docs/cells.md": {
        "cells": Table("cells", CELLS, cell_tables.searches),
        "growth": Table("cells", CELLS, cell_tables.growth),
        "shared": Table("cells", CELLS, cell_tables.shared),
        "costs": Table("cells", CELLS, cell_tables.costs),
        "multi-index": Table(
            "multi_index", "data cells learned bits nprobe seed", cell_tables.multi_index
        ),
        "cells-recall": Table(
            "cells_recall", "data method bytes nlist nprobe seed", recall_tables.cells
        ),
    },
    "docs/deep.md": {
        "retrieval": Table("retrieval", RETRIEVAL, deep_tables.retrieval),
        "settings": Table(
            "retrieval_settings",
            "data objective bits quantization_weight width learning_rate seed",
            deep_tables.settings,
        ),
        "labels": Table("labels", "data case split method bits", deep_tables.labels),
    },
    "docs/methods.md": {
        "methods": Table(
            "retrieval",
            RETRIEVAL,
            deep_tables.methods,
            note=" CIFAR-10, 5,000 labelled images, a database of 54,000; everything from nothing.",
        ),
    },
    "docs/hashing.md": {
        "hashing": Table("retrieval", RETRIEVAL, deep_tables.hashing),
        "hashing-time": Table(
            "hashing",
            "case method bits epochs rate margin pull seed",
            deep_tables.hashing_time,
        ),
    },
    "docs/hierarchical.md": {
        "buckets": Table("hierarchical", bucket_tables.KEY, bucket_tables.of_texts),
        "image-buckets": Table("hierarchical", bucket_tables.KEY, bucket_tables.of_images),
        "bucket-trainings": Table("hierarchical", bucket_tables.KEY, bucket_tables.trainings),
        "bucket-times": Table(
            "hierarchical",
            bucket_tables.KEY,
            columns(
                {
                    "searched": "{method}",
                    "rows": "{rows:,}",
                    "queries at once": "{nq}",
                    "us a query": "{us_per_query:.0f}",
                    "faster than the scan": "{x_scan:.2g}x",
                    "P@1": "{P@1:.3f}",
                    "rows looked at": "{candidates:.2%}",
                }
            ),
            bucket_tables.timed,
        ),
        "flows": Table(
            "hierarchical",
            bucket_tables.KEY,
            columns({"codes of 64 classes, 2 x 64 words": "{method}", "CPU ms": "{ms:.1f}"}),
            bucket_tables.flows,
        ),
    },
    "docs/distributed.md": {
        f"cluster-{case}": Table(
            "cluster",
            cluster_tables.KEY,
            rows,
            cluster_tables.of_case(case),
            " All processes on one machine of 2 CPUs.",
        )
        for case, rows in {
            "kills": columns(
                {
                    "killed at random moments": "{what}",
                    "kills": "{kills}",
                    "wrong, lost or doubled": "{wrong}",
                    "seconds in all": "{seconds:.0f}",
                }
            ),
            "overhead": cluster_tables.overhead,
            "search": columns(
                {
                    "shards": "{actors}",
                    "queries in a call": "{nq}",
                    "codes in all": "{rows:,}",
                    "ms a call": "{ms:.1f}",
                    "faster than one index in one thread": "{x:.2g}x",
                }
            ),
            "encode": cluster_tables.encode,
            "start": columns(
                {
                    "a shard": "{what}",
                    "codes": "{rows:,}",
                    "seconds": "{seconds:.2f}",
                    "with its process": "{with_process:.1f}",
                }
            ),
            "serve": cluster_tables.serve,
        }.items()
    },
    "docs/sizing.md": {
        "sizing-shard": Table("sizing", SIZING, sizing_tables.searches),
        "sizing-open": Table("sizing", SIZING, sizing_tables.opened),
        "sizing-rest": Table("sizing", SIZING, sizing_tables.rest),
        "sizing-tail": Table(
            "sizing", SIZING, sizing_tables.tail, sizing_tables.only_simulated, _SIMULATED
        ),
        "sizing-slow": Table(
            "sizing", SIZING, sizing_tables.slow, sizing_tables.only_simulated, _SIMULATED
        ),
        "sizing-hedge": Table(
            "sizing", SIZING, sizing_tables.hedges, sizing_tables.only_simulated, _SIMULATED
        ),
        "sizing-cells": Table(
            "sizing", SIZING, sizing_tables.cells, sizing_tables.only_simulated, _SIMULATED
        ),
        "sizing-plan": Table("sizing", SIZING, sizing_tables.plans),
    },
    "docs/reliability.md": {
        "faults": Table("faults", FAULTS, fault_tables.damage),
        "events": Table("faults", FAULTS, fault_tables.events),
        "files": Table("files", "case bytes", fault_tables.prices),
    },
}


def filled(page: str, tables: dict[str, Table]) -> str:
    """Return the text of a page with those tables for which there are results.

    Raises
    ------
    ValueError
        If a table has no marks on its page, or more than one pair.
    """
    for name, its in tables.items():
        pattern = rf"(<!-- {name}-table -->\n).*?(<!-- /{name}-table -->)"
        figures = its.filled()
        if figures:
            page, count = re.subn(pattern, rf"\1\n{figures}\n\n\2", page, flags=re.S)
            if count != 1:
                raise ValueError(f"expected one place for the table {name!r}, got {count}")
    return page


def main() -> None:
    """Rewrite the tables of all pages, or say which would change."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--check", action="store_true", help="write nothing")
    check = arguments.parse_args().check
    changed = []
    for name, tables in PAGES.items():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = filled(text, tables)
        if new != text:
            changed.append(name)
            if not check:
                path.write_text(new, encoding="utf-8")
    if changed and check:
        raise SystemExit(f"not the newest results: {', '.join(changed)}")


if __name__ == "__main__":
    main()
