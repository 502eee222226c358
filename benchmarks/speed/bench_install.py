"""What deepq costs besides faiss: megabytes on the disk, and seconds of an import.

    make wheels
    python -m benchmarks.speed.bench_install --python build/wheels/python3/bin/python --output ...

Asks a Python in which deepq is installed. Sizes are those of the files that pip has written, and of
their bytecode. Times are CPU times of new processes, which take turns; the median counts. `alone`
is faiss and what that needs, `besides` the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.harness import in_one_thread, parser, run

COLUMNS = ["what", "alone", "whole", "besides", "unit"]
# Each after the imports of faiss, which a program with an index of faiss's has anyway.
PROGRAMS = {
    "nothing": "",
    "faiss": "import faiss",
    "import deepq": "import faiss, deepq",
    "and its index": "import faiss, deepq; deepq.DeepQuantIndex",
    "and a file": "import faiss, deepq; deepq.read_index({file!r})",
    "and a search": "import faiss, deepq, numpy; i = deepq.read_index({file!r}); "
    "i.search(numpy.zeros((1, i.d), 'f4'), 5)",
}
SIZES = """
import importlib.metadata as m, json, re, sys
from pathlib import Path

def needs(name):
    found = {}
    for text in m.requires(name) or ():
        if "extra ==" not in text:
            other = re.match(r"[\\w.-]+", text)[0].lower()
            try:
                m.distribution(other)
            except m.PackageNotFoundError:  # of another Python or platform
                continue
            found |= {other: None, **needs(other)}
    return found

def size(name):
    files = m.distribution(name).files or ()
    return sum(f.locate().stat().st_size for f in files if Path(f.locate()).is_file())

print(json.dumps({name: size(name) for name in {**needs("deepq"), "deepq": None}}))
print(json.dumps(["faiss-cpu", *needs("faiss-cpu")]))
print(json.dumps("torch" in {**needs("deepq")}))
"""
CLOCK = "import time; begun = time.process_time()\n{}\nprint(time.process_time() - begun)"


def asked(python: str, code: str) -> list[Any]:
    """Run code by a Python, outside of this checkout, and return the lines of JSON it prints."""
    done = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def sizes(python: str) -> Iterator[dict[str, Any]]:
    """Measure deepq with all that it needs, and faiss."""
    found, of_faiss, torch = asked(python, SIZES)
    if torch:
        raise SystemExit("expected a deepq that needs no torch")
    faiss = sum(found[name] for name in of_faiss)
    whole = sum(found.values())
    yield {
        "what": "installed",
        "alone": round(faiss / 1e6, 1),
        "whole": round(whole / 1e6, 1),
        "besides": round((whole - faiss) / 1e6, 1),
        "unit": "MB",
        "packages": {name: round(size / 1e6, 2) for name, size in found.items()},
    }


def times(python: str, file: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Measure imports in new processes."""
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(repeats + 1):
        for name, program in PROGRAMS.items():
            seconds = asked(python, CLOCK.format(program.format(file=str(file))))[-1]
            if turn:  # not the first, which reads from the disk and writes bytecode
                taken[name].append(seconds)
    alone = median(taken["faiss"])
    for name in list(PROGRAMS)[2:]:
        besides = median(a - b for a, b in zip(taken[name], taken["faiss"], strict=True))
        yield {
            "what": name,
            "alone": round(alone, 3),
            "whole": round(median(taken[name]), 3),
            "besides": round(besides, 3),
            "unit": "s",
        }


def main() -> None:
    """Print sizes and times."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--python", default=sys.executable, help="a Python with deepq")
    arguments.add_argument("--repeats", type=int, default=15, help="processes of each kind")
    options = arguments.parse_args()
    file = Path(__file__).parents[2] / "tests" / "files" / "golden" / "1" / "codes.dpq"
    python = str(Path(options.python).absolute())
    options.python = Path(options.python).name
    repeats = 1 if options.smoke else options.repeats

    def rows() -> Iterator[dict[str, Any]]:
        yield from sizes(python)
        yield from times(python, file, repeats)

    run(options, "install", rows(), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
