"""Index files: data only, checked, and replaced whole or not at all.

Layout, little-endian: a head (magic, version, flags, checksum and length of the JSON header, length
of the whole file), the JSON header, then the arrays one after the other; each of these is padded
with zeros to a multiple of 64 bytes. In the header "index" is the state, where an array stands as
{"$array": number}, and "arrays" lists dtype, shape and checksum of each: XXH3 in hexadecimal.
docs/format.md has it in full.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from deepq import _faiss_files, _mapping
from deepq._common.checks import as_flag
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.plain_data import put_arrays, take_arrays
from deepq._common.safe_files import (
    InFile,
    Reader,
    checksum,
    refuse_special,
    replacing,
    write_whole,
)
from deepq.encoders.plain import hand_back
from deepq.index import DeepQuantIndex, restore
from deepq.interop import from_plain
from deepq.state import DTYPES, live_state, make_index, require_known

MAGIC = b"deepq\r\n\x1a"
VERSION = 1
_HEAD = "<8sIIQQQ"  # magic, version, flags; checksum and length of the header, length of the file
_ALIGN = 64
_MOST_HEADER = 1 << 24
# What may be raised on the way from the content of a file to objects.
_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, ArithmeticError, RuntimeError),
)

PathOrFile = str | os.PathLike[str] | BinaryIO


def write_index(index: DeepQuantIndex, path_or_file: PathOrFile) -> None:
    """Save an index; a file that exists is replaced whole, or left as it was on any failure.

    Parameters
    ----------
    index : DeepQuantIndex
        Trained or not. Changes wait until it is written.
    path_or_file : str, path or binary file open for writing
        A file object is written to from its position on, without the promise above.

    Raises
    ------
    KindError
        If `index` is not a DeepQuantIndex, or `path_or_file` neither a path nor a file, or if the
        state of the encoder is not arrays and JSON values.
    InputError
        If all but its arrays takes more than 16 MB: a very long `history`. If a setting, or a
        number in `history`, is NaN or infinite, which JSON does not hold.
    OSError
        If the file cannot be written, or a file object does not say how many bytes it took.
    """
    if not isinstance(index, DeepQuantIndex):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    if not isinstance(path_or_file, str | os.PathLike):
        _require_method(path_or_file, "write")
        _write(index, path_or_file)
        return
    with replacing(path_or_file) as file:
        _write(index, file)


def read_index(
    path_or_file: PathOrFile, encoder: Any = None, *, mmap: bool = False, verify: str = "full"
) -> DeepQuantIndex:
    """Load an index that `write_index` saved, or `faiss.write_index`.

    From a file of faiss's, of an IndexPQ alone or behind transforms, it is what `from_faiss` makes
    of its content. Such a file has no checksums: its sizes are checked, its numbers cannot be.

    Parameters
    ----------
    path_or_file : str, path or binary file open for reading
        Nothing in it is executed.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, which must be handed back where its class is not one of
        `deepq.networks`, since files hold the weights only. It is copied and gets those; it must be
        of the class that was written. Ignored where there is no network in the file.
    mmap : bool
        Whether the codes stay in the file, mapped into memory that processes share. Such an index
        takes no time to open, and does not change: what would change its codes raises, through
        faiss's composites too, except `reset`, which lets go of the file. A copy is in memory. The
        file must not be changed in place; `write_index` replaces it.
    verify : "full" or "header"
        "header" checks all but the checksum of the codes, which `mmap` never does.

    Raises
    ------
    FormatError
        (ValueError, RuntimeError) If it is not a whole, undamaged index of a known version, or if a
        network must be handed back, or is another than the one that was written.
    OSError
        If the file cannot be read.
    InputError
        If `verify` is another word, or a file object is to be mapped.
    StateError
        If codes cannot be mapped with this faiss.
    """
    if not (isinstance(verify, str) and verify in ("full", "header")):
        raise InputError(f"expected verify='full' or 'header', got {verify!r}")
    if as_flag(mmap, "mmap"):
        _mapping.require()
        if not isinstance(path_or_file, str | os.PathLike):
            raise InputError(f"expected a path with mmap, got a {type(path_or_file).__name__}")
    expected = "a whole deepq index"
    with _opened(path_or_file) as (file, name):
        is_of_faiss = file.read(4) in _faiss_files.INDEXES
        try:
            if is_of_faiss:
                expected = "an IndexPQ, alone or behind transforms,"
                return from_plain(_faiss_files.parse(Reader(file), encoder, maps=mmap))
            checks = verify == "full" and not mmap
            return make_index(
                _read(Reader(file), encoder, maps=mmap, checks=checks), DeepQuantIndex
            )
        except _FAULTS as error:
            raise FormatError(f"expected {expected} in {name}, got {error}") from error


def load_pickle(
    path_or_file: PathOrFile, *, buffers: Iterable[Any] | None = None
) -> DeepQuantIndex:
    """Load the pickle of an index, and run nothing that it may contain.

    ``pickle.load`` does what a pickle says; this refuses all but the data of a DeepQuantIndex. So
    pickles of subclasses, and of networks and objectives of your own classes, are refused too.

    Parameters
    ----------
    path_or_file : str, path or binary file open for reading
        It holds one pickle, of any protocol; ``joblib.dump`` writes such files.
    buffers : iterable of buffers, optional
        Those that ``pickle.dump`` gave to its ``buffer_callback``.

    Raises
    ------
    FormatError
        (ValueError, RuntimeError) If the pickle holds anything else, which it names, or is damaged.
    OSError
        If the file cannot be read.
    """
    with _opened(path_or_file) as (file, name):
        try:
            index = _Unpickler(file, buffers=buffers).load()
            if not isinstance(index, DeepQuantIndex):
                raise FormatError(f"one of a {type(index).__name__}")
        except (OSError, MemoryError):
            raise
        except Exception as error:  # of a damaged pickle it may be of any class
            got = str(error) if isinstance(error, FormatError) else repr(error)
            raise FormatError(f"expected the pickle of an index in {name}, got {got}") from error
    return index


# ---- writing -------------------------------------------------------------------------------------


def _write(index: DeepQuantIndex, file: BinaryIO) -> None:
    with index._lock.reading():
        for piece in _pieces(live_state(index)):
            write_whole(file, piece)


def _pieces(state: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file in order."""
    arrays: list[NDArray[Any]] = []
    fields = take_arrays(state, arrays)
    require_known(arrays)
    listing = [
        {"dtype": a.dtype.str, "shape": a.shape, "xxh3": f"{checksum(a):016x}"} for a in arrays
    ]
    try:
        header = json.dumps({"index": fields, "arrays": listing}, allow_nan=False).encode()
    except ValueError as error:
        raise InputError(f"expected finite settings and history, got another: {error}") from error
    if len(header) > _MOST_HEADER:
        raise InputError(f"expected a header of up to {_MOST_HEADER} bytes, got {len(header)}")
    sizes = [struct.calcsize(_HEAD), len(header), *(a.nbytes for a in arrays)]
    total = sum(_padded(size) for size in sizes)
    head = struct.pack(_HEAD, MAGIC, VERSION, 0, checksum(header), len(header), total)
    pieces: list[bytes | memoryview] = [head, header, *map(_bytes, arrays)]
    for piece in pieces:
        yield piece
        yield bytes(_padded(len(piece)) - len(piece))


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _require_method(file: Any, name: str) -> None:
    if not hasattr(file, name):
        raise KindError(f"expected a path or a binary file, got {type(file).__name__}")


