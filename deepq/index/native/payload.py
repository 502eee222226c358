"""Bytes of ours among the numbers of faiss's objects, which faiss writes, reads and copies."""

from __future__ import annotations

import struct
import zlib
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
# A LinearTransform without a bias has a vector for one all the same. faiss writes, reads and
# copies it, and never looks inside. `NativeChain.carry` puts nested data there.

_MAGIC = b"deepq\r\nD"


def carry(value: Any) -> Floats:
    """Nested data as numbers for a spare bias; none for None."""
    return np.empty(0, np.float32) if value is None else seal(to_bytes(value), _MAGIC)


def is_carried(spare: Floats) -> bool:
    """Whether a spare bias holds what `carry` made."""
    return spare[: len(_MAGIC) // 4].tobytes() == _MAGIC


def carried(spare: list[Floats], codebooks: Floats | None) -> Any:
    """Return what is in the first spare bias; None for nothing, or somebody else's numbers.

    The "crc" in it must be that of the codebooks: others may stand beside the transform now.
    Raises FormatError if it is damaged.
    """
    content = unseal(spare[0], _MAGIC) if spare and codebooks is not None else None
    value = from_bytes(content) if content else None
    if value is None or codebooks is None or value["crc"] != codebooks_crc(codebooks):
        return None
    return value


def codebooks_crc(codebooks: Floats) -> int:
    """Checksum of codebooks."""
    return zlib.crc32(codebooks.data)
