"""The tables of docs/reliability.md, from the results of `bench_faults` and `bench_files`."""

from __future__ import annotations

from benchmarks.common.results import Row

# Headings, and the outcomes that they add up.
_DAMAGE = {
    "refused": ("refused",),
    "same answers": ("same answers",),
    "undetectable": ("undetectable",),
    "**silently wrong**": ("silently wrong",),
    "error later": ("error when used",),
    "another error, or no memory": ("another error", "out of memory"),
    "crash": ("crash", "CrashError"),
    "hang": ("hang", "HangError"),
}
_SETS = {"corpus": "705 files", "every byte": "every byte"}
_GOOD = {"refused", "works", "right", "old", "new"}


def damage(results: list[Row]) -> list[Row]:
    """Return a row for every kind of file and set of damages."""
    return [
        {
            "file": row["what"] if "faiss" in row["what"] else f"deepq's, {row['what']}",
            "damage": _SETS[row["case"]],
            "files": f"{row['n']:,}",
            **{
                heading: _count(sum(row["outcomes"].get(name, 0) for name in names))
                for heading, names in _DAMAGE.items()
            },
            "slowest": f"{1000 * row['slowest_s']:.0f} ms",
        }
        for row in results
        if row["case"] in _SETS
    ]


def events(results: list[Row]) -> list[Row]:
    """Return a row for every kind of event."""
    return [
        {
            "event": f"{row['case']}: {row['what']}",
            "what came of it": ", ".join([*_outcomes(row), *_figures(row)]),
        }
        for row in results
        if row["case"] not in _SETS
    ]


def prices(results: list[Row]) -> list[Row]:
    """Return a row for every size."""
    found: dict[int, Row] = {}
    for row in results:
        cells = found.setdefault(row["bytes"], {"file": f"{row['bytes'] / 1e6:,.0f} MB"})
        if row["case"] == "save":
            cells["save, of a plain write's speed"] = f"{100 * row['ratio']:.0f} %"
        else:
            cells[f"checksums, of a {row['case']}"] = f"{100 * (1 / row['ratio'] - 1):+.0f} %"
    return list(found.values())


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _outcomes(row: Row) -> list[str]:
    """Name the outcomes; those that must not be in bold."""
    return [
        f"{count} {name}" if name in _GOOD else f"**{count} {name}**"
        for name, count in row["outcomes"].items()
        if count
    ]


def _figures(row: Row) -> list[str]:
    if row["case"] == "threads" and "adds" in row:
        amount = f"{row['adds']:,} adds and {row['searches']:,} searches"
        return [f"{amount}: {row['lost']} vectors lost, {row['wrong']} wrong answers"]
    if row["case"] == "memory":
        return [f"{row['slowest_s']:.2f} s", f"a load takes {row['peak']:.2f} of the file's size"]
    return []
