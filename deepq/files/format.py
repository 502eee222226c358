"""The bytes of an index file: a head, a JSON header, and arrays, each with its checksum.

Layout, little-endian: a head (magic, version, flags, checksum and length of the JSON header, length
of the whole file), the JSON header, then the arrays one after the other; each of these is padded
with zeros to a multiple of 64 bytes. In the header "index" is the state, where an array stands as
{"$array": number}, and "arrays" lists dtype, shape and checksum of each: XXH3 in hexadecimal, or
null where the blocks of an array have one each, in another array.
docs/format.md has it in full.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import FormatError, InputError
from deepq._common.plain_data import Blocks, join_arrays, split_arrays
from deepq._common.safe_files import (
    InFile,
    Reader,
    checksum,
)
from deepq.encoders.plain import with_network
from deepq.index.state import DTYPES, require_known

MAGIC = b"deepq\r\n\x1a"
VERSION = 1
_HEAD = "<8sIIQQQ"  # magic, version, flags; checksum and length of the header, length of the file
_ALIGN = 64
MOST_HEADER = 1 << 24
# Arrays of bytes that may be large, and stay in the file for now: their numbers of dimensions.
_CONTENT = {"codes": 2, "lists": 1}


def pieces(state: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a file in order."""
    arrays: list[NDArray[Any] | Blocks] = []
    fields = split_arrays(state, arrays)
    require_known(arrays)
    listing = [{"dtype": a.dtype.str, "shape": a.shape, "xxh3": _checksum(a)} for a in arrays]
    try:
        header = json.dumps({"index": fields, "arrays": listing}, allow_nan=False).encode()
    except ValueError as error:
        raise InputError(f"expected finite settings and history, got another: {error}") from error
    if len(header) > MOST_HEADER:
        raise InputError(f"expected a header of up to {MOST_HEADER} bytes, got {len(header)}")
    sizes = [struct.calcsize(_HEAD), len(header), *(a.nbytes for a in arrays)]
    total = sum(_padded(size) for size in sizes)
    head = struct.pack(_HEAD, MAGIC, VERSION, 0, checksum(header), len(header), total)
    parts = [head, header, *arrays]
    for part, size in zip(parts, sizes, strict=True):
        yield from _bytes(part)
        yield bytes(_padded(size) - size)


def _checksum(array: NDArray[Any] | Blocks) -> str | None:
    return None if isinstance(array, Blocks) else f"{checksum(array):016x}"


def _bytes(part: bytes | NDArray[Any] | Blocks) -> Iterator[bytes | memoryview]:
    if isinstance(part, bytes):
        yield part
    elif isinstance(part, Blocks):
        yield from (block.data for block in part.make())
    else:
        yield part.reshape(-1).view(np.uint8).data


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def read_state(reader: Reader, network: Any, *, maps: bool, checks: bool) -> dict[str, Any]:
    """Check every length and checksum, except of the codes, which follow later, if `checks`."""
    magic, version, flags, wanted, length, total = reader.unpack(_HEAD, "the head")
    if magic != MAGIC:
        raise FormatError("no deepq index")
    if version != VERSION:
        raise FormatError(f"format version {version}, this deepq reads {VERSION}")
    if flags or length > MOST_HEADER or total != reader.size:
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
    state: dict[str, Any] = join_arrays(fields, arrays)
    given = network if isinstance(network, tuple) else (network,)
    for name, own in zip(("encoder", "hasher"), given, strict=False):
        if name in state:
            state[name] = with_network(state[name], own)
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
        count = math.prod(shape)
        wanted = None if name == "lists" and entry["xxh3"] is None else int(entry["xxh3"], 16)
        if name in _CONTENT:
            if dtype != "|u1" or len(shape) != _CONTENT[name]:
                raise FormatError(f"{name} of shape {shape} and dtype {dtype}")
            at = reader.skip(count, name)
            yield InFile(reader.file, at, shape, wanted, checks=checks, maps=maps)
        else:
            array = reader.numbers(count, dtype, name)
            if checksum(array) != wanted:
                raise FormatError(f"damaged {name}")
            yield array.reshape(shape)
        reader.pad(_ALIGN)
    reader.end()
