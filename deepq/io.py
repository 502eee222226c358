"""Index files: data only, checked, and replaced whole or not at all.

Layout, little-endian: a head (`_HEAD`: magic, version, checksum and length of the JSON header,
length of the whole file), the JSON header, then the arrays one after the other; each of these is
padded with zeros to a multiple of 64 bytes. In the header "index" is the state, where an array
stands as {"$array": number}, and "arrays" lists dtype, shape and checksum of each: CRC-32.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from deepq._checks import FormatError, KindError
from deepq._tree import put_arrays, take_arrays
from deepq.encoders import hand_back
from deepq.index import DeepQuantIndex
from deepq.interop import from_faiss
from deepq.state import get_state, make_index

MAGIC = b"deepq\r\n\x1a"
_FAISS = (b"IxPT", b"IxPq")  # an IndexPreTransform, an IndexPQ
VERSION = 1
_HEAD = struct.Struct("<8sIIQQ")  # magic, version, CRC of the header, its length, the file's
_ALIGN = 64
_MOST_HEADER = 1 << 24
_DTYPES = ("|u1", "<f4")

PathOrFile = str | os.PathLike[str] | BinaryIO


def write_index(index: DeepQuantIndex, path_or_file: PathOrFile) -> None:
    """Save an index; a file that exists is replaced whole, or left as it was on any failure.

    Parameters
    ----------
    index : DeepQuantIndex
        Trained or not.
    path_or_file : str, path or binary file open for writing
        A file object is written to from its position on, without the promise above.

    Raises
    ------
    KindError
        If `index` is not a DeepQuantIndex.
    OSError
        If the file cannot be written.
    """
    if not isinstance(index, DeepQuantIndex):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    pieces = _pieces(get_state(index))
    if not isinstance(path_or_file, str | os.PathLike):
        for piece in pieces:
            _write_all(path_or_file, piece)
        return
    path = Path(os.path.realpath(path_or_file))  # a link stays, what it points to is replaced
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_index(path_or_file: PathOrFile, encoder: Any = None) -> DeepQuantIndex:
    """Load an index that `write_index` saved, or `faiss.write_index`.

    From a file of faiss's it is what `from_faiss` makes of its content.

    Parameters
    ----------
    path_or_file : str, path or binary file open for reading
        Nothing in it is executed.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, which must be handed back where its class is not one of
        `deepq.networks`, since files hold the weights only. It is copied and gets those; it must be
        of the class that was written. Ignored where there is no network in the file.

    Raises
    ------
    FormatError
        (ValueError, RuntimeError) If it is not a whole, undamaged index of a known version, or if a
        network must be handed back, or is another than the one that was written.
    OSError
        If the file cannot be read.
    """
    if not isinstance(path_or_file, str | os.PathLike):
        return _parse(path_or_file.read(), getattr(path_or_file, "name", "the file"), encoder)
    return _parse(Path(path_or_file).read_bytes(), str(path_or_file), encoder)


# ---- writing -------------------------------------------------------------------------------------


def _write_all(file: BinaryIO, piece: bytes | memoryview) -> None:
    """Write every byte, also to an unbuffered file, which may take fewer at a time."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _pieces(state: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file in order."""
    arrays: list[NDArray[Any]] = []
    fields = take_arrays(state, arrays)
    for array in arrays:
        if array.dtype.str not in _DTYPES:
            raise KindError(f"expected arrays of float32 or uint8, got {array.dtype}")
    listing = [
        {"dtype": a.dtype.str, "shape": a.shape, "crc": zlib.crc32(_bytes(a))} for a in arrays
    ]
    header = json.dumps({"index": fields, "arrays": listing}, allow_nan=False).encode()
    sizes = [_HEAD.size, len(header), *(a.nbytes for a in arrays)]
    total = sum(_padded(size) for size in sizes)
    head = _HEAD.pack(MAGIC, VERSION, zlib.crc32(header), len(header), total)
    pieces: list[bytes | memoryview] = [head, header, *map(_bytes, arrays)]
    for piece in pieces:
        yield piece
        yield bytes(_padded(len(piece)) - len(piece))


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


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


# ---- reading -------------------------------------------------------------------------------------


def _parse(data: bytes, name: str, encoder: Any) -> DeepQuantIndex:
    """Check every length and checksum, then make the index."""
    if data.startswith(_FAISS):
        return _parse_faiss(data, name, encoder)
    try:
        if len(data) < _HEAD.size or not data.startswith(MAGIC):
            raise FormatError("no deepq index")
        _, version, crc, length, total = _HEAD.unpack_from(data)
        if version != VERSION:
            raise FormatError(f"format version {version}, this deepq reads {VERSION}")
        if total != len(data) or length > _MOST_HEADER or _padded(_HEAD.size) + length > len(data):
            raise FormatError(f"{len(data)} bytes instead of {total}")
        at = _padded(_HEAD.size)
        header = data[at : at + length]
        if zlib.crc32(header) != crc:
            raise FormatError("a damaged header")
        document = json.loads(header)
        arrays = list(_arrays(data, at + _padded(length), document["arrays"]))
        state = put_arrays(document["index"], arrays)
        state["encoder"] = hand_back(state["encoder"], encoder)
        return make_index(state, DeepQuantIndex)
    except (FormatError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise FormatError(f"expected a whole deepq index in {name}, got {error}") from error


def _parse_faiss(data: bytes, name: str, encoder: Any) -> DeepQuantIndex:
    try:
        return from_faiss(faiss.deserialize_index(np.frombuffer(data, np.uint8)), encoder)
    except (TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise FormatError(
            f"expected an IndexPQ or what faiss.write_index made of a DeepQuantIndex in {name}, "
            f"got {error}"
        ) from error


def _arrays(data: bytes, at: int, listing: list[dict[str, Any]]) -> Iterator[NDArray[Any]]:
    """Yield the arrays that lie one after the other from `at` on, which must end the file."""
    for number, entry in enumerate(listing):
        if entry["dtype"] not in _DTYPES or any(
            type(n) is not int or n < 0 for n in entry["shape"]
        ):
            raise FormatError(f"an unknown array {number}")
        count = int(np.prod([1, *entry["shape"]], dtype=object))
        size = count * np.dtype(entry["dtype"]).itemsize
        if at + _padded(size) > len(data):
            raise FormatError(f"array {number} cut off")
        if zlib.crc32(memoryview(data)[at : at + size]) != entry["crc"]:
            raise FormatError(f"a damaged array {number}")
        yield np.frombuffer(data, entry["dtype"], count, at).reshape(entry["shape"])
        at += _padded(size)
    if at != len(data):
        raise FormatError(f"{len(data) - at} bytes too many")
