"""Paths that are no files, may not be used, or have odd names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepq
from benchmarks.faults.children import CrashError, HangError, become_nobody, in_child
from benchmarks.faults.saving import two_indexes

# As a name, everything that the system takes.
NAMES = (
    *("-", "a b", "a\nb", "ä€😀", "%s%n", "*?[", "a\tb", "'\"", "index.dpq.tmp", ".hidden", "..."),
    *("x" * 255, "ä" * 127, os.fsdecode(b"\xff\xfe")),
)


def odd_names(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what came of a save and a load under every odd name: "works", or an error."""
    index = two_indexes(800)[0]
    for name in NAMES:
        path = folder / name
        try:
            deepq.write_index(index, path)
            back = deepq.read_index(path)
            others = [each for each in folder.iterdir() if each != path]
            yield "an odd name", "works" if back.ntotal == index.ntotal and not others else "wrong"
        except Exception as error:
            yield "an odd name", f"error: {type(error).__name__}"
        path.unlink(missing_ok=True)


def no_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what came of reading and writing where there is no file that may be used."""
    index = two_indexes(800)[0]
    places = _made(index, folder)
    for name, path in places.items():
        for verb in ("read", "write"):
            if (verb, name) in (("write", "nothing there"), ("write", "a dangling link")):
                continue
            yield name, _tried(verb, index, path)


def _made(index: Any, folder: Path) -> dict[str, Any]:
    """Make them."""
    folder.chmod(0o755)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    closed = folder / "closed"
    closed.mkdir()
    deepq.write_index(index, closed / "index")
    (closed / "index").chmod(0)
    closed.chmod(0o555)
    return {
        "nothing there": folder / "nothing",
        "a dangling link": folder / "dangling",
        "a folder": folder / "folder",
        "a pipe": folder / "pipe",
        "a device": Path("/dev/zero"),
        "a loop of links": folder / "loop",
        "no permission": closed / "index",
        "a file as a folder": closed / "index" / "below",
        "a name of 256 bytes": folder / ("x" * 256),
        "an empty name": "",
    }


def _tried(verb: str, index: Any, path: Any) -> str:
    """Try it in a child, as nobody: "refused", or worse."""

    def work() -> str:
        become_nobody()
        try:
            if verb == "read":
                deepq.read_index(path)
            else:
                deepq.write_index(index, path)
        except (OSError, RuntimeError, ValueError):
            return "refused"
        except Exception as error:
            return f"error: {type(error).__name__}"
        return f"no error to {verb}"

    try:
        return in_child(work)
    except CrashError:
        return "crash"
    except HangError:
        return "hang"
