"""What we ask of Ray: that it is there, and workers that start in time, or say why not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from deepq._common.extras import need

# A worker that dies is started again, and a call of it made again, so often.
RESTARTS, RETRIES = -1, 3


def connected() -> Any:
    """Return the module ray, connected to a cluster: that of RAY_ADDRESS, or one on this machine.

    Raises ImportError that names the extra, where Ray is missing.
    """
    ray = need("ray", "use more than one process or machine", "ray")
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    return ray


class Opened:
    """A worker that opens something when it starts; `open` does, and `ready` says how it went.

    What a constructor raises comes out of Ray as the death of the worker.
    """

    error: Exception | None = None

    def __init__(self, *args: Any) -> None:
        begin = time.perf_counter()
        try:
            self.open(*args)
        except Exception as error:
            self.error = error
        self._seconds = time.perf_counter() - begin

    def open(self, *args: Any) -> None:
        """Make ready for calls."""
        raise NotImplementedError

    def ready(self) -> dict[str, Any]:
        """Process, and seconds that opening took. Raises what opening raised."""
        if self.error is not None:
            raise self.error
        return {"pid": os.getpid(), "seconds": self._seconds}


def actors(cls: type, arguments: Iterable[tuple[Any, ...]], **options: Any) -> list[Any]:
    """Begin to start a worker for each tuple of arguments; `started` waits for them."""
    ray = connected()
    remote = ray.remote(cls).options(max_restarts=RESTARTS, max_task_retries=RETRIES, **options)
    return [remote.remote(*each) for each in arguments]


def started(workers: Sequence[Any], timeout: float, cpus: float, gpus: float = 0) -> list[Any]:
    """Wait until workers are ready, and return what each says then.

    Raises
    ------
    TimeoutError
        If they do not start in time; the message says what they need and what is there.
    Exception
        What a worker raised when it started.
    """
    ray = connected()
    calls = [worker.ready.remote() for worker in workers]
    ready, waiting = ray.wait(calls, num_returns=len(calls), timeout=timeout)
    for call in ready:
        own_error(ray.get, call)
    if waiting:
        there = ray.cluster_resources()
        raise TimeoutError(
            f"expected {len(workers)} workers of {cpus:g} CPUs and {gpus:g} GPUs each to start in "
            f"{timeout:g} s, got {len(ready)}; the cluster has {there.get('CPU', 0):g} CPUs and "
            f"{there.get('GPU', 0):g} GPUs in all, and others may use some"
        )
    return list(ray.get(calls))


def stop(workers: Iterable[Any]) -> None:
    """End workers, if Ray is still there."""
    import ray

    for worker in workers:
        if ray.is_initialized():
            ray.kill(worker)


def own_error(get: Any, *args: Any, **named: Any) -> Any:
    """Call `ray.get`, and raise what the worker raised itself, without Ray's wrapping."""
    from ray.exceptions import GetTimeoutError, RayTaskError

    try:
        return get(*args, **named)
    except GetTimeoutError as error:
        raise TimeoutError(str(error)) from error
    except RayTaskError as error:
        raise getattr(error, "cause", None) or error from None
