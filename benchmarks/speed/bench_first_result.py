"""How long a newcomer takes from nothing to a first result: the commands of docs/quick_start.md.

    python -m benchmarks.speed.bench_first_result [--wheels dist] --output ...

Runs the first block of commands of the page in a copy of the checkout, as committed, and the
first Python block as `first.py`; with `--wheels` that of a folder is installed. Packages
come from where pip takes them. Seconds are those of a clock on the wall.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common.harness import in_one_thread, parser, run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quick_start.md"
COLUMNS = ["from", "command", "seconds"]


def blocks(language: str) -> list[str]:
    """Return the blocks of the page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def timed(wheel: Path | None) -> Iterator[dict[str, Any]]:
    """Run the commands, and say how long each takes."""
    whole = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        (folder / "deepq").mkdir()
        subprocess.run(["tar", "-x"], cwd=folder / "deepq", input=archive, check=True)
        (folder / "first.py").write_text(blocks("python")[0])
        for command in blocks("bash")[0].splitlines():
            done = command if wheel is None else command.replace("./deepq", str(wheel))
            begun = time.monotonic()
            subprocess.run(done, shell=True, cwd=folder, check=True, stdout=subprocess.PIPE)
            seconds = time.monotonic() - begun
            whole += seconds
            shown = command if wheel is None else command.replace("./deepq", "a wheel")
            yield _row(wheel, shown, seconds)
    yield _row(wheel, "all", whole)


def _row(wheel: Path | None, command: str, seconds: float) -> dict[str, Any]:
    how = "a checkout" if wheel is None else "a wheel"
    return {"from": how, "command": command, "seconds": round(seconds, 1)}


def main() -> None:
    """Print the times."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--wheels", type=Path, help="a folder with a wheel for this Python")
    options = arguments.parse_args()
    wheel = None
    if options.wheels is not None:
        tag = f"*-cp{sys.version_info.major}{sys.version_info.minor}-*.whl"
        wheel = next(options.wheels.absolute().glob(tag))
    options.wheels = wheel and wheel.name
    if options.smoke:  # which would install packages
        print(*blocks("bash")[0].splitlines(), os.linesep, blocks("python")[0], sep="\n")
        return
    run(options, "first result", timed(wheel), COLUMNS)


if __name__ == "__main__":
    in_one_thread(main)
