"""The processes that serve shards, and how they come and go."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from deepq._common.errors import InputError, StateError
from deepq.distributed import engine
from deepq.distributed.calls import NotServedError
from deepq.distributed.manifest import Manifest, Shard
from deepq.distributed.served import ServedShard

_CALLS_AT_ONCE = 4  # that a worker answers
_INLINE = 100_000  # bytes that Ray sends along with a call


class Worker(engine.Opened):
    """A process that serves a shard. What it cannot open it says when it is asked."""

    def open(self, *args: Any) -> None:
        """Open the shard: arguments are those of `ServedShard`."""
        self._served = ServedShard(*args)

    def call(self, packed: bytes) -> bytes:
        """Call a method of the `ServedShard`: see `packed`."""
        if self.error is not None:
            raise NotServedError(f"{type(self.error).__name__}: {self.error}")
        name, *args = pickle.loads(packed)
        return pickle.dumps(getattr(self._served, name)(*args), protocol=5)


def packed(name: str, *args: Any) -> Any:
    """Pack a call for `Worker.call` into one piece: Ray packs each argument apart.

    A large piece is put where all machines find it, once for all workers.
    """
    piece = pickle.dumps((name, *args), protocol=5)
    return piece if len(piece) <= _INLINE else engine.connected().put(piece)


class Serving:
    """The shards of one manifest, and how many calls are using them."""

    def __init__(self, manifest: Manifest, workers: dict[Shard, list[Any]]) -> None:
        self.manifest, self.workers = manifest, workers
        self.users = 0


class Start(NamedTuple):
    """How workers are started.

    Attributes
    ----------
    replicas : int
        For each shard.
    cpus, timeout : float
    arguments : tuple
        The last ones of `ServedShard`.
    """

    replicas: int
    cpus: float
    timeout: float
    arguments: tuple[Any, ...]


class Pool:
    """The workers of all shards, which may become others while calls use them.

    `serving` are those of now. Raises as `ShardedIndex`.
    """

    def __init__(self, manifest: Manifest, start: Start) -> None:
        self._start = start
        self._changing, self._quiet = threading.Lock(), threading.Condition()
        self.serving = Serving(manifest, self._started(manifest, manifest.shards))

    def update(self, manifest: Manifest) -> None:
        """Start the workers of new shards, and stop those that nobody needs any more."""
        with self._changing:
            before = self.serving
            if manifest.fingerprint != before.manifest.fingerprint:
                raise InputError(
                    f"expected shards of {before.manifest.fingerprint}, got {manifest.fingerprint}"
                )
            kept = {s: w for s, w in before.workers.items() if s in manifest.shards}
            new = self._started(manifest, [s for s in manifest.shards if s not in kept])
            both = kept | new
            self._swap(Serving(manifest, {s: both[s] for s in manifest.shards}), kept)

    def close(self) -> None:
        """Stop all workers."""
        with self._changing:
            self._swap(Serving(self.serving.manifest, {}), {})

    def _swap(self, serving: Serving, kept: dict[Shard, list[Any]]) -> None:
        """Let calls that come use other workers, and end those of before that are not kept."""
        with self._quiet:
            before, self.serving = self.serving, serving
            self._quiet.wait_for(lambda: not before.users)
        engine.stop(w for s, ws in before.workers.items() if s not in kept for w in ws)

    def _started(self, manifest: Manifest, shards: Sequence[Shard]) -> dict[Shard, list[Any]]:
        """Start the workers of shards, and wait for them."""
        replicas, cpus, timeout, rest = self._start
        arguments = [
            (manifest.folder, shard, manifest.fingerprint, *rest)
            for shard in shards
            for _ in range(replicas)
        ]
        workers = engine.actors(Worker, arguments, num_cpus=cpus, max_concurrency=_CALLS_AT_ONCE)
        try:
            engine.started(workers, timeout, cpus)
        except BaseException:
            engine.stop(workers)
            raise
        return {s: workers[i * replicas : (i + 1) * replicas] for i, s in enumerate(shards)}

    @contextmanager
    def using(self) -> Iterator[Serving]:
        """Keep the workers of now alive. Raises StateError after `close`."""
        with self._quiet:
            serving = self.serving
            serving.users += 1
        try:
            if not serving.workers and serving.manifest.shards:
                raise StateError("expected an index that serves, got one after close()")
            yield serving
        finally:
            with self._quiet:
                serving.users -= 1
                self._quiet.notify_all()
