"""Words to the bytes of a code, and back: faiss's layout."""

from __future__ import annotations

import numpy as np

from deepq._common.errors import DimensionError
from deepq._common.types import Codes, Words

_BLOCK = 16_384


def pack(words: Words, nbits: int) -> Codes:
    """Pack words (n, M) into codes (n, ceil(M * nbits / 8)) uint8.

    The words of a vector form one stream of bits, the least significant bit first: faiss's
    layout. The last byte is filled with zeros.
    """
    n, M = words.shape
    if nbits == 8:
        return words.astype(np.uint8, order="C")
    if nbits == 16:
        return words.astype("<u2", order="C").view(np.uint8)
    codes = np.empty((n, (M * nbits + 7) // 8), dtype=np.uint8)
    for i in range(0, n, _BLOCK):
        pairs = np.ascontiguousarray(words[i : i + _BLOCK], dtype="<u2")[:, :, None].view(np.uint8)
        bits = np.unpackbits(pairs, axis=2, count=nbits, bitorder="little")
        codes[i : i + _BLOCK] = np.packbits(bits.reshape(len(bits), -1), axis=1, bitorder="little")
    return codes


def unpack(codes: Codes, M: int, nbits: int) -> Words:
    """Words (n, M), uint8 or for nbits > 8 uint16, of packed codes: the inverse of `pack`.

    Raises DimensionError if `codes` is not (n, ceil(M * nbits / 8)).
    """
    codes = np.ascontiguousarray(codes, dtype=np.uint8)
    code_size = (M * nbits + 7) // 8
    if codes.ndim != 2 or codes.shape[1] != code_size:
        raise DimensionError(f"expected codes of shape (n, {code_size}), got {codes.shape}")
    if nbits == 8:
        return codes.copy()
    if nbits == 16:
        return codes.view("<u2").astype(np.uint16)
    words = np.empty((len(codes), M), dtype=np.uint8 if nbits < 8 else np.uint16)
    for i in range(0, len(codes), _BLOCK):
        bits = np.unpackbits(codes[i : i + _BLOCK], axis=1, count=M * nbits, bitorder="little")
        pairs = np.zeros((len(bits), M, 16), dtype=np.uint8)
        pairs[:, :, :nbits] = bits.reshape(len(bits), M, nbits)
        words[i : i + _BLOCK] = np.packbits(pairs, axis=2, bitorder="little").view("<u2")[:, :, 0]
    return words
