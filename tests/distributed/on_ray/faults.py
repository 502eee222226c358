"""Things that end or stop the process of a worker, once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from deepq._common.sources import RowSource


def once(flag: Path) -> bool:
    """Whether this is the first call with this file, in all processes."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_once(flag: Path) -> None:
    if once(flag):
        os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """What ends the process that unpickles it, the first time."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def __reduce__(self) -> Any:
        return die_once, (self._flag,)


class Rows(RowSource):
    """Rows of an array, in parts of 100; something may happen before one is read."""

    def __init__(self, x: Any, event: str = "none", flag: Path | None = None) -> None:
        self._x, self._event, self._flag, self._home = x, event, flag, os.getpid()
        super().__init__("rows", [*range(0, len(x), 100), len(x)], x.shape[1], x.dtype)

    def __repr__(self) -> str:
        return f"<Rows {len(self)}>"

    def _read_part(self, i: int, size: int):  # noqa: ARG002 - parts are small
        if os.getpid() != self._home:
            if self._event == "die" and i == 3:
                die_once(self._flag)
            if self._event == "hang" and i == 5:
                time.sleep(1000)
            if self._event == "unseen":
                raise FileNotFoundError("expected a file rows.npy, got none")
        yield np.asarray(self._x[self._bounds[i] : self._bounds[i + 1]])
