"""A faiss IndexPQ behind transforms as plain data, from C++ objects or from the bytes of a file."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq import _foreign
from deepq._common.errors import InputError, KindError
from deepq._common.plain_data import from_bytes, to_bytes
from deepq._common.safe_files import InFile
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Identity, Normalize

_MOST_NUMBERS = 1 << 24  # of a matrix that stands for something smaller


class Transform(NamedTuple):
    """A faiss VectorTransform.

    Of the kinds "linear" (`numbers` are A, `b` may be somebody else's without a bias), "centring"
    (the mean), "remapping" (which input is each output, -1 for none) and "normalizing" (the norm),
    or of another, whose numbers are not known.
    """

    kind: str
    d_in: int
    d_out: int
    is_trained: bool
    numbers: NDArray[Any]
    has_bias: bool = False
    b: Floats = np.empty(0, np.float32)


class PlainIndex(NamedTuple):
    """An encoder and what an IndexPQ holds.

    `is_trained` is that of the whole; the codebooks (M, ksub, dsub) are None if the IndexPQ is not.
    """

    encoder: Encoder
    is_trained: bool
    M: int
    nbits: int
    metric: int
    codebooks: Floats | None
    codes: Codes | InFile
    settings: dict[str, Any]
    carried: Any  # what `Native.carry` put into it, or None


def chained(members: list[Encoder], d: int) -> Encoder:
    """Put the encoders of transforms together; of none it is that of vectors of length d."""
    if not members:
        return Identity(d)
    return members[0] if len(members) == 1 else Chain(members)


def encoder_of(transform: Transform, network: Any = None) -> Encoder:
    """Make the encoder that does what a transform does, with the network that a user hands back.

    Raises KindError for an unknown kind, FormatError for a damaged state, InputError for an
    untrained transform or a matrix that would be too large.
    """
    kind, d_in, d_out = transform.kind, transform.d_in, transform.d_out
    if kind == "linear":
        stored = _foreign.stored(transform.numbers, d_in * d_out, network)
        if stored is not None:
            return stored
    if not transform.is_trained:
        raise InputError(f"expected trained transforms, got an untrained {kind} one")
    if kind == "linear":
        return Affine(transform.numbers.reshape(d_out, d_in), _bias(transform))
    if kind == "normalizing" and transform.numbers.tolist() == [2.0]:
        return Normalize(d_in)
    if kind == "remapping":
        return _remapping(transform)
    if kind == "centring":
        _require_room(d_in, d_out)
        return Affine(np.eye(d_in, dtype=np.float32), -transform.numbers)
    raise KindError(
        f"expected linear, remapping, centring or L2-normalizing transforms, got a {kind} one"
    )


def _bias(transform: Transform) -> Floats | None:
    return transform.b if transform.has_bias else None


def _remapping(transform: Transform) -> Encoder:
    source = transform.numbers
    if len(source) == transform.d_in and np.array_equal(source, np.arange(len(source))):
        return Identity(transform.d_in)
    _require_room(transform.d_in, transform.d_out)
    A = np.zeros((transform.d_out, transform.d_in), np.float32)
    A[source >= 0, source[source >= 0]] = 1
    return Affine(A)


def _require_room(d_in: int, d_out: int) -> None:
    if d_in * d_out > _MOST_NUMBERS:
        raise InputError(
            f"expected a transform from {d_in} numbers that a matrix of up to {_MOST_NUMBERS} "
            f"numbers stands for, got {d_out} x {d_in}"
        )


# ---- what faiss does not know --------------------------------------------------------------------
# A LinearTransform without a bias has a vector for one all the same. faiss writes, reads and
# copies it, and never looks inside. `Native.carry` puts nested data there.

_MAGIC = b"deepq\r\nD"


def carry(value: Any) -> Floats:
    """Nested data as numbers for a spare bias; none for None."""
    return np.empty(0, np.float32) if value is None else _foreign.seal(to_bytes(value), _MAGIC)


def is_carried(spare: Floats) -> bool:
    """Whether a spare bias holds what `carry` made."""
    return spare[: len(_MAGIC) // 4].tobytes() == _MAGIC


def carried(spare: list[Floats], codebooks: Floats | None) -> Any:
    """Return what is in the first spare bias; None for nothing, or somebody else's numbers.

    The "crc" in it must be that of the codebooks: others may stand beside the transform now.
    Raises FormatError if it is damaged.
    """
    content = _foreign.unseal(spare[0], _MAGIC) if spare and codebooks is not None else None
    value = from_bytes(content) if content else None
    if value is None or codebooks is None or value["crc"] != codebooks_crc(codebooks):
        return None
    return value


def codebooks_crc(codebooks: Floats) -> int:
    """Checksum of codebooks."""
    return zlib.crc32(codebooks.data)
