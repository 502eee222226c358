"""What a load takes of memory, and what comes of it where there is not enough."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import deepq
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.reading import is_refusal
from benchmarks.faults.saving import two_indexes


def write(size: int, path: Path) -> None:
    """Save an index of so many bytes of codes."""
    deepq.write_index(two_indexes(size)[0], path)


def peak(path: Path) -> float:
    """Return the most memory that a load takes at a time, as a multiple of the file's size."""

    def work() -> float:
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        index = deepq.read_index(path)
        return (_resident("VmHWM") - before + 0 * index.d) / path.stat().st_size

    return float(in_child(work, memory=8 << 30))


def with_too_little(path: Path) -> tuple[str, float]:
    """Load with half of the memory that the file needs: the outcome, and seconds."""

    def work() -> str:
        try:
            deepq.read_index(path)
        except MemoryError:
            return "refused"
        except Exception as error:
            return f"error: {type(error).__name__}"
        return "no error"

    return _timed(work, path.stat().st_size // 2)


def cut(path: Path) -> tuple[str, float]:
    """Load what is left of a file without its last byte: the outcome, and seconds."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    return _timed(lambda: _refusal(path), 8 << 30)


def _refusal(path: Path) -> str:
    try:
        deepq.read_index(path)
    except Exception as error:
        return "refused" if is_refusal(error, path) else f"error: {type(error).__name__}"
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
