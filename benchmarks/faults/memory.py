"""What a load takes of memory, and what comes of it where there is not enough."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.reading import ENGINES, Engine
from benchmarks.faults.saving import WRITERS, two_indexes


def write(engine: str, size: int, path: Path) -> None:
    """Save an index of so many bytes of codes."""
    WRITERS[engine](two_indexes(engine, size)[0], path)


def peak(engine: str, path: Path) -> float:
    """Return the most memory that a load takes at a time, as a multiple of the file's size."""

    def work() -> float:
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        index = ENGINES[engine].read(path)
        return (_resident("VmHWM") - before + 0 * index.d) / path.stat().st_size

    return float(in_child(work, memory=8 << 30))


def with_too_little(engine: str, path: Path) -> tuple[str, float]:
    """Load with half of the memory that the file needs: the outcome, and seconds."""

    def work() -> str:
        try:
            ENGINES[engine].read(path)
        except MemoryError:
            return "refused"
        except Exception as error:
            return f"error: {type(error).__name__}"
        return "no error"

    return _timed(work, path.stat().st_size // 2)


def cut(engine: str, path: Path) -> tuple[str, float]:
    """Load what is left of a file without its last byte: the outcome, and seconds."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    return _timed(lambda: _refusal(ENGINES[engine], path), 8 << 30)


def _refusal(engine: Engine, path: Path) -> str:
    try:
        engine.read(path)
    except Exception as error:
        return "refused" if engine.is_refusal(error, path) else f"error: {type(error).__name__}"
    return "no error"


def _timed(work: Any, memory: int) -> tuple[str, float]:
    start = time.monotonic()
    try:
        said = in_child(work, memory=memory)
    except CrashError:
        said = "crash"
    except HangError:
        said = "hang"
    return said, time.monotonic() - start


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))
