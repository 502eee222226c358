"""Work in a forked child, whose crash or hang is a result as any other."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NOBODY = 65534
_PAGE = os.sysconf("SC_PAGESIZE")


class CrashError(Exception):
    """The child was ended by a signal, or ended itself."""


class HangError(Exception):
    """The child was not done in time."""


def in_child(work: Callable[[], Any], seconds: float = 60.0, memory: int = 1 << 30) -> Any:
    """Return what `work` returns in a child that may use some bytes more than this process.

    Raises
    ------
    CrashError, HangError
        If it does not return. What it raises counts as a crash: `work` knows what to expect.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        _serve(work, sending, memory)
    os.close(sending)
    try:
        content = _received(receiving, seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(receiving)
    if content is None:
        raise HangError(f"not done after {seconds} s")
    if not content:
        raise CrashError(f"ended with {os.waitstatus_to_exitcode(status)}")
    return pickle.loads(content)


def _serve(work: Callable[[], Any], sending: int, memory: int) -> None:
    """Work in the child, send the result, and never return."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_memory(memory)
        content = pickle.dumps(work())
        while content:
            content = content[os.write(sending, content) :]
    finally:
        os._exit(1)


def limit_memory(extra: int) -> None:
    """Allow this process some bytes of memory more than it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE + extra
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def become_nobody() -> None:
    """Give up the rights of root, if this process has them."""
    if os.getuid() == 0:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)


def _received(receiving: int, seconds: float) -> bytes | None:
    """Read to the end; None if that does not come in time."""
    content, until = b"", time.monotonic() + seconds
    while select.select([receiving], [], [], max(0.0, until - time.monotonic()))[0]:
        piece = os.read(receiving, 1 << 16)
        if not piece:
            return content
        content += piece
    return None
