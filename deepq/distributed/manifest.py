"""What lies in a folder of shards: a JSON file that is written last."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from deepq._common.errors import FormatError, InputError, KindError, StateError
from deepq._common.safe_files import replacing, write_whole
from deepq._common.types import Ids
from deepq.files.index_files import read_index
from deepq.index.steps import INDEXES, stored_ids

NAME = "manifest.json"
_FORMAT, _VERSION = "deepq shards", 1
_CHUNK = 1 << 22


@dataclass(frozen=True, order=True)
class Shard:
    """A part of the stored vectors, in an index file of its own.

    Attributes
    ----------
    name : str
        Of its file, in the folder of the manifest.
    rows : int
        Vectors in it.
    least, largest : int
        Of its ids; 0 and -1 of none.
    ids : str
        Where they are: "successive" from `least` on, "inside" the file, or the name of a .npy file,
        which has them in ascending order.
    checksum : str
        XXH3 of the file, and of that with ids, 16 hexadecimal digits.
    """

    name: str
    rows: int
    least: int
    largest: int
    ids: str
    checksum: str

    @property
    def files(self) -> list[str]:
        """Names of its files: of the index, and of ids if they are in one of their own."""
        return [self.name] if self.ids in ("successive", "inside") else [self.name, self.ids]

    def checksum_in(self, folder: Path) -> str:
        """Read its files, and return their checksum."""
        return file_checksum(*(folder / name for name in self.files))

    def is_whole_in(self, folder: Path) -> bool:
        """Whether its files are there, and have this checksum."""
        try:
            return self.checksum_in(folder) == self.checksum
        except FileNotFoundError:
            return False

    def ids_in(self, folder: Path) -> Ids | None:
        """Ids (rows,) by position; None where they are inside the index."""
        if self.ids == "inside":
            return None
        if self.ids == "successive":
            return np.arange(self.least, self.largest + 1)
        return load_ids(folder / self.ids, self.rows)

    def sorted_ids(self, folder: Path, network: Any = None) -> Ids:
        """Ids (rows,) in ascending order, wherever they are."""
        ids = self.ids_in(folder)
        if ids is None:
            ids = stored_ids(read_index(folder / self.name, network, mmap=True))
        return ids


@dataclass(frozen=True)
class Manifest:
    """A folder of shards of one codec. It does not change: `including` and `without` make others.

    Attributes
    ----------
    folder : Path
        Where all files lie; every worker must see it.
    fingerprint : str
        Of the codec and of every shard: see `DeepQuantIndex.fingerprint`.
    codec : str
        Name of the file of the index without vectors.
    shards : tuple of Shard
    plan : dict or None
        What `encode_dataset` has made them of, in JSON values; None if they come from elsewhere.
    """

    folder: Path
    fingerprint: str
    codec: str
    shards: tuple[Shard, ...] = ()
    plan: dict[str, Any] | None = None

    @property
    def ntotal(self) -> int:
        """Vectors in all shards."""
        return sum(shard.rows for shard in self.shards)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Manifest:
        """Read the manifest of a folder; `path` is the folder or its ``manifest.json``.

        Raises
        ------
        FileNotFoundError
            If there is none: shards are whole when there is one.
        FormatError
            If it is not a manifest, of another version, or names a file outside of its folder.
        """
        path = Path(path)
        path = path / NAME if path.is_dir() else path
        if not path.exists():
            raise FileNotFoundError(f"expected a manifest of shards at {path}, got none")
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format"] != _FORMAT:
                raise FormatError(f"the format {content['format']!r}")
            if content["version"] != _VERSION:
                raise FormatError(f"version {content['version']!r}")
            shards = tuple(Shard(**shard) for shard in content["shards"])
            for name in (content["codec"], *(n for s in shards for n in s.files)):
                if Path(name).name != name:
                    raise FormatError(f"a file outside of the folder: {name!r}")
            return cls(
                path.resolve().parent,
                str(content["fingerprint"]),
                content["codec"],
                shards,
                content["plan"],
            )
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise FormatError(
                f"expected a manifest of shards, version {_VERSION}, at {path}, got {error}"
            ) from error

    def write(self) -> None:
        """Write it into its folder; one that is there is replaced whole, or left as it was."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "fingerprint": self.fingerprint,
            "codec": self.codec,
            "shards": [asdict(shard) for shard in self.shards],
            "plan": self.plan,
        }
        with replacing(self.folder / NAME) as file:
            write_whole(file, (json.dumps(content, indent=1) + "\n").encode())

    def including(self, *names: str, network: Any = None) -> Manifest:
        """Return one with more shards: files that `write_index` wrote into the folder.

        A flat shard's ids follow the largest so far, those of cells are in the file; `network` is
        as for `read_index`. Raises InputError for a shard of another encoder or codebook, one that
        is there, or an id twice, and as `read_index`.
        """
        manifest = self
        for name in names:
            if name in (shard.name for shard in manifest.shards):
                raise InputError(f"expected a shard that is not there yet, got {name!r}")
            first = max((shard.largest for shard in manifest.shards), default=-1) + 1
            shard = described(self.folder, name, self.fingerprint, first, network)
            manifest = replace(manifest, shards=(*manifest.shards, shard))
        manifest.require_distinct(network)
        return manifest

    def without(self, *names: str) -> Manifest:
        """Return one without some shards. Raises InputError for a name that is not there."""
        known = {shard.name for shard in self.shards}
        if unknown := sorted(set(names) - known):
            there = ", ".join(sorted(known))
            raise InputError(f"expected names of shards, {there}, got {', '.join(unknown)}")
        return replace(self, shards=tuple(s for s in self.shards if s.name not in names))

    def require_distinct(self, network: Any = None) -> None:
        """Raise InputError if an id is in two shards."""
        known = sorted((s.least, s.largest, s) for s in self.shards if s.rows)
        for (_, before, one), (least, _, other) in itertools.pairwise(known):
            if least <= before:
                a, b = (shard.sorted_ids(self.folder, network) for shard in (one, other))
                if np.intersect1d(a, b, assume_unique=True).size:
                    names = f"{one.name} and {other.name}"
                    raise InputError(f"expected every id in one shard, got some in {names}")


