"""Encoders as faiss transforms, and faiss transforms as encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import InputError, KindError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Identity, Normalize
from deepq.encoders.rotation import Rotation
from deepq.encoders.spread import Spread
from deepq.index.native import bridge
from deepq.index.native.plain import Transform

_MOST_NUMBERS = 1 << 24  # of a matrix that stands for something smaller


def encoders_of(
    transforms: Sequence[Transform], d: int, network: Any, carried: dict[str, Any] | None
) -> Encoder:
    """Make the encoder that does what transforms of vectors (n, d) do one after the other.

    `carried` says which of them have been learned. Raises as `encoder_of` does.
    """
    known = zip(transforms, rotations(carried), strict=False)
    members = (encoder_of(each, network, is_rotation=learned) for each, learned in known)
    return joined(members, d, carried)


def rotations(carried: dict[str, Any] | None) -> Iterator[bool]:
    """Yield whether the transforms of a chain are learned rotations, from the first on."""
    kinds = [] if carried is None else carried["encoder"]
    return chain((kind == Rotation.__name__ for kind in kinds), repeat(False))


def joined(encoders: Iterable[Encoder], d: int, carried: dict[str, Any] | None) -> Encoder:
    """One encoder of several, without those that do nothing: see `placed_members`.

    The last is a `Spread` where `carried` says so, and what it spreads for is there.
    """
    members = [each for each in encoders if type(each) is not Identity]
    decoder = None if carried is None else carried["decoder"]
    if decoder is not None and carried and carried["encoder"][-1:] == [Spread.__name__]:
        arrays = decoder["arrays"]
        members[-1:] = [Spread(arrays["shares"], arrays["centre"])]
    return Chain.of(members, d)


def encoder_of(transform: Transform, network: Any = None, *, is_rotation: bool = False) -> Encoder:
    """Make the encoder that does what a transform does, with the network that a user hands back.

    Of a rotation that is not learned yet nothing is demanded.
    Raises KindError for an unknown kind, FormatError for a damaged state, InputError for an
    untrained transform or a matrix that would be too large.
    """
    kind, d_in, d_out = transform.kind, transform.d_in, transform.d_out
    if kind == "linear":
        stored = bridge.stored(transform.numbers, d_in * d_out, network)
        if stored is not None:
            return stored
        if is_rotation and d_in == d_out and not transform.has_bias:
            return _rotation(transform)
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
    if transform.d_out == transform.d_in and np.array_equal(source, np.arange(len(source))):
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


def members_of(encoder: Encoder) -> list[Encoder]:
    """Return the encoders that need a transform each, in order."""
    if type(encoder) is Chain:
        return [inner for member in encoder.members for inner in members_of(member)]
    return [] if type(encoder) is Identity else [encoder]


def placed_members(encoder: Encoder) -> list[Encoder]:
    """Return the encoders that get a transform each, one of which has a spare place.

    Where none has, an Identity stands at the end. It is needed as well where there would be none:
    then training a composite would train the codebooks again.
    """
    members = members_of(encoder)
    if any(is_foreign(each) or _leaves_offset(each) for each in members):
        return members
    return [*members, Identity(encoder.d_out)]


def _leaves_offset(encoder: Encoder) -> bool:
    """Whether an encoder becomes a linear transform without an offset."""
    if isinstance(encoder, Spread):
        return not encoder.centre.any()
    return isinstance(encoder, Affine) and encoder.b is None


def is_foreign(encoder: Encoder) -> bool:
    """Whether faiss has no transform for an encoder, as it has none for subclasses of ours."""
    return type(encoder) not in (Identity, Affine, Rotation, Normalize, Spread)


def make_transform(encoder: Encoder, M: int) -> Any:
    """Make the faiss transform for one encoder."""
    if is_foreign(encoder):
        return faiss.LinearTransform(encoder.d_in, encoder.d_out)  # `bridge` fills it
    if type(encoder) is Rotation:
        # Where C++ code trains (a composite's train), faiss's own OPQ runs, from the identity.
        opq = faiss.OPQMatrix(encoder.d_in, M)
        faiss.copy_array_to_vector(np.eye(encoder.d_in, dtype=np.float32).ravel(), opq.A)
        return opq
    if type(encoder) is Spread:
        encoder = Affine(*encoder.matrix())
    if type(encoder) is Affine:
        linear = faiss.LinearTransform(encoder.d_in, encoder.d_out, encoder.b is not None)
        write_affine(linear, encoder)
        return linear
    if type(encoder) is Normalize:
        return faiss.NormalizationTransform(encoder.d_in, 2.0)
    return faiss.RemapDimensionsTransform(encoder.d_in, encoder.d_out, True)


def plain_transform(transform: Transform) -> Any:
    """Make the faiss transform that does what a trained one did.

    Raises KindError for an encoder that faiss has no transform for.
    """
    encoder = encoder_of(transform)
    if is_foreign(encoder):
        name = type(encoder).__name__
        raise KindError(f"expected transforms of faiss around a composite, got a {name}")
    return make_transform(encoder, 1)


def write_affine(transform: Any, encoder: Affine) -> None:
    """Copy the numbers of an encoder, if it has been fitted, into a faiss transform."""
    if not encoder.is_fitted:
        return
    faiss.copy_array_to_vector(encoder.A.ravel(), transform.A)
    if encoder.b is not None:
        faiss.copy_array_to_vector(encoder.b, transform.b)
    transform.set_is_orthonormal()
    transform.is_trained = True


def _rotation(transform: Transform) -> Rotation:
    if not transform.is_trained:
        return Rotation(transform.d_in)
    return Rotation.of(transform.numbers.reshape(transform.d_out, transform.d_in))


def numbers_of(encoder: Encoder) -> tuple[Any, ...]:
    """Return what tells an encoder from others: its kind and its numbers."""
    if is_foreign(encoder):
        return (bridge.fingerprint(encoder),)
    if isinstance(encoder, Spread):
        return ("Spread", encoder.shares.tobytes(), encoder.centre.tobytes())
    if not isinstance(encoder, Affine):
        return (type(encoder).__name__,)
    return (
        encoder.A.shape,
        encoder.A.tobytes(),
        None if encoder.b is None else encoder.b.tobytes(),
    )


def encoder_in(transform: Any, network: Any = None, *, is_rotation: bool = False) -> Encoder:
    """Make the encoder that does what one faiss transform does: see `encoder_of`."""
    if isinstance(transform, faiss.LinearTransform):
        foreign = bridge.read(transform, network)
        if foreign is not None:
            return foreign
    is_rotation = is_rotation or isinstance(transform, faiss.OPQMatrix)
    return encoder_of(_described(transform), is_rotation=is_rotation)


def _described(transform: Any) -> Transform:
    """Copy the numbers of a faiss transform."""
    known = transform.d_in, transform.d_out, transform.is_trained
    if isinstance(transform, faiss.LinearTransform):
        A, b = faiss.vector_to_array(transform.A), faiss.vector_to_array(transform.b)
        return Transform("linear", *known, A, transform.have_bias, b)
    if isinstance(transform, faiss.RemapDimensionsTransform):
        numbers = faiss.vector_to_array(transform.map)[: transform.d_out]
        return Transform("remapping", *known, numbers)
    if isinstance(transform, faiss.CenteringTransform):
        return Transform("centring", *known, faiss.vector_to_array(transform.mean))
    if isinstance(transform, faiss.NormalizationTransform):
        return Transform("normalizing", *known, np.array([transform.norm], np.float32))
    return Transform(type(transform).__name__, *known, np.empty(0, np.float32))


# ---- spare places: see `payload` -----------------------------------------------------------------


def has_spare(transform: Any) -> bool:
    """Whether a faiss transform has numbers that it never looks at."""
    if isinstance(transform, faiss.LinearTransform):
        return not transform.have_bias
    return isinstance(transform, faiss.RemapDimensionsTransform)


def spare_in(transform: Any) -> Floats:
    """Copy of what is in the spare place of a transform that has one."""
    if isinstance(transform, faiss.LinearTransform):
        return faiss.vector_to_array(transform.b)  # type: ignore[no-any-return]
    behind = faiss.vector_to_array(transform.map)[transform.d_out :]
    return behind.view(np.float32)  # type: ignore[no-any-return]


def fill_spare(transform: Any, numbers: Floats) -> None:
    """Put numbers into the spare place of a transform that has one."""
    if isinstance(transform, faiss.LinearTransform):
        faiss.copy_array_to_vector(numbers, transform.b)
        return
    inputs = faiss.vector_to_array(transform.map)[: transform.d_out]
    faiss.copy_array_to_vector(np.concatenate([inputs, numbers.view(np.int32)]), transform.map)
