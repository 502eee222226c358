"""Encoders that faiss cannot express, inside a chain of faiss transforms.

The transform of such an encoder is a LinearTransform whose "matrix" holds the encoder's state, so
faiss's files take it along. Its size is never that of a matrix: faiss opens the file, and refuses
to add or search. The state comes after d_in * d_out NaNs, since faiss does not look at the size
when it reverses a transform from a file; what it reconstructs is NaN.

In a living index a C++ object of ours stands there, which has such a matrix as well, and calls the
encoder (`_bridge`). This takes knowledge of faiss's classes that no header checks: `is_available`
does, before the first one is made. Where it finds another faiss, faiss's own object stays. Then
every C++ use of the index raises, while the methods of the index, which encode in Python, work.
"""

from __future__ import annotations

import logging
import weakref
from functools import cache
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import KindError
from deepq._common.plain_data import as_parts, from_bytes, to_bytes
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.encoders.plain import encoder_state, make_encoder, with_network
from deepq.index.native import _bridge
from deepq.index.native.known_faiss import fault_of
from deepq.index.native.originals import written
from deepq.index.native.payload import HEAD, seal, unseal

_log = logging.getLogger("deepq.index")
_MAGIC = b"deepq\r\nE"


def place_encoder(chain: Any, encoder: Encoder) -> bool:
    """Make the first transform of a chain, an empty LinearTransform, into that of an encoder.

    True if another object stands there now, which is the chain's: the given one is not any more.
    """
    replaces = is_available()
    if replaces:
        _bridge.place(int(chain.chain.data()), encoder, encoder.d_in, encoder.d_out)
    write(_first(chain), encoder)
    return replaces


def write(transform: Any, encoder: Encoder) -> None:
    """Let a transform hold this encoder, and call it if it can."""
    faiss.copy_array_to_vector(_numbers(encoder), transform.A)
    transform.is_trained = encoder.is_fitted
    if is_available():
        _bridge.set_encoder(int(transform.this), encoder)


def read(transform: Any, network: Any = None) -> Encoder | None:
    """Return the encoder in a LinearTransform: the living one, or what `stored` makes of it."""
    size = transform.d_in * transform.d_out
    if transform.A.size() < size + HEAD.size // 4:
        return None
    numbers = faiss.vector_to_array(transform.A)
    if not is_state(numbers, size):
        return None
    living: Encoder | None = _bridge.get_encoder(int(transform.this)) if is_available() else None
    return stored(numbers, size, network) if living is None else living


def is_state(numbers: Floats, size: int) -> bool:
    """Whether after `size` numbers of a LinearTransform the state of an encoder follows."""
    return numbers[size : size + HEAD.size // 4].tobytes().startswith(_MAGIC)


def stored(numbers: Floats, size: int, network: Any = None) -> Encoder | None:
    """Make the encoder whose state is in a LinearTransform's numbers; None if there is a matrix.

    `network` is what a user hands back, for a `NetworkEncoder`.

    Raises
    ------
    KindError
        If the encoder was one that has no state.
    FormatError
        If the state is damaged.
    """
    if not is_state(numbers, size):
        return None
    state = unseal(numbers[size:], _MAGIC)
    if not state:
        raise KindError("expected an encoder that was written, got one without a state()")
    return make_encoder(with_network(from_bytes(state), network))


def fingerprint(encoder: Encoder) -> tuple[Any, ...]:
    """Return what is the same for encoders of one type and state, and for no others."""
    try:
        return as_parts(encoder_state(encoder))
    except KindError:  # the same as itself only
        return ("object", id(encoder))


def _numbers(encoder: Encoder) -> Floats:
    """Return what stands in the place of a matrix."""
    try:
        content = seal(to_bytes(encoder_state(encoder)), _MAGIC)
    except KindError:  # the same as itself only
        content = np.frombuffer(HEAD.pack(_MAGIC, 0, id(encoder)), np.float32)
    nothing = np.full(encoder.d_in * encoder.d_out, np.nan, np.float32)
    return np.concatenate([nothing, content])


# ---- whether it fits this faiss ------------------------------------------------------------------


@cache
def is_available() -> bool:
    """Whether faiss's C++ code can call encoders here; found out once, at the first need."""
    fault = _fault()
    if fault:
        _log.warning("faiss's C++ code cannot call encoders: %s; the index itself can", fault)
    return not fault


def _fault() -> str:
    """Say why `_bridge` does not fit, if so."""
    return fault_of(_has_known_layout, _works)


def _has_known_layout() -> bool:
    """Compare an object of faiss's with our declaration of its class, without calling it."""
    transform = faiss.LinearTransform(3, 5, True)
    transform.verbose = True
    address = int(transform.this)
    known = (3, 5, False, True, True, int(transform.A.this), int(transform.b.this))
    return _bridge.fields(address) == known and _bridge.has_functions(address)


class _Trial(Encoder):
    """(a, b) -> (a, b, a * b)."""

    def encode(self, x: Floats) -> Floats:
        return np.column_stack([x, x[:, 0] * x[:, 1]])

    def decode(self, z: Floats) -> Floats:
        return np.ascontiguousarray(z[:, :2])


def _works() -> bool:
    """Send known vectors through an encoder and back, write it, and delete it, by C++ alone."""
    encoder = _Trial(2, 3)
    alive, numbers = weakref.ref(encoder), _numbers(encoder)
    x = np.array([[1, 2], [3, 5]], np.float32)
    z = encoder.encode(x)
    flat = faiss.IndexFlatL2(3)
    chain = faiss.IndexPreTransform(flat)
    chain.prepend_transform(faiss.LinearTransform(2, 3))
    _bridge.place(int(chain.chain.data()), encoder, 2, 3)
    flat.this.disown()
    chain.own_fields = True
    transform = _first(chain)
    faiss.copy_array_to_vector(numbers, transform.A)
    transform.is_trained = chain.is_trained = True
    copy = written(chain)
    copied = _first(copy)
    transform.check_identical(transform)
    right = (
        (transform.d_in, transform.d_out, transform.is_trained) == (2, 3, True)
        and np.array_equal(transform.apply(x), z)
        and np.array_equal(transform.reverse_transform(z), x)
        and (copied.d_in, copied.d_out, copied.is_trained) == (2, 3, True)
        and faiss.vector_to_array(copied.A).tobytes() == numbers.tobytes()
    )
    del encoder, transform, chain
    return right and alive() is None


def _first(chain: Any) -> Any:
    return faiss.downcast_VectorTransform(chain.chain.at(0))
