"""One index of many shards, each served by workers of its own."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import as_array, as_free_ids
from deepq._common.checks import as_integer, as_k, as_real, as_size
from deepq._common.errors import FormatError, InputError, KindError, StateError
from deepq._common.types import Floats, Ids
from deepq.distributed import engine
from deepq.distributed.batching import Batcher
from deepq.distributed.calls import Answers, NotServedError, Question, ask
from deepq.distributed.manifest import Manifest, Shard, network_of
from deepq.distributed.merging import Limits, merged, merged_ranges
from deepq.distributed.restriction import Restriction, as_plain
from deepq.distributed.served import ServedShard
from deepq.files.index_files import read_index
from deepq.index import steps
from deepq.index.search_parameters import SearchParameters

log = logging.getLogger(__name__)

_CALLS_AT_ONCE = 4  # that a worker answers
_INLINE = 100_000  # bytes of queries that go to each shard with the call, as Ray has it


class Results(tuple):  # type: ignore[type-arg]
    """What a search returns: (D, I), or (lims, D, I), and the names of shards that did not answer.

    Attributes
    ----------
    missing : tuple of str
        Empty, unless the index was made with ``on_failure="partial"``.
    """

    missing: tuple[str, ...]

    def __new__(cls, parts: Any, missing: tuple[str, ...] = ()) -> Results:
        """Make it of arrays."""
        self = super().__new__(cls, parts)
        self.missing = missing
        return self


class Worker(engine.Opened):
    """A process that serves a shard. What it cannot open it says when it is asked."""

    def open(self, *args: Any) -> None:
        """Open the shard: arguments are those of `ServedShard`."""
        self._served = ServedShard(*args)

    def call(self, name: str, *args: Any) -> Any:
        """Call a method of the `ServedShard`."""
        if self.error is not None:
            raise NotServedError(f"{type(self.error).__name__}: {self.error}")
        return getattr(self._served, name)(*args)


class _Serving:
    """The shards of one manifest, and how many calls are using them."""

    def __init__(self, manifest: Manifest, workers: dict[Shard, list[Any]]) -> None:
        self.manifest, self.workers = manifest, workers
        self.users = 0


class ShardedIndex:
    """Shards on a Ray cluster, searched as one index: the same results, bit for bit.

    Queries are encoded here, once. Every shard is mapped into memory by workers of its own, finds
    its best codes, and the best of all are ranked anew, if the index does that, by workers that
    share the queries. Threads may search at the same time; their queries are asked together.

    Parameters
    ----------
    manifest : Manifest or path
        What `encode_dataset` returned, or the folder.
    replicas : int
        Workers of each shard. A second one answers where the first is late or has died.
    network : torch.nn.Module or NetworkEncoder, optional
        As for `read_index`, where the network's class is not one of `deepq.networks`.
    cpus : float
        Of a worker.
    num_threads : int
        Of a search in a worker.
    timeout, hedge, start_timeout : float
        Seconds until a call must be answered; after which a second worker is asked as well, by
        default a quarter of that; and until workers must have started.
    on_failure : "raise" or "partial"
        What a call does without the answers of some shards. With "partial" it says which in
        `Results.missing`, and in a warning of the logger; without any answer it raises.
    verify : bool
        Whether workers read their files once, to compare checksums.

    Attributes
    ----------
    d, ntotal, metric_type : int
    nprobe : int
        Cells that a query looks into, of shards with cells; may be set.
    rerank : int
        How many of the best codes are ranked anew, if there is a decoder; may be set.

    Raises
    ------
    ImportError
        If Ray is missing.
    FileNotFoundError, FormatError
        If there is no manifest, or if a worker does not see its file, or it is damaged or of
        another codec; the message names file and machine.
    TimeoutError
        If workers do not start in time.
    InputError, KindError
        If an argument is out of range or of the wrong kind.
    """

    def __init__(
        self,
        manifest: Manifest | str | os.PathLike[str],
        replicas: int = 1,
        *,
        network: Any = None,
        cpus: float = 1.0,
        num_threads: int = 1,
        timeout: float = 30.0,
        hedge: float | None = None,
        start_timeout: float = 120.0,
        on_failure: str = "raise",
        verify: bool = True,
    ) -> None:
        if on_failure not in ("raise", "partial"):
            raise InputError(f"expected on_failure='raise' or 'partial', got {on_failure!r}")
        self._replicas = as_size(replicas, "replicas")
        self._timeout, self._start_timeout = as_real(timeout, "timeout"), start_timeout
        self._hedge = self._timeout / 4 if hedge is None else as_real(hedge, "hedge")
        self._partial, self._network = on_failure == "partial", network
        self._cpus, self._verify = cpus, verify
        self._threads = as_size(num_threads, "num_threads")
        if not isinstance(manifest, Manifest):
            manifest = Manifest.read(manifest)
        self._codec = _codec(manifest, network)
        self.rerank = self._codec.rerank
        self.nprobe = getattr(self._codec, "nprobe", 1)
        self._turn = itertools.count()
        self._changing = threading.Lock()
        self._quiet = threading.Condition()
        self._serving = _Serving(manifest, {})
        self._serving = _Serving(manifest, self._start(manifest.shards))
        self._batcher = Batcher(self._answer)

    # ---- shards that come and go -------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The manifest that is served."""
        return self._serving.manifest

    def update(self, manifest: Manifest | str | os.PathLike[str]) -> None:
        """Serve another manifest of the same codec: start what is new, then stop what is gone.

        Searches go on meanwhile; each sees the shards of before, or all of after. Raises InputError
        for another codec, and as the constructor, after which all is as before.
        """
        if not isinstance(manifest, Manifest):
            manifest = Manifest.read(manifest)
        with self._changing:
            before = self._serving
            if manifest.fingerprint != before.manifest.fingerprint:
                raise InputError(
                    f"expected shards of {before.manifest.fingerprint}, got {manifest.fingerprint}"
                )
            kept = {s: w for s, w in before.workers.items() if s in manifest.shards}
            new = self._start([s for s in manifest.shards if s not in kept], manifest.folder)
            both = kept | new
            with self._quiet:
                self._serving = _Serving(manifest, {s: both[s] for s in manifest.shards})
                self._quiet.wait_for(lambda: not before.users)
            engine.stop(w for s, ws in before.workers.items() if s not in kept for w in ws)

    def close(self) -> None:
        """Stop all workers."""
        self._batcher.close()
        engine.stop(w for workers in self._serving.workers.values() for w in workers)
        self._serving = _Serving(self._serving.manifest, {})

    def __enter__(self) -> ShardedIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, shards: Any, folder: Path | None = None) -> dict[Shard, list[Any]]:
        """Start the workers of shards, and wait for them."""
        manifest = self._serving.manifest
        folder = manifest.folder if folder is None else folder
        network = self._network
        arguments = [
            (folder, shard, manifest.fingerprint, network, self._verify, self._threads)
            for shard in shards
            for _ in range(self._replicas)
        ]
        workers = engine.actors(
            Worker, arguments, num_cpus=self._cpus, max_concurrency=_CALLS_AT_ONCE
        )
        try:
            engine.started(workers, self._start_timeout, self._cpus)
        except BaseException:
            engine.stop(workers)
            raise
        size = self._replicas
        return {s: workers[i * size : (i + 1) * size] for i, s in enumerate(shards)}

    @contextmanager
    def _using(self) -> Iterator[_Serving]:
        """Keep the workers of now alive."""
        with self._quiet:
            serving = self._serving
            serving.users += 1
        try:
            if not serving.workers and serving.manifest.shards:
                raise StateError("expected an index that serves, got one after close()")
            yield serving
        finally:
            with self._quiet:
                serving.users -= 1
                self._quiet.notify_all()

    # ---- what it is --------------------------------------------------------------------------

    @property
    def d(self) -> int:
        """Length of a vector."""
        return int(self._codec.d)

    @property
    def ntotal(self) -> int:
        """Vectors in all shards."""
        return self._serving.manifest.ntotal

    @property
    def metric_type(self) -> int:
        """``faiss.METRIC_L2`` or ``faiss.METRIC_INNER_PRODUCT``."""
        return int(self._codec.metric_type)

    @property
    def is_trained(self) -> bool:
        """Always True."""
        return True

    def __repr__(self) -> str:
        shards = len(self._serving.manifest.shards)
        return f"ShardedIndex({shards} shards, replicas={self._replicas}, ntotal={self.ntotal})"

    # ---- searching ---------------------------------------------------------------------------

    def search(self, x: Any, k: int, *, params: Any = None) -> Results:
        """Find the k nearest stored vectors of every query.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        params : deepq.SearchParameters or faiss.SearchParameters, optional
            Of this call: `rerank`, `nprobe`, `num_threads` of each worker, and a selector of ids.

        Returns
        -------
        D : (n, k) float32; I : (n, k) int64
            As of `DeepQuantIndex.search`, in a tuple that also has `missing`.

        Raises
        ------
        DimensionError, KindError, InputError
            As of an index; for modes that shards do not have, too.
        ShardError
            If a shard does not answer, with the names in `missing`; `ShardTimeoutError`, which is
            a TimeoutError, if it is late.
        """
        n, usable, z = steps.embedded(self._codec, x)
        k = as_k(k, n, self.ntotal)
        how, restriction = self._asked(params)
        count = steps.rerank_count(self._codec, SearchParameters(rerank=self._rerank(params)))
        D, I = steps.padded(self._codec, n, k)
        missing: tuple[str, ...] = ()
        if len(z) and k:
            key = k, count, tuple(how.items())
            if restriction is None:
                D[usable], I[usable], missing = self._batcher(z, key)
            else:
                D[usable], I[usable], missing = self._answer(z, key, restriction)
        return Results((D, I), missing)

    def _answer(
        self, z: Floats, key: Any, restriction: Restriction | None = None
    ) -> tuple[Floats, Ids, tuple[str, ...]]:
        """Scores, ids (n, k) of embeddings, and names of shards without an answer."""
        k, count, how = key
        end = time.monotonic() + self._timeout
        with self._using() as serving:
            width = max(k, count)
            found = self._ask(
                serving, end, "find", _sent(z), width, dict(how), restriction, count > 0
            )
            D, I, codes = merged([v for v in found.values if v is not None], width, self.metric_type)
            if codes is None:
                return D, I, found.missing
            D, I = self._rank(serving, end, z, I, codes, k)
            return D, I, found.missing

    def _rank(
        self, serving: _Serving, end: float, z: Floats, I: Ids, codes: Any, k: int
    ) -> tuple[Floats, Ids]:
        """Rank candidates anew: the workers of all shards share the queries."""
        workers = [w[next(self._turn) % len(w)] for w in serving.workers.values()]
        blocks = np.array_split(np.arange(len(z)), min(len(workers), len(z)))
        stored, first = serving.manifest.ntotal, next(self._turn)
        questions = []
        for number, rows in enumerate(blocks):
            at = (first + number) % len(workers)
            args = z[rows], I[rows], codes[rows], k, stored
            questions.append(
                Question(
                    f"re-ranking {number}",
                    workers[at:] + workers[:at],
                    lambda worker, args=args: worker.call.remote("rank", *args),
                )
            )
        found = self._answers(questions, end, partial=False)
        D, I = (np.concatenate([value[i] for value in found.values]) for i in (0, 1))
        return D, I

    def range_search(self, x: Any, thresh: float, *, params: Any = None) -> Results:
        """Find all stored vectors that score better than `thresh`, by their codewords.

        Returns (lims, D, I) as `DeepQuantIndex.range_search`, the results of a query in ascending
        order of id, in a tuple that also has `missing`; raises as `search`.
        """
        n, usable, z = steps.embedded(self._codec, x)
        thresh = as_real(thresh, "thresh")
        how, restriction = self._asked(params)
        with self._using() as serving:
            end = time.monotonic() + self._timeout
            found = self._ask(serving, end, "within", _sent(z), thresh, how, restriction)
        parts = [value for value in found.values if value is not None]
        none = np.zeros(len(z) + 1, np.uint64), np.empty(0, np.float32), np.empty(0, np.int64)
        lims, D, I = merged_ranges(parts or [none])
        lims = steps.spread(n, usable, lims)
        return Results((lims, D, I), found.missing)

    def reconstruct(self, key: int) -> Floats:
        """Decode the stored vector of id `key` into (d,) float32: see `reconstruct_batch`."""
        return self.reconstruct_batch(np.array([as_integer(key, "key")]))[0]

    def reconstruct_batch(self, key: Any) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32.

        Raises InputError for an id that is not stored, StateError for an encoder that cannot be
        undone, ShardError where a shard does not answer that may have one.
        """
        keys = as_array(key, "key")
        keys = as_free_ids(keys if keys.size else keys.astype(np.int64), "key", least=None)
        if not self._codec.encoder.can_decode:
            raise StateError("expected an encoder that can be undone, to decode vectors")
        with self._using() as serving:
            end = time.monotonic() + self._timeout
            found = self._ask(serving, end, "decode", keys, partial=False)
        out, known = np.empty((len(keys), self.d), np.float32), np.zeros(len(keys), np.bool_)
        for here, vectors in found.values:
            out[here], known[here] = vectors, True
        if not known.all():
            raise InputError(f"expected ids of stored vectors, got {int(keys[~known][0])}")
        return out

    # ---- asking ------------------------------------------------------------------------------

    def _ask(
        self, serving: _Serving, end: float, name: str, *args: Any, partial: bool = True
    ) -> Answers:
        """Call a method of every shard."""
        questions, turn = [], next(self._turn)
        for shard, workers in serving.workers.items():
            at = turn % len(workers)
            questions.append(
                Question(
                    shard.name,
                    workers[at:] + workers[:at],
                    lambda worker: worker.call.remote(name, *args),
                )
            )
        return self._answers(questions, end, partial=partial and self._partial)

    def _answers(self, questions: list[Question], end: float, *, partial: bool) -> Answers:
        """Ask, and raise where answers are missing that must not be."""
        found = ask(questions, max(0.0, end - time.monotonic()), self._hedge)
        if found.missing:
            if not partial or len(found.missing) == len(questions):
                raise found.error()
            log.warning("%s", found.error())
        return found

    def _asked(self, params: Any) -> tuple[dict[str, Any], Restriction | None]:
        """Arguments of `SearchParameters` in a worker, and the selector as plain data."""
        if params is not None and not isinstance(params, faiss.SearchParameters):
            raise KindError(f"expected deepq.SearchParameters, got {type(params).__name__}")
        cells = self._codec.kind == "cells"
        how: dict[str, Any] = {"nprobe": self.nprobe} if cells else {}
        for name in ("num_threads", "nprobe"):
            if getattr(params, name, None) is not None:
                how[name] = getattr(params, name)
        if getattr(params, "max_codes", 0):
            raise InputError(f"expected max_codes = 0 for shards, got {params.max_codes}")
        if getattr(params, "search_type", self._plain) != self._plain:
            raise InputError(f"expected search_type = {self._plain}, got {params.search_type}")
        largest = max((shard.largest for shard in self.manifest.shards), default=-1)
        return how, as_plain(params, largest)

    @property
    def _plain(self) -> int:
        """The search type of look-up tables."""
        return 0

    def _rerank(self, params: Any) -> int:
        given = getattr(params, "rerank", None)
        return int(self.rerank if given is None else given)


def _codec(manifest: Manifest, network: Any) -> Any:
    """Read the index without vectors."""
    codec = read_index(manifest.folder / manifest.codec, network)
    if codec.fingerprint != manifest.fingerprint:
        raise FormatError(
            f"expected a codec of the fingerprint {manifest.fingerprint} in {manifest.folder}, "
            f"got {codec.fingerprint}"
        )
    return codec


def _sent(z: Floats) -> Any:
    """Queries for all shards: large ones are put once where all machines find them."""
    return z if z.nbytes <= _INLINE else engine.connected().put(z)
