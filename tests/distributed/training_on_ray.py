"""Learn codebooks on Ray, in a process with a network of its own: ``python -m ... folder``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from deepq._common.errors import InputError
from deepq.distributed import training
from deepq.distributed.training import learn_codebooks

from .test_training import NBITS, M, encoder


def kill_one_in_a_step(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a worker be killed in the second step; return a list of the steps."""
    steps, real = [], training._OnRay.ask

    def ask(self: Any, method: str, *arguments: Any) -> list[Any]:
        steps.append(len(steps))
        if len(steps) == 3:  # the first call is a look
            ray.kill(self._holders[1], no_restart=False)
        return real(self, method, *arguments)

    monkeypatch.setattr(training._OnRay, "ask", ask)
    return steps


def main(folder: Path) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    shards = [folder / f"{i}.npy" for i in range(3)]
    options: dict[str, Any] = {"workers": 2, "iterations": 3, "timeout": 300}
    np.save(
        folder / "two", learn_codebooks(shards, M, NBITS, encoder=encoder(), **options).trained()
    )
    np.save(folder / "plain", learn_codebooks(shards, M, NBITS, **options).trained())
    bad = np.load(shards[2])
    bad[5, 0] = np.nan
    with pytest.raises(InputError, match="a shard"):
        learn_codebooks([shards[0], bad], M, NBITS, **options)
    with pytest.raises(TimeoutError, match="3 workers of 1 CPUs and 0 GPUs each"):
        learn_codebooks(shards, M, NBITS, **{**options, "workers": 3, "timeout": 3})
    with pytest.MonkeyPatch.context() as monkeypatch:
        steps = kill_one_in_a_step(monkeypatch)
        learned = learn_codebooks(shards, M, NBITS, encoder=encoder(), **options)
    assert len(steps) == 4
    np.save(folder / "killed", learned.trained())
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
