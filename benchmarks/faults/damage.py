"""Damaged files: 705 of every kind, by one recipe; every prefix; every byte changed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.faults.files import Layout

Damaged = tuple[str, bytes]  # what was done, and the file

# How many files of every sort.
RECIPE = {
    "truncated": 120,
    "a bit of the structure": 258,
    "a bit of the numbers": 60,
    "a bit of the codes": 60,
    "a sector of zeros": 30,
    "a 32-bit field": 83,
    "a 64-bit field": 27,
    "bytes appended": 20,
    "random bytes after the name": 30,
    "another name": 17,
}
_SECTOR = 512
_EXTREMES = {
    4: [0, 1, 2, 255, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1],
    8: [0, 1, 255, 1 << 20, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1],
}
_NAMES = (  # of faiss's other indexes, and of none
    *(b"IxFl", b"IxF2", b"IxFI", b"IxSQ", b"IxRQ", b"IxLS", b"IxHN", b"IwFl", b"IwPQ", b"IwSq"),
    *(b"IxMp", b"IxM2", b"IxRF", b"IxNN", b"IBxF", b"\0\0\0\0", b"PK\3\4"),
)


def corpus(content: bytes, seed: int, part: float = 1.0) -> Iterator[Damaged]:
    """Yield a part of the files of `RECIPE`, all of them unlike the whole one."""
    layout, rng = Layout(content), random.Random(seed)
    for what, count in RECIPE.items():
        wanted = max(1, round(count * part))
        for number in range(wanted):
            damaged = content
            while damaged == content:
                damaged = _damaged(what, content, layout, rng, number / wanted)
            yield what, damaged


def exhaustive(content: bytes) -> Iterator[Damaged]:
    """Yield every prefix, and for every byte 9 changes of it: each bit, and all."""
    for length in range(len(content)):
        yield "every prefix", content[:length]
    for at, byte in enumerate(content):
        for mask in (*(1 << bit for bit in range(8)), 255):
            yield "every byte, 9 changes", _put(content, at, bytes([byte ^ mask]))


def _damaged(
    what: str, content: bytes, layout: Layout, rng: random.Random, position: float
) -> bytes:
    """Damage a file in one way; `position`, from 0 to below 1, spreads what need not be random."""
    places = {
        "a bit of the structure": layout.structure,
        "a bit of the numbers": layout.floats,
        "a bit of the codes": layout.codes,
    }
    if what in places:
        at = rng.choice(places[what])
        return _put(content, at, bytes([content[at] ^ 1 << rng.randrange(8)]))
    if what == "truncated":
        return content[: int(position * len(content))]
    if what == "a sector of zeros":
        at = rng.randrange(0, len(content), _SECTOR)
        return _put(content, at, bytes(min(_SECTOR, len(content) - at)))
    if what in ("a 32-bit field", "a 64-bit field"):
        width = 4 if "32" in what else 8
        value = rng.choice(_EXTREMES[width]).to_bytes(width, "little")
        return _put(content, rng.choice(layout.fields[width]), value)
    if what == "bytes appended":
        return content + rng.randbytes(rng.randint(1, 8 * _SECTOR))
    if what == "random bytes after the name":
        return content[:4] + rng.randbytes(len(content) - 4)
    return _put(content, 0, _NAMES[int(position * len(_NAMES))])


def _put(content: bytes, at: int, piece: bytes) -> bytes:
    return content[:at] + piece + content[at + len(piece) :]
