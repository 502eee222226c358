"""How docs/learning.md shows what trainings cost: means over the seeds of a case."""

from __future__ import annotations

from statistics import mean

from benchmarks.common.results import Row


def defaults(results: list[Row]) -> list[Row]:
    """Lay out the default training beside the build before, and faiss's PQ and OPQ."""
    rows = []
    for runs in _by_case(results, "default"):
        first = next((run for run in runs if "of_opq" in run), None)
        if first is None:
            continue
        row = _about(runs)
        row["CPU s: before, now"] = f"{first.get('before', float('nan')):.0f}, {_of(runs):.1f}"
        row["times of PQ"] = _pair(runs, "of_pq", ".1f")
        row["of OPQ"] = _pair([first], "of_opq", ".2f")
        recalls = f"{first.get('before_recall', float('nan')):.3f}, {_mean(runs, 'recall'):.3f}"
        row["10-recall@10: before, now"] = recalls
        row["PQ, OPQ"] = f"{_mean(runs, 'pq_recall'):.3f}, {first['opq_recall']:.3f}"
        row["memory: arrays, process"] = (
            f"{first['array_memory']:.1f}, {first['process_memory']:.1f}"
        )
        rows.append(row)
    return rows


def k_means(results: list[Row]) -> list[Row]:
    """Lay out codebooks alone beside faiss's."""
    return [
        {
            **_about(runs),
            "CPU s": f"{_of(runs):.2f}",
            "faster than faiss's default, its best": (
                f"{1 / _mean(runs, 'of_pq'):.1f}x, {1 / _mean(runs, 'of_pq_best'):.1f}x"
            ),
            "error, in times that of faiss": f"{_mean(runs, 'error'):.4f}",
        }
        for runs in _by_case(results, "k-means")
    ]


def _by_case(results: list[Row], case: str) -> list[list[Row]]:
    """Group the results of a case by what was trained."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in results:
        if row["case"] == case:
            groups.setdefault((row["data"], row["rows"], row["M"]), []).append(row)
    return [groups[key] for key in sorted(groups, key=str)]


def _about(runs: list[Row]) -> Row:
    return {"data": runs[0]["data"], "rows": f"{runs[0]['rows']:,}", "bytes": runs[0]["M"]}


def _mean(runs: list[Row], field: str) -> float:
    return mean(run[field] for run in runs)


def _of(runs: list[Row]) -> float:
    return _mean(runs, "seconds")


def _pair(runs: list[Row], field: str, form: str) -> str:
    return f"{_mean(runs, field):{form}}, {_mean(runs, f'{field}_best'):{form}}"
