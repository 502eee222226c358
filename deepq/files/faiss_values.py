"""Values in faiss's own files: what all of its objects are written with.

Numbers are little-endian, without gaps. A vector is its length in 8 bytes and its items, a flag is
a byte, 0 or 1. Every function raises FormatError for what cannot be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import FormatError
from deepq._common.safe_files import Reader
from deepq._common.types import Floats

_DUMMY = 1 << 20


class Header(NamedTuple):
    """What an index begins with: d int32, ntotal int64, twice 2**20, is_trained, metric int32."""

    d: int
    ntotal: int
    is_trained: bool
    metric: int


def read_header(reader: Reader) -> Header:
    """Read the header of an index."""
    d, ntotal, *dummies, trained, metric = reader.unpack("<iqqqBi", "the header of an index")
    if d < 1 or ntotal < 0 or dummies != [_DUMMY, _DUMMY]:
        raise FormatError(f"a header of d = {d}, ntotal = {ntotal} and the numbers {dummies}")
    if metric not in (0, 1):
        raise FormatError(f"metric {metric} instead of 0 (inner product) or 1 (L2)")
    return Header(d, ntotal, flag(trained, "is_trained"), metric)


def read_product_quantizer(reader: Reader, d: int, *, is_trained: bool) -> dict[str, Any]:
    """Read M, nbits and codebooks (M, ksub, dsub), which are None without a training."""
    own, M, nbits = reader.unpack("<QQQ", "the sizes of the product quantizer")
    if own != d or not 1 <= M <= d or d % M or not 1 <= nbits <= 16:
        raise FormatError(f"a product quantizer of d = {own}, M = {M}, nbits = {nbits}")
    centroids = read_vector(reader, "<f4", "centroids", d << nbits)
    books = centroids.reshape(M, 1 << nbits, d // M) if is_trained else None
    if books is not None:
        require_finite(books, "centroids")
    return {"M": M, "nbits": nbits, "codebooks": books}


def read_vector(reader: Reader, dtype: str, what: str, wanted: int | None = None) -> NDArray[Any]:
    """Read a vector, of so many numbers if that is known."""
    (count,) = reader.unpack("<Q", f"the size of {what}")
    if wanted is not None:
        require(count, wanted, f"numbers in {what}")
    return reader.numbers(count, dtype, what)


def flag(value: int, what: str) -> bool:
    """Return a bool of 0 or 1."""
    if value not in (0, 1):
        raise FormatError(f"{what} = {value}, which is neither 0 nor 1")
    return bool(value)


def require(value: int, wanted: int, what: str) -> None:
    """Raise FormatError for another number."""
    if value != wanted:
        raise FormatError(f"{value} {what} instead of {wanted}")


def require_finite(numbers: Floats, what: str) -> None:
    """Raise FormatError for NaN and infinity."""
    if not np.isfinite(numbers).all():
        raise FormatError(f"NaN or infinity in {what}")


def require_bits(codes: NDArray[np.uint8], bits: int) -> None:
    """Raise FormatError where codes (n, code_size) use more bits than a code has."""
    if bits % 8 and (codes[:, -1] >> bits % 8).any():  # of another M
        raise FormatError(f"more than {bits} bits in a code")


def text(name: bytes) -> str:
    """Return the name of a kind as text."""
    return repr(name.decode("latin-1"))
