"""Coverage-guided fuzzing of `deepq.read_index`, with atheris: `make fuzz`.

    python -m benchmarks.faults.fuzz FOLDER [options of libFuzzer, such as -max_total_time=600]

FOLDER keeps the files found so far; it begins with a small one of every kind. Checksums are taken
as right, so that what lies behind them is reached. Whatever is raised but FormatError ends the run,
and so does an index that cannot be used.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["deepq", "json"]):
    import deepq
    from deepq._common import safe_files
    from deepq.files import format as index_format

from benchmarks.faults.files import KINDS, SMALL

# Bytes of an index that is searched; what a sound file may hold beyond that takes long, no more.
_MOST_USED = 1 << 16


class _Any(int):
    """Equal to every number: a checksum that is always right."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def read(data: bytes) -> None:
    """Read a file, and use what is in it."""
    try:
        found = deepq.read_index(io.BytesIO(data), verify="header")
    except deepq.FormatError:
        return
    if found.d * (found.ntotal + 1) > _MOST_USED or not found.is_trained:
        return
    x = SMALL._replace(d=found.d).x()
    try:
        found.search(x, 3)
        found.reconstruct_n(0, found.ntotal)
    except (deepq.InputError, deepq.KindError, deepq.DimensionError, deepq.StateError):
        return


def main() -> None:
    """Fill the folder and run."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in KINDS.items():
        (folder / name.replace(" ", "_")).write_bytes(kind.content(kind.make(SMALL)))
    for module in (safe_files, index_format):
        module.checksum = lambda _: _Any(0)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
