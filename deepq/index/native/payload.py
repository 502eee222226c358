"""Bytes of ours among the numbers of faiss's objects, which faiss writes, reads and copies."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from deepq._common.errors import FormatError
from deepq._common.plain_data import from_bytes, to_bytes
from deepq._common.safe_files import checksum
from deepq._common.types import Floats

HEAD = struct.Struct("<8sQQ")  # magic, length of the state, its checksum


def seal(content: bytes, magic: bytes) -> Floats:
    """Bytes as numbers that `unseal` recognizes."""
    head = HEAD.pack(magic, len(content), checksum(content))
    return np.frombuffer(head + content + bytes(-len(content) % 4), np.float32)


def unseal(numbers: Floats, magic: bytes) -> bytes | None:
    """Return the bytes in numbers; None if they are somebody else's.

    Raises FormatError if they are damaged.
    """
    held = numbers.tobytes()
    if len(held) < HEAD.size or not held.startswith(magic):
        return None
    _, length, wanted = HEAD.unpack_from(held)
    content, rest = held[HEAD.size :][:length], held[HEAD.size :][length:]
    whole = len(content) == length and len(rest) < 4 and not any(rest)
    if not whole or (length and checksum(content) != wanted):
        raise FormatError("expected data of deepq among the numbers, got a damaged one")
    return content


# ---- what faiss does not know --------------------------------------------------------------------
# A LinearTransform without a bias has a vector for one all the same, and the map of a
# RemapDimensionsTransform may be longer than what comes out. faiss writes, reads and copies both,
# and never looks. `NativeChain.carry` puts nested data there: it is also the mark by which a chain
# is known to be of an index of ours.

_MAGIC = b"deepq\r\nD"
# What there was not in the first that were written.
_LATER: dict[str, Any] = {"encoder": [], "training": None, "objective": None, "history": []}


def carry(value: Any) -> Floats:
    """Nested data as numbers for a spare place."""
    return seal(to_bytes(value), _MAGIC)


def is_carried(spare: Floats) -> bool:
    """Whether a spare place holds what `carry` made."""
    return spare[: len(_MAGIC) // 4].tobytes() == _MAGIC


def carried(spares: Iterable[Floats], codebooks: Floats | None) -> dict[str, Any] | None:
    """Return what is in the first spare place that holds something of ours; None for nothing.

    A decoder is that of codebooks with the checksum "crc": others may stand beside it now, and then
    it is left out. Raises FormatError for damaged data.
    """
    content = next((unseal(spare, _MAGIC) for spare in spares if is_carried(spare)), None)
    if content is None:
        return None
    value = from_bytes(content)
    if not isinstance(value, dict) or not {"decoder", "crc", "rerank"} <= value.keys():
        raise FormatError("expected a decoder and settings among the numbers, got other data")
    value = {**_LATER, **value}
    if not isinstance(value["encoder"], list):
        raise FormatError(f"expected a list of kinds of encoders, got {value['encoder']!r}")
    if codebooks is None or value["crc"] != codebooks_crc(codebooks):
        value["decoder"] = None
    return value


def codebooks_crc(codebooks: Floats) -> int:
    """Checksum of codebooks."""
    return zlib.crc32(np.ascontiguousarray(codebooks).data)
