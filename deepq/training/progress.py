"""What a training says while it runs: its history, progress bars, and the time that is left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any


class Report:
    """Call it with an entry {"stage", "iteration", and measures}; use it in a with statement.

    Parameters
    ----------
    verbose : bool
        Whether to show a bar on stderr for every stage.
    max_seconds : float or None
        Length of the training; None for no limit.
    """

    def __init__(self, verbose: bool, max_seconds: float | None) -> None:
        self.history: list[dict[str, Any]] = []
        self._verbose = verbose
        self._start, self._seconds = time.monotonic(), max_seconds
        self._bar: Any = None
        self._stage: str | None = None
        self._done = 0

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.begin(None)

    def __call__(self, entry: dict[str, Any]) -> None:
        """Take down an entry."""
        if entry["stage"] != self._stage:
            self.begin(entry["stage"])
        self.history.append(entry)
        measures = {name: f"{v:.4g}" for name, v in entry.items() if isinstance(v, float)}
        self._bar.set_postfix(measures, refresh=False)
        done = entry["iteration"] + 1
        self._bar.update(done - self._done if done > self._done else done)  # or a second start
        self._done = done

    def hide(self) -> None:
        """Show no bars from now on."""
        self._verbose = False

    def begin(self, stage: str | None, total: int | None = None) -> None:
        """End the bar of the stage before; open one for `stage`, of `total` iterations."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage, self._done = None, stage, 0
        if stage is not None:
            from tqdm import tqdm  # not to search

            self._bar = tqdm(desc=stage, total=total, unit="it", disable=not self._verbose)

    @property
    def elapsed(self) -> float:
        """Share of the time that has passed; 0 where there is no limit."""
        if self._seconds is None:
            return 0.0
        return (time.monotonic() - self._start) / max(self._seconds, 1e-9)
