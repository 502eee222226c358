"""Saving where it cannot end well: killed at any time, or with no room."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import xxhash

import deepq
from benchmarks.faults.children import CrashError, become_nobody, in_child

_LIMITS = (0, 1, 63, 64, 1000, 0.25, 0.5, 0.75, 0.999)  # bytes, or part of the file


def two_indexes(size: int) -> tuple[Any, Any]:
    """Make two indexes that differ, with so many bytes of codes each."""
    rng = np.random.default_rng(0)
    pair = []
    for _ in range(2):
        index = faiss.IndexPQ(32, 8, 8)
        faiss.copy_array_to_vector(rng.standard_normal(8192).astype("f4"), index.pq.centroids)
        index.is_trained = True
        codes = rng.integers(0, 256, (size // 8, 8), np.uint8)
        index.add_sa_codes(codes)
        pair.append(deepq.from_faiss(index))
    return pair[0], pair[1]


def kills(size: int, count: int, folder: Path) -> dict[str, Any]:
    """Kill a child at `count` moments, evenly spread over a save on top of another index."""
    path, pair = folder / "index", two_indexes(size)
    wholes, seconds = [], []
    for index in (*pair, *pair):
        start = time.monotonic()
        deepq.write_index(index, path)
        seconds.append(time.monotonic() - start)
        wholes.append(_digest(path))
    length, found = float(np.median(seconds)), Counter[str]()
    for number in range(count):
        old = _digest(path)
        if old not in wholes:
            deepq.write_index(pair[0], path)
            old = wholes[0]
        new = 1 - wholes.index(old)
        _kill(lambda new=new: deepq.write_index(pair[new], path), (number + 0.5) / count * length)
        now = _digest(path)
        found["old" if now == old else "new" if now == wholes[new] else "lost"] += 1
        found["left over"] += _remove_others(folder, path)
    return {"bytes": path.stat().st_size, "kills": count, "save_s": length, **found}


def _kill(save: Callable[[], None], after: float) -> None:
    """Start a save in a child, and kill that so many seconds later."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(sending, b"!")
            save()
        finally:
            os._exit(0)
    os.read(receiving, 1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(receiving)
    os.close(sending)


def _digest(path: Path) -> str:
    return xxhash.xxh3_128_hexdigest(path.read_bytes()) if path.exists() else "none"


def _remove_others(folder: Path, path: Path) -> int:
    others = [other for other in folder.iterdir() if other != path]
    for other in others:
        other.unlink()
    return len(others)


def no_room(size: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what came of saves over an old index that cannot end, by the reason.

    "refused" is an OSError, and the old file is there, and nothing else.
    """
    old, new = two_indexes(size)
    path = folder / "index"
    deepq.write_index(old, path)
    length = path.stat().st_size
    for limit in _LIMITS:
        most = int(limit * length) if isinstance(limit, float) else limit
        yield "a limit of size", _refused(old, new, path, most)
    with _tiny_disk(folder / "disk", length * 3 // 2) as disk:
        if disk is not None:
            _clean_write(old, disk / "index")
            yield "a full disk", _refused(old, new, disk / "index", None)
    yield "/dev/full", _into_full_device(new)
    (folder / "closed").mkdir()
    deepq.write_index(old, folder / "closed" / "index")
    for place in (folder / "closed", folder / "closed" / "index"):
        place.chmod(0o555 if place.is_dir() else 0o444)
    folder.chmod(0o755)
    yield "an unwritable folder", _refused(old, new, folder / "closed" / "index", -1)


def _clean_write(index: Any, path: Path) -> None:
    path.unlink(missing_ok=True)
    deepq.write_index(index, path)


def _refused(old: Any, new: Any, path: Path, most: int | None) -> str:
    """Save in a child: with a limit of the size of files, or as nobody (-1)."""
    before = {each.name for each in path.parent.iterdir()}
    whole = _digest(path)

    def save() -> str:
        if most == -1:
            become_nobody()
        elif most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            deepq.write_index(new, path)
        except OSError:
            return "refused"
        except Exception:
            return "another error"
        return "no error"

    try:
        said = in_child(save)
    except CrashError:
        said = "crash"
    lost = _digest(path) != whole
    left = {each.name for each in path.parent.iterdir()} != before
    if lost:
        _clean_write(old, path)
    if said == "refused" and (lost or left):
        return "old file lost" if lost else "left over"
    return said + (", old file lost" if lost else "")


def _into_full_device(index: Any) -> str:
    try:
        with open("/dev/full", "wb") as file:  # noqa: PTH123 a file object is what it is about
            deepq.write_index(index, file)
    except OSError:
        return "refused"
    return "no error"


@contextmanager
def _tiny_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """Mount a file system of some bytes, where that is allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
