"""Many vectors encoded by many workers, into shards that a stop or a kill leaves whole."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepq._common.checks import as_size
from deepq._common.errors import InputError
from deepq._common.safe_files import checksum, replacing, write_whole
from deepq._common.types import Codes
from deepq.distributed import engine
from deepq.distributed.manifest import (
    NAME,
    Manifest,
    Shard,
    described,
    ids_name,
    network_of,
    require_codec,
)
from deepq.distributed.sources import (
    Block,
    Files,
    Opener,
    Stream,
    as_row_ids,
    as_source,
    require_ids,
)
from deepq.files.index_files import write_index

if TYPE_CHECKING:
    from deepq.index.steps import Index

CODEC, _UNFINISHED = "codec.dpq", "unfinished.json"
_AHEAD = 2  # blocks for each worker that are on their way


class Encoder(engine.Opened):
    """A worker: the codec, and the files it reads."""

    def open(self, index: Index, opener: Opener | None, n: int | None, gpus: float) -> None:
        """Take the codec, and open n rows, unless they are sent."""
        if gpus:
            for member in index.encoder.members:
                if hasattr(member, "network"):
                    member.network.to("cuda")
        self._index = index
        self._rows: Any = None if opener is None else opener()
        if self._rows is not None and len(self._rows) != n:
            raise InputError(f"expected {n} rows on every worker, got {len(self._rows)}")

    def encode(self, start: int, stop: int, rows: Any = None) -> Codes:
        """Codes (n, code_size) uint8 of rows that are sent, or else read here."""
        return self._index.sa_encode(self._rows[start:stop] if rows is None else rows)


def encode_dataset(
    source: Any,
    index: Index,
    out: str | os.PathLike[str],
    *,
    column: str | None = None,
    ids: Any = None,
    rows_per_shard: int = 1_000_000,
    rows_per_block: int = 1 << 16,
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    timeout: float = 600.0,
    verbose: bool = False,
) -> Manifest:
    """Encode rows on a Ray cluster, and write the codes as shards and a manifest.

    It can be stopped at any moment, killed too: the same call goes on after the last whole shard.
    The shards are the same whatever the number of workers, and whichever of them died.

    Parameters
    ----------
    source : paths, RowSource or ray.data.Dataset
        Files that every worker sees, opened by `datasets.read_vectors`; rows that this opened, or
        pictures that `datasets.read_images` did; or any Ray Dataset, whose rows pass through this
        process, in their order.
    index : DeepQuantIndex or DeepQuantIVFIndex
        A trained one; what it stores does not matter.
    out : path
        A folder that this process sees, and that those that search will see.
    column : str, optional
        Of the vectors, where there are several.
    ids : (n,) array of int64, path or str, optional
        By default rows are numbered. An array or a .npy file; of a Ray Dataset a column's name.
    rows_per_shard, rows_per_block : int
        Of a file, and of what a worker holds at a time.
    workers : int, optional
        By default one for each CPU of the cluster but one, which reads and writes.
    cpus, gpus : float
        Of a worker. With a GPU the networks in the encoder run there.
    timeout : float
        Seconds until workers must have started, and within which a block must come.
    verbose : bool
        Whether to show a bar.

    Returns
    -------
    Manifest
        Also written, last, to ``manifest.json`` in `out`.

    Raises
    ------
    ImportError
        If Ray is missing.
    KindError, StateError, DimensionError, InputError
        If an argument is of the wrong kind, the index is not trained, rows do not fit it, an id
        comes twice, or the folder has shards of something else. All that can be known is checked
        before anything starts.
    FileNotFoundError
        If a worker does not see the files.
    TimeoutError
        If workers or blocks do not come in time: the shards that are whole stay.
    """
    fingerprint = require_codec(index)
    shard_rows = as_size(rows_per_shard, "rows_per_shard")
    block_rows = as_size(rows_per_block, "rows_per_block")
    workers = None if workers is None else as_size(workers, "workers")
    opened = as_source(source, index.d, column, ids)
    numbers = as_row_ids(ids, opened.n) if isinstance(opened, Files) else None
    plan = {**opened.plan, "rows_per_shard": shard_rows, "fingerprint": fingerprint}
    if numbers is not None:
        plan["ids"] = f"{len(numbers)} of the checksum {checksum(numbers):016x}"
    folder = Path(out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    _require_same(folder, plan)
    writer = _Writer(folder, index.copy_empty(), shard_rows, fingerprint)
    if (folder / NAME).exists():
        manifest = Manifest.read(folder)
        if all(shard.is_whole_in(folder) for shard in manifest.shards):
            return manifest
    with replacing(folder / _UNFINISHED) as file:
        write_whole(file, json.dumps(plan).encode())
    write_index(writer.codec, folder / CODEC)
    done = writer.whole(opened.n)
    total = None if opened.n is None else opened.n - sum(s.rows for s in done.values())
    with _bar(total, verbose) as bar:
        blocks = iter(()) if total == 0 else opened.blocks(block_rows, shard_rows, set(done))
        how = _Workers(workers, cpus, gpus, timeout)
        for block, codes in _encoded(writer.codec, opened, blocks, how):
            own = block.ids
            if numbers is not None:
                own = numbers[block.start : block.stop]
            writer.take(block.start, codes, own)
            bar.update(len(codes))
    writer.finish()
    shards = tuple(each for _, each in sorted((done | writer.made).items()))
    manifest = Manifest(folder, fingerprint, CODEC, shards, plan)
    manifest.require_distinct(network_of(index))
    manifest.write()
    (folder / _UNFINISHED).unlink()
    return manifest


class _Workers(NamedTuple):
    """How many encode, what each takes, and how long they are waited for."""

    number: int | None
    cpus: float
    gpus: float
    timeout: float


def _require_same(folder: Path, plan: dict[str, Any]) -> None:
    """Raise InputError if the folder has something else in it than shards of this plan."""
    before: Any = None
    if (folder / NAME).exists():
        before = Manifest.read(folder).plan
    elif (folder / _UNFINISHED).exists():
        before = json.loads((folder / _UNFINISHED).read_text("utf-8"))
    elif any(folder.iterdir()):
        raise InputError(f"expected an empty folder, or one of this function, got {folder}")
    else:
        return
    if before != plan:
        differing = sorted(
            n for n in {*plan, *(before or {})} if plan.get(n) != (before or {}).get(n)
        )
        raise InputError(
            f"expected the same as when {folder} was begun, got another {', '.join(differing)}"
        )


def _encoded(
    codec: Index,
    opened: Files | Stream,
    blocks: Iterator[Block],
    how: _Workers,
) -> Iterator[tuple[Block, Codes]]:
    """Yield blocks in order, with their codes."""
    ray = engine.connected()
    workers, cpus, gpus, timeout = how
    if workers is None:
        workers = max(1, int((ray.cluster_resources().get("CPU", 1) - 1) / max(cpus, 1e-3)))
    shared = ray.put(codec)
    pool = engine.actors(
        Encoder, [(shared, opened.opener, opened.n, gpus)] * workers, num_cpus=cpus, num_gpus=gpus
    )
    try:
        engine.started(pool, timeout, cpus, gpus)
        free, waiting, ready = list(pool) * _AHEAD, {}, {}
        order: list[Block] = []
        more = True
        while more or order:
            while more and free and len(order) < 2 * _AHEAD * workers:
                block = next(blocks, None)
                if block is None:
                    more = False
                    break
                worker = free.pop()
                call = worker.encode.remote(block.start, block.stop, block.rows)
                waiting[call] = block.start, worker
                order.append(Block(block.start, block.stop, None, block.ids))
            if waiting and (not order or order[0].start not in ready):
                calls, _ = ray.wait(list(waiting), timeout=timeout)
                if not calls:
                    raise TimeoutError(
                        f"expected a block of {order[0].stop - order[0].start} rows within "
                        f"{timeout:g} s, got none from {len(pool)} workers"
                    )
                for call in calls:
                    start, worker = waiting.pop(call)
                    ready[start] = engine.own_error(ray.get, call)
                    free.append(worker)
            while order and order[0].start in ready:
                block = order.pop(0)
                yield block, ready.pop(block.start)
    finally:
        engine.stop(pool)


class _Writer:
    """Puts codes that come in order into shards, and each of these into its file."""

    def __init__(self, folder: Path, codec: Index, rows: int, fingerprint: str) -> None:
        self.folder, self.codec, self._rows = folder, codec, rows
        self._fingerprint = fingerprint
        self.made: dict[int, Shard] = {}
        self._codes: list[Codes] = []
        self._ids: list[Any] = []
        self._number = -1

    def whole(self, n: int | None) -> dict[int, Shard]:
        """Shards of an earlier run by number: whole ones, which are read to tell."""
        found: dict[int, Shard] = {}
        for path in sorted(self.folder.glob("shard-*.dpq")):
            number = int(path.stem.rpartition("-")[2])
            expected = self._rows if n is None else min(self._rows, n - number * self._rows)
            try:
                shard = self._described(number)
            except (ValueError, OSError):  # half written or damaged: it is made again
                continue
            if shard.rows == expected:
                found[number] = shard
        return found

    def take(self, start: int, codes: Codes, ids: Any) -> None:
        """Take the next codes: rows from `start` on."""
        number = start // self._rows
        if number != self._number:
            self.finish()
            self._number = number
        if ids is not None:
            require_ids(ids, len(codes))
        self._codes.append(codes)
        self._ids.append(ids)

    def finish(self) -> None:
        """Write the shard whose codes have come."""
        if not self._codes:
            return
        codes, ids, part = np.concatenate(self._codes), None, self.codec.copy_empty()
        if self._ids[0] is not None:
            ids = np.concatenate(self._ids).astype(np.int64)
            order = np.argsort(ids, kind="stable")
            ids, codes = ids[order], codes[order]
            if (np.diff(ids) == 0).any():
                raise InputError("expected every id once, got some twice")
        if part.kind == "flat":
            part.add_sa_codes(codes)
            if ids is not None:
                with replacing(self.folder / ids_name(_name(self._number))) as file:
                    write_whole(file, _npy(ids))
        else:
            first = self._number * self._rows
            part.add_sa_codes(codes, np.arange(first, first + len(codes)) if ids is None else ids)
        write_index(part, self.folder / _name(self._number))
        self.made[self._number] = self._described(self._number)
        self._codes, self._ids = [], []

    def _described(self, number: int) -> Shard:
        network, first = network_of(self.codec), number * self._rows
        return described(self.folder, _name(number), self._fingerprint, first, network)


def _name(number: int) -> str:
    return f"shard-{number:05d}.dpq"


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _bar(total: int | None, verbose: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="encode", unit=" vectors", unit_scale=True, disable=not verbose)
