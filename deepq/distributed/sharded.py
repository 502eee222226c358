"""One index of many shards, each served by workers of its own."""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import Any

import faiss
import numpy as np

from deepq._common.arrays import as_array, as_free_ids
from deepq._common.checks import as_flag, as_integer, as_k, as_real, as_size
from deepq._common.errors import FormatError, InputError, KindError, StateError
from deepq._common.types import Floats, Ids
from deepq.distributed import engine
from deepq.distributed.batching import Batcher
from deepq.distributed.calls import Answers, Question, ask
from deepq.distributed.manifest import Manifest, as_manifest
from deepq.distributed.merging import merged, merged_ranges
from deepq.distributed.pool import Pool, Serving, Start, packed
from deepq.distributed.restriction import Restriction, as_plain
from deepq.files.index_files import read_index
from deepq.index import steps
from deepq.index.search_parameters import SearchParameters

log = logging.getLogger(__name__)


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
        self._timeout, self._partial = as_real(timeout, "timeout"), on_failure == "partial"
        self._hedge = self._timeout / 4 if hedge is None else as_real(hedge, "hedge")
        start = Start(
            as_size(replicas, "replicas"),
            as_real(cpus, "cpus"),
            as_real(start_timeout, "start_timeout"),
            (network, as_flag(verify, "verify"), as_size(num_threads, "num_threads")),
        )
        read = as_manifest(manifest)
        self._codec = _codec(read, network)
        self.rerank = self._codec.rerank
        self.nprobe = getattr(self._codec, "nprobe", 1)
        self._turn = itertools.count()
        self._pool = Pool(read, start)
        self._batcher = Batcher(self._answer)

    # ---- shards that come and go -------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        """The manifest that is served."""
        return self._pool.serving.manifest

    def update(self, manifest: Manifest | str | os.PathLike[str]) -> None:
        """Serve another manifest of the same codec: start what is new, then stop what is gone.

        Searches go on meanwhile; each sees the shards of before, or all of after. Raises InputError
        for another codec, and as the constructor, after which all is as before.
        """
        self._pool.update(as_manifest(manifest))

    def processes(self) -> dict[str, list[int]]:
        """Return the numbers of the processes of every shard, by its name."""
        ray = engine.connected()
        return {
            shard.name: [ray.get(worker.ready.remote())["pid"] for worker in workers]
            for shard, workers in self._pool.serving.workers.items()
        }

    def close(self) -> None:
        """Stop all workers."""
        self._batcher.close()
        self._pool.close()

    def __enter__(self) -> ShardedIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what it is --------------------------------------------------------------------------

    @property
    def d(self) -> int:
        """Length of a vector."""
        return int(self._codec.d)

    @property
    def ntotal(self) -> int:
        """Vectors in all shards."""
        return self.manifest.ntotal

    @property
    def metric_type(self) -> int:
        """``faiss.METRIC_L2`` or ``faiss.METRIC_INNER_PRODUCT``."""
        return int(self._codec.metric_type)

    @property
    def is_trained(self) -> bool:
        """Always True."""
        return True

    def __repr__(self) -> str:
        return f"ShardedIndex({len(self.manifest.shards)} shards, ntotal={self.ntotal})"

    # ---- searching ---------------------------------------------------------------------------

    def search(
        self, x: Any, k: int, *, params: Any = None, timeout: float | None = None
    ) -> Results:
        """Find the k nearest stored vectors of every query.

        Parameters
        ----------
        x : (n, d) array
            Queries.
        k : int
            Neighbours per query.
        params : deepq.SearchParameters or faiss.SearchParameters, optional
            Of this call: `rerank`, `nprobe`, `num_threads` of each worker, and a selector of ids.
        timeout : float, optional
            Seconds of this call, in place of the index's.

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
            key = k, count, tuple(how.items()), self._seconds(timeout)
            if restriction is None:
                D[usable], I[usable], missing = self._batcher(z, key)
            else:
                D[usable], I[usable], missing = self._answer(z, key, restriction)
        return Results((D, I), missing)

    def _answer(
        self, z: Floats, key: Any, restriction: Restriction | None = None
    ) -> tuple[Floats, Ids, tuple[str, ...]]:
        """Scores, ids (n, k) of embeddings, and names of shards without an answer."""
        k, count, how, seconds = key
        end = time.monotonic() + seconds
        with self._pool.using() as serving:
            width = max(k, count)
            found = self._ask(serving, end, "find", z, width, dict(how), restriction, count > 0)
            D, I, codes = merged(
                [v for v in found.values if v is not None], width, self.metric_type
            )
            if codes is None:
                return D, I, found.missing
            D, I = self._rank(serving, end, z, I, codes, k)
            return D, I, found.missing

    def _rank(
        self, serving: Serving, end: float, z: Floats, I: Ids, codes: Any, k: int
    ) -> tuple[Floats, Ids]:
        """Rank candidates anew: the workers of all shards share the queries."""
        workers = [w[next(self._turn) % len(w)] for w in serving.workers.values()]
        blocks = np.array_split(np.arange(len(z)), min(len(workers), len(z)))
        stored, first = serving.manifest.ntotal, next(self._turn)
        questions = []
        for number, rows in enumerate(blocks):
            at = (first + number) % len(workers)
            piece = packed("rank", z[rows], I[rows], codes[rows], k, stored)
            name = f"re-ranking {number}"
            questions.append(Question(name, workers[at:] + workers[:at], piece))
        parts = self._answers(questions, end, partial=False).values
        return np.concatenate([D for D, _ in parts]), np.concatenate([I for _, I in parts])

    def range_search(
        self, x: Any, thresh: float, *, params: Any = None, timeout: float | None = None
    ) -> Results:
        """Find all stored vectors that score better than `thresh`, by their codewords.

        Returns (lims, D, I) as `DeepQuantIndex.range_search`, the results of a query in ascending
        order of id, in a tuple that also has `missing`; raises as `search`.
        """
        n, usable, z = steps.embedded(self._codec, x)
        thresh = as_real(thresh, "thresh")
        how, restriction = self._asked(params)
        with self._pool.using() as serving:
            end = time.monotonic() + self._seconds(timeout)
            found = self._ask(serving, end, "within", z, thresh, how, restriction)
        parts = [value for value in found.values if value is not None]
        none = np.zeros(len(z) + 1, np.uint64), np.empty(0, np.float32), np.empty(0, np.int64)
        lims, D, I = merged_ranges(parts or [none])
        lims = steps.spread(n, usable, lims)
        return Results((lims, D, I), found.missing)

    def reconstruct(self, key: int) -> Floats:
        """Decode the stored vector of id `key` into (d,) float32: see `reconstruct_batch`."""
        vector: Floats = self.reconstruct_batch(np.array([as_integer(key, "key")]))[0]
        return vector

    def reconstruct_batch(self, key: Any) -> Floats:
        """Decode the stored vectors of ids `key` (n,) into (n, d) float32.

        Raises InputError for an id that is not stored, StateError for an encoder that cannot be
        undone, ShardError where a shard does not answer that may have one.
        """
        keys = as_array(key, "key")
        keys = as_free_ids(keys if keys.size else keys.astype(np.int64), "key", least=None)
        if not self._codec.encoder.can_decode:
            raise StateError("expected an encoder that can be undone, to decode vectors")
        with self._pool.using() as serving:
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
        self, serving: Serving, end: float, name: str, *args: Any, partial: bool = True
    ) -> Answers:
        """Call a method of every shard."""
        questions, turn, piece = [], next(self._turn), packed(name, *args)
        for shard, workers in serving.workers.items():
            at = turn % len(workers)
            questions.append(Question(shard.name, workers[at:] + workers[:at], piece))
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
        for name in ("max_codes", "search_type"):
            if (got := getattr(params, name, 0)) != 0:
                raise InputError(f"expected {name} = 0 for shards, got {got}")
        largest = max((shard.largest for shard in self.manifest.shards), default=-1)
        return how, as_plain(params, largest)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else as_real(timeout, "timeout")

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
    for name in ("max_codes", "search_type"):
        if (got := getattr(codec, name, 0)) != 0:
            raise InputError(f"expected a codec of {name} = 0 for shards, got {got}")
    return codec
