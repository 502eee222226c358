"""Binary files: replaced whole, read in order and never further than they go; checksums."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from deepq._common.errors import FormatError, KindError
from deepq._common.types import Codes

PathOrFile = str | os.PathLike[str] | BinaryIO

_CHUNK = 1 << 20  # stays in the processor's cache between reading and checking


def checksum(data: Any) -> int:
    """XXH3, 64 bits, of bytes or of an array."""
    return xxhash.xxh3_64_intdigest(data)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file, unbuffered, which takes the place of `path` in the end, or is removed.

    It is on the disk before that, so the path holds the old file or the new one whatever happens.
    A link stays, and so do the permissions. A process that is killed leaves a file `.deepq-*.tmp`.

    Raises
    ------
    OSError
        If the file cannot be written, or if there is a folder, a pipe or a device.
    """
    path = Path(os.path.realpath(path))
    refuse_special(path)
    temporary = path.with_name(f".deepq-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb", buffering=0) as file:
            yield file
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def refuse_special(path: Path) -> None:
    """Raise OSError if there is a folder, a pipe or a device, which may block or be replaced."""
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, "expected a regular file, got another kind", str(path))


def write_whole(file: BinaryIO, piece: bytes | memoryview) -> None:
    """Write every byte, also to an unbuffered file, which may take fewer at a time.

    Raises OSError if it takes none, or does not say how many.
    """
    rest = memoryview(piece)
    while rest:
        count = file.write(rest)
        if not count:
            raise OSError(errno.EIO, f"expected a file that takes bytes, got one that says {count}")
        rest = rest[count:]


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


class Reader:
    """A seekable binary file, of which nothing is allocated that is not there.

    Attributes
    ----------
    size, at : int
        Bytes of the file, and how many of them have been read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self.at = 0

    @property
    def left(self) -> int:
        """How many bytes follow."""
        return self.size - self.at

    def take(self, count: int, what: str) -> bytes:
        """Read `count` bytes. Raises FormatError, which names `what`, where there are fewer."""
        return self.numbers(count, "u1", what).tobytes()

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        """Read a struct."""
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))

    def numbers(self, count: int, dtype: str, what: str) -> NDArray[Any]:
        """Read an array (count,)."""
        width = np.dtype(dtype).itemsize
        start = self.skip(count * width, what)
        array = np.empty(count, dtype)
        fill(self.file, start, array.view("u1"))
        return array

    def skip(self, count: int, what: str) -> int:
        """Pass over `count` bytes; return where they are."""
        if count > self.left:
            raise FormatError(f"{what} of {count} bytes where the file has {self.left}")
        self.at += count
        return self.at - count

    def pad(self, multiple: int) -> None:
        """Pass over the zeros that fill up to a multiple of so many bytes."""
        if any(self.take(-self.at % multiple, "padding")):
            raise FormatError(f"padding that is not zero before byte {self.at}")

    def end(self) -> None:
        """Raise FormatError if anything follows."""
        if self.left:
            raise FormatError(f"{self.left} bytes too many")


class InFile:
    """Bytes, (n, width) or (n,), that are still in a file.

    Parameters
    ----------
    file : binary file
        As in `Reader`.
    at : int
        Where they begin.
    shape : tuple of int
        How many there are.
    wanted : int, optional
        Their checksum, where they have one in all.
    checks : bool
        Whether what is read is compared with checksums.
    maps : bool
        Whether they are to stay in the file, which has a descriptor then.
    """

    def __init__(
        self,
        file: BinaryIO,
        at: int,
        shape: tuple[int, ...],
        wanted: int | None = None,
        *,
        checks: bool = False,
        maps: bool = False,
    ) -> None:
        self.file, self.at, self.shape = file, at, shape
        self.wanted, self.checks, self.maps = wanted, checks, maps

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, out: Codes) -> None:
        """Fill an array of that shape. Raises FormatError if the checksum is another."""
        found = fill(self.file, self.at, out.reshape(-1), checks=self.checks)
        if self.checks and found != self.wanted:
            raise FormatError("damaged codes")

    def part(self, first: int, end: int) -> Codes:
        """Read some bytes of (n,)."""
        out = np.empty(end - first, np.uint8)
        fill(self.file, self.at + first, out)
        return out

    def map(self) -> Codes:
        """Return a read-only array over the file."""
        if 0 in self.shape:
            return np.empty(self.shape, np.uint8)
        return np.memmap(self.file, np.uint8, "r", self.at, self.shape)


def fill(file: BinaryIO, at: int, out: Codes, *, checks: bool = False) -> int | None:
    """Fill an array (n,) of bytes with those from `at` on; return their checksum if asked to."""
    file.seek(at)
    state, rest = xxhash.xxh3_64(), out.data
    while rest:
        count = file.readinto(rest[:_CHUNK] if checks else rest)  # type: ignore[attr-defined]
        if not count:
            raise FormatError("a file that became shorter while it was read")
        if checks:
            state.update(rest[:count])
        rest = rest[count:]
    return state.intdigest() if checks else None


@contextmanager
def opened(path_or_file: PathOrFile) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path; make the rest of a file object, which may be a stream, a seekable one."""
    if isinstance(path_or_file, str | os.PathLike):
        refuse_special(Path(path_or_file))
        with Path(path_or_file).open("rb") as file:
            yield file, str(path_or_file)
        return
    require_method(path_or_file, "read")
    content = path_or_file.read()
    if not isinstance(content, bytes):
        raise KindError(f"expected a binary file, got one of {type(content).__name__}")
    yield io.BytesIO(content), getattr(path_or_file, "name", "the file")


def require_method(file: Any, name: str) -> None:
    """Raise KindError where a file object lacks a method."""
    if not hasattr(file, name):
        raise KindError(f"expected a path or a binary file, got {type(file).__name__}")