# ---- reading -------------------------------------------------------------------------------------


@contextmanager
def _opened(path_or_file: PathOrFile) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path; make the rest of a file object, which may be a stream, a seekable one."""
    if isinstance(path_or_file, str | os.PathLike):
        refuse_special(Path(path_or_file))
        with Path(path_or_file).open("rb") as file:
            yield file, str(path_or_file)
        return
    _require_method(path_or_file, "read")
    content = path_or_file.read()
    if not isinstance(content, bytes):
        raise KindError(f"expected a binary file, got one of {type(content).__name__}")
    yield io.BytesIO(content), getattr(path_or_file, "name", "the file")


def _read(reader: Reader, network: Any, *, maps: bool, checks: bool) -> dict[str, Any]:
    """Check every length and checksum, except of the codes, which follow later, if `checks`."""
    magic, version, flags, wanted, length, total = reader.unpack(_HEAD, "the head")
    if magic != MAGIC:
        raise FormatError("no deepq index")
    if version != VERSION:
        raise FormatError(f"format version {version}, this deepq reads {VERSION}")
    if flags or length > _MOST_HEADER or total != reader.size:
        got = f"{reader.size} bytes instead of {total}, flags {flags}"
        raise FormatError(f"{got} and a header of {length} bytes")
    reader.pad(_ALIGN)
    header = reader.take(length, "the header")
    if checksum(header) != wanted:
        raise FormatError("a damaged header")
    reader.pad(_ALIGN)
    document = json.loads(header)
    fields, names = document["index"], dict(_names(document["index"]))
    listing = [(names.get(i, f"array {i}"), entry) for i, entry in enumerate(document["arrays"])]
    arrays: list[Any] = list(_arrays(reader, listing, maps=maps, checks=checks))
    state: dict[str, Any] = put_arrays(fields, arrays)
    state["encoder"] = hand_back(state["encoder"], network)
    return state


def _names(value: Any, name: str = "") -> Iterator[tuple[int, str]]:
    """Yield the numbers of the arrays inside nested data, and where they are."""
    if isinstance(value, dict) and "$array" in value:
        yield value["$array"], name
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _names(item, f"{name}.{key}" if name else str(key))


def _arrays(
    reader: Reader, listing: list[tuple[str, Any]], *, maps: bool, checks: bool
) -> Iterator[NDArray[Any] | InFile]:
    """Yield the arrays that lie one after the other, which must end the file."""
    for name, entry in listing:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        if dtype not in DTYPES or any(type(n) is not int or n < 0 for n in shape):
            raise FormatError(f"{name} of an unknown kind")
        count, wanted = math.prod(shape), int(entry["xxh3"], 16)
        if name == "codes":
            if dtype != "|u1" or len(shape) != 2:
                raise FormatError(f"codes of shape {shape} and dtype {dtype}")
            at = reader.skip(count, name)
            yield InFile(reader.file, at, shape, wanted if checks else None, maps=maps)
        else:
            array = reader.numbers(count, dtype, name)
            if checksum(array) != wanted:
                raise FormatError(f"damaged {name}")
            yield array.reshape(shape)
        reader.pad(_ALIGN)
    reader.end()


# ---- pickles -------------------------------------------------------------------------------------

_INSTRUCTIONS = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.GLOBAL, pickle.STACK_GLOBAL),
        *(pickle.UNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
        *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        *(pickle.MARK, pickle.LIST, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.REDUCE),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    )
)


class _Bounded:
    """A file of `size` bytes, of which no more are asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.readline = file, size, file.readline

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes."""
        return self.file.read(min(count, self.size))


class _Unpickler(pickle._Unpickler):
    """Follows the instructions that pickles of ours need, and calls nothing but `restore`, once.

    The one in C takes gigabytes of memory where a few bytes say so, and a table of instructions is
    not to be had there.
    """

    dispatch = {code: pickle._Unpickler.dispatch[code] for code in _INSTRUCTIONS}  # noqa: RUF012

    def __init__(self, file: BinaryIO, buffers: Iterable[Any] | None) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        given = [memoryview(buffer).cast("B") for buffer in buffers or ()]
        self._size = size + sum(map(len, given))
        self._is_restored = False
        super().__init__(_Bounded(file, size), buffers=given)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != (restore.__module__, restore.__name__):
            raise FormatError(f"one that asks for {module}.{name}")
        return self._restore

    def _restore(self, text: str, parts: list[Any]) -> DeepQuantIndex:
        if len(text) > _MOST_HEADER or sum(map(len, parts)) > self._size:
            raise FormatError("one that holds less than it says")
        if self._is_restored:  # a few bytes would do for another copy
            raise FormatError("one of several indexes")
        self._is_restored = True
        return restore(text, parts)