def as_manifest(manifest: Manifest | str | os.PathLike[str]) -> Manifest:
    """Read a manifest, unless it is one."""
    return manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)


def described(folder: Path, name: str, fingerprint: str, first: int, network: Any = None) -> Shard:
    """Read the index in a file whole, and say what a manifest says of it.

    Ids of a flat one are in ``NAME.ids.npy``, or else follow on from `first`. Raises InputError for
    one of another fingerprint, and as `read_index`.
    """
    if Path(name).name != name:
        raise InputError(f"expected the name of a file in {folder}, got {name!r}")
    path, ids_path = folder / name, folder / ids_name(name)
    index = read_index(path, network)
    found = require_codec(index)
    if found != fingerprint:
        raise InputError(
            f"expected a shard of the fingerprint {fingerprint}, got {found} in {path}"
        )
    rows = index.ntotal
    if index.kind != "flat":
        least, largest = bounds(stored_ids(index))
        return Shard(name, rows, least, largest, "inside", file_checksum(path))
    if ids_path.exists():
        least, largest = bounds(load_ids(ids_path, rows))
        return Shard(name, rows, least, largest, ids_path.name, file_checksum(path, ids_path))
    return Shard(name, rows, first, first + rows - 1, "successive", file_checksum(path))


def ids_name(name: str) -> str:
    """Name of the file of ids beside that of a shard."""
    return f"{name}.ids.npy"


def bounds(ids: Ids) -> tuple[int, int]:
    """Least and largest of ids; 0 and -1 of none."""
    return (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)


def file_checksum(*paths: Path) -> str:
    """XXH3 of files, one after the other, in 16 hexadecimal digits."""
    state = xxhash.xxh3_64()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                state.update(piece)
    return state.hexdigest()


def load_ids(path: Path, rows: int) -> Ids:
    """Ids (rows,) int64 of a .npy file, mapped. Raises FormatError for other ones."""
    try:
        ids: Ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise FormatError(f"expected ids in {path}, got {error}") from error
    if ids.dtype != np.int64 or ids.shape != (rows,):
        raise FormatError(f"expected {rows} ids of int64 in {path}, got {ids.dtype} {ids.shape}")
    return ids


def require_codec(index: Any) -> str:
    """Return the fingerprint of a trained index. Raises KindError, StateError for another."""
    if not isinstance(index, INDEXES):
        raise KindError(
            f"expected a DeepQuantIndex or DeepQuantIVFIndex, got {type(index).__name__}"
        )
    if not index.is_trained:
        raise StateError("expected a trained index, got one before train()")
    return str(index.fingerprint)


def network_of(index: Any) -> Any:
    """Return the encoder of a network in an index, for `read_index`; None if there is none."""
    return next((each for each in index.encoder.members if hasattr(each, "network")), None)
