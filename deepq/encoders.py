"""Encoders: maps from input vectors x (n, d_in) to embeddings z (n, d_out), and back.

All of these are NumPy only, and all but `Sign` can be expressed as faiss transforms. `Rotation`
is the default: an orthonormal matrix learned together with the quantizer's codebooks. Networks are
in `network_encoder`, with torch, and hash functions of kernels in `kernel_hash`.

An encoder of your own derives from `Encoder`. With a `state` and a line in `TYPES` it can be
written to files as well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepq._common.checks import as_floats, as_size, as_tuple
from deepq._common.errors import DimensionError, FormatError, InputError, KindError, StateError
from deepq._common.types import Floats, Progress
from deepq._rotation import ITERATIONS, learn
from deepq.quantizers.product import ProductQuantizer

__all__ = [
    "TYPES",
    "Affine",
    "Chain",
    "Encoder",
    "Identity",
    "Normalize",
    "Rotation",
    "Sign",
]

# Encoders that files may hold: the name of the class, and where it is imported from when needed.
TYPES = {
    "Identity": "deepq.encoders:Identity",
    "Normalize": "deepq.encoders:Normalize",
    "Affine": "deepq.encoders:Affine",
    "Chain": "deepq.encoders:Chain",
    "Rotation": "deepq.encoders:Rotation",
    "Sign": "deepq.encoders:Sign",
    "KernelHash": "deepq.kernel_hash:KernelHash",
    "NetworkEncoder": "deepq.network_encoder:NetworkEncoder",
}


class Encoder:
    """An encoder with nothing to learn; the base of the others.

    Its numbers must not change once it is part of an index, except by `fit`.

    Attributes
    ----------
    d_in, d_out : int
        Length of an input vector and of an embedding.
    can_decode : bool
        Whether there is a `decode`.
    learns_codebooks : bool
        Whether `fit` learns the quantizer's codebooks as well.
    """

    can_decode: bool = True
    learns_codebooks: bool = False

    def __init__(self, d_in: int, d_out: int) -> None:
        self.d_in = as_size(d_in, "d_in")
        self.d_out = as_size(d_out, "d_out")

    @property
    def is_fitted(self) -> bool:
        """Whether `encode` can be called."""
        return True

    @property
    def learns(self) -> bool:
        """Whether `fit` has anything to do; here, where a class has a `fit` of its own."""
        return type(self).fit is not Encoder.fit

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: (d_in,), or three numbers for images, which are encoded as rows."""
        return (self.d_in,)

    def fit(
        self,
        x: Floats,
        quantizer: ProductQuantizer,
        *,
        iterations: int | None = None,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Learn from the rows of `x` (n, d_in) what the encoder needs; here nothing.

        An encoder that learns together with the quantizer leaves its codebooks trained for
        the embeddings. `iterations` None is the encoder's default. `progress` is called with
        a dict after each iteration.
        """

    def settle(self) -> None:
        """Count as fitted with the numbers it has: for codebooks made elsewhere."""

    def normalized(self) -> Chain:
        """Return this encoder for cosines of vectors: they are scaled to unit length first."""
        return Chain([Normalize(self.d_in), self])

    def encode(self, x: Floats) -> Floats:
        """Embeddings (n, d_out) float32, C-contiguous, of the rows of `x` (n, d_in)."""
        return _as_rows(x, self.d_in)

    def decode(self, z: Floats) -> Floats:
        """Input vectors (n, d_in) float32 of the embeddings `z` (n, d_out)."""
        return _as_rows(z, self.d_out)

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs: JSON values, and arrays of float32 or uint8.

        Raises KindError here: without it an encoder works, but cannot be written or copied.
        """
        raise KindError(f"expected an encoder with a state(), got {type(self).__name__}")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Encoder:
        """Make the encoder that has this `state`; here by passing it to the constructor."""
        return cls(**state)


class Identity(Encoder):
    """z = x."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Normalize(Encoder):
    """z = x / ||x||, rows of zeros unchanged. The length is lost: `decode` returns z."""

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def encode(self, x: Floats) -> Floats:
        """Rows of `x` (n, d) scaled to unit Euclidean length."""
        x = _as_rows(x, self.d_in)
        norms = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
        return x / np.where(norms > 0, norms, 1).astype(np.float32)[:, None]

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Sign(Encoder):
    """z = +1 where x >= 0, else -1; NaN stays NaN. The sizes are lost: `decode` returns z.

    At the end of a `Chain` it makes queries binary too, so that a search of a `BinaryQuantizer`
    ranks by Hamming distance: D is 4 times that.
    """

    def __init__(self, d: int) -> None:
        super().__init__(d, d)

    def encode(self, x: Floats) -> Floats:
        """Signs (n, d) of the rows of `x` (n, d)."""
        z: Floats = np.sign(_as_rows(x, self.d_in))
        z[z == 0] = 1
        return z

    def state(self) -> dict[str, Any]:
        """Length of the vectors."""
        return {"d": self.d_in}


class Affine(Encoder):
    """z = A x + b, with given numbers.

    Parameters
    ----------
    A : array, (d_out, d_in)
        Matrix.
    b : array, (d_out,), optional
        Offset; None for none.

    Raises
    ------
    DimensionError
        If the shapes are wrong or do not fit.
    InputError
        If there is a NaN or an infinity.
    """

    def __init__(self, A: ArrayLike, b: ArrayLike | None = None) -> None:
        matrix = as_floats(A, "A")
        if matrix.ndim != 2:
            raise DimensionError(f"expected a matrix (d_out, d_in), got shape {matrix.shape}")
        super().__init__(matrix.shape[1], matrix.shape[0])
        offset = None if b is None else as_floats(b, "b")
        if offset is not None and offset.shape != (self.d_out,):
            raise DimensionError(f"expected an offset of shape ({self.d_out},), got {offset.shape}")
        if not np.isfinite(matrix).all() or (offset is not None and not np.isfinite(offset).all()):
            raise InputError("expected finite numbers in A and b, got NaN or infinity")
        self.A: Floats = _frozen(matrix)
        self.b: Floats | None = None if offset is None else _frozen(offset)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for numbers in (self.A, self.b):
            if numbers is not None:
                _frozen(numbers)

    @cached_property
    def is_orthonormal(self) -> bool:
        """Whether the rows of A are orthonormal to 1e-4, so that its transpose undoes it."""
        gram = self.A.astype(np.float64) @ self.A.T.astype(np.float64)
        return bool(np.abs(gram - np.eye(self.d_out)).max() < 1e-4)

    def encode(self, x: Floats) -> Floats:
        """Return A x + b for the rows of `x` (n, d_in)."""
        z = _as_rows(x, self.d_in) @ self.A.T
        if self.b is not None:
            z += self.b
        return z

    def decode(self, z: Floats) -> Floats:
        """A^T (z - b) if the rows of A are orthonormal, else the least-squares solution."""
        z = _as_rows(z, self.d_out)
        if self.b is not None:
            z = z - self.b
        return z @ (self.A if self.is_orthonormal else self._inverse)

    def state(self) -> dict[str, Any]:
        """Matrix and offset."""
        return {"A": self.A, "b": self.b}

    @cached_property
    def _inverse(self) -> Floats:
        """Transposed pseudo-inverse of A, (d_out, d_in)."""
        inverse = np.linalg.pinv(self.A.astype(np.float64))
        return np.ascontiguousarray(inverse.T, dtype=np.float32)


class Chain(Encoder):
    """One encoder after the other.

    The codebooks that `fit` leaves in the quantizer are those of the last member that
    learns together with it, so such a member belongs at the end.

    Parameters
    ----------
    members : iterable of Encoder
        At least one; each takes what the one before gives.

    Raises
    ------
    InputError
        If there is no member.
    DimensionError
        If two neighbours do not fit.
    """

    def __init__(self, members: Iterable[Encoder]) -> None:
        self.members: tuple[Encoder, ...] = as_tuple(members, "members")
        if not self.members:
            raise InputError("expected at least one encoder, got none")
        for member in self.members:
            if not isinstance(member, Encoder):
                raise KindError(f"expected encoders, got {type(member).__name__}")
        for left, right in zip(self.members, self.members[1:], strict=False):
            if left.d_out != right.d_in:
                raise DimensionError(
                    f"expected an encoder of {left.d_out} inputs next, got {right.d_in}"
                )
        super().__init__(self.members[0].d_in, self.members[-1].d_out)
        self.can_decode = all(member.can_decode for member in self.members)
        self.learns_codebooks = any(member.learns_codebooks for member in self.members)

    @property
    def is_fitted(self) -> bool:
        """Whether all members are."""
        return all(member.is_fitted for member in self.members)

    @property
    def learns(self) -> bool:
        """Whether any member does."""
        return any(member.learns for member in self.members)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the first member."""
        return self.members[0].input_shape

    def fit(
        self,
        x: Floats,
        quantizer: ProductQuantizer,
        *,
        iterations: int | None = None,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Fit the members in order, each on what the ones before it give."""
        for i, member in enumerate(self.members):
            if i:
                x = self.members[i - 1].encode(x)
            member.fit(x, quantizer, iterations=iterations, seed=seed, progress=progress)

    def settle(self) -> None:
        """Settle all members."""
        for member in self.members:
            member.settle()

    def normalized(self) -> Chain:
        """Return the chain with its first member's scaling."""
        return Chain([*self.members[0].normalized().members, *self.members[1:]])

    def encode(self, x: Floats) -> Floats:
        """Pass the rows of `x` (n, d_in) through all members."""
        for member in self.members:
            x = member.encode(x)
        return x

    def decode(self, z: Floats) -> Floats:
        """Pass the embeddings `z` (n, d_out) back through all members."""
        for member in reversed(self.members):
            z = member.decode(z)
        return z

    def state(self) -> dict[str, Any]:
        """Types and states of the members."""
        return {"members": [encoder_state(member) for member in self.members]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Chain:
        """Make the members, and a chain of them."""
        return cls(make_encoder(member) for member in state["members"])


class Rotation(Affine):
    """z = R x, R orthonormal and learned together with the codebooks.

    Optimized product quantization (Ge et al., PAMI 2014). Every training learns it anew; to keep a
    given matrix use `Affine`.

    Parameters
    ----------
    d : int
        Length of the vectors.
    """

    def __init__(self, d: int) -> None:
        super().__init__(np.eye(as_size(d, "d")))
        self._fitted = False

    @classmethod
    def of(cls, R: ArrayLike) -> Rotation:
        """Make a fitted rotation of an orthonormal matrix (d, d), else raise InputError."""
        given = Affine(R)
        if given.d_in != given.d_out or not given.is_orthonormal:
            raise InputError("expected an orthonormal matrix (d, d), got another")
        rotation = cls(given.d_in)
        rotation.A, rotation._fitted = given.A, True
        return rotation

    @property
    def is_fitted(self) -> bool:
        """Whether the rotation has been learned."""
        return self._fitted

    is_orthonormal = True
    learns_codebooks = True

    def settle(self) -> None:
        """Stay the rotation it is: before `fit`, the identity."""
        self._fitted = True

    def encode(self, x: Floats) -> Floats:
        """Rotate the rows of `x` (n, d). Raises StateError before `fit`."""
        if not self._fitted:
            raise StateError("expected a fitted rotation, got one that has not been learned")
        return super().encode(x)

    def fit(
        self,
        x: Floats,
        quantizer: ProductQuantizer,
        *,
        iterations: int | None = None,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Learn the rotation and the codebooks together, from the beginning.

        See `deepq._rotation.learn`; by default 60 iterations. It takes at least ksub rows,
        and d must be a multiple of M.
        """
        x = _as_rows(x, self.d_in)
        joint = ITERATIONS if iterations is None else iterations
        self.A = _frozen(learn(x, quantizer, iterations=joint, seed=seed, progress=progress))
        self._fitted = True

    def state(self) -> dict[str, Any]:
        """Matrix, and whether it has been learned."""
        return {"A": self.A, "is_fitted": self._fitted}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Rotation:
        """Make a rotation, learned or not."""
        given = Affine(state["A"])
        if given.d_in != given.d_out:
            raise DimensionError(f"expected a matrix (d, d), got shape {given.A.shape}")
        return cls.of(given.A) if state["is_fitted"] else cls(given.d_in)


def as_encoder(value: Any, d: int) -> Encoder:
    """Take an encoder of `d` inputs, or a trained torch module, which becomes a `NetworkEncoder`.

    Raises KindError for anything else, InputError if `d` is not the length of its inputs.
    """
    torch = sys.modules.get("torch")  # without which there is no module
    if torch is not None and isinstance(value, torch.nn.Module):
        network: Any = _class("NetworkEncoder")
        value = network(value, d, fitted=True)
    if not isinstance(value, Encoder):
        raise KindError(f"expected an Encoder or a torch.nn.Module, got {type(value).__name__}")
    if value.d_in != d:
        raise InputError(f"expected an encoder of {d} inputs, got {value.d_in}")
    return value


def embed(encoder: Encoder, x: Floats) -> Floats:
    """Embeddings (n, d_out) of the rows of `x`, float32 and C-contiguous whatever `encode` returns.

    Raises DimensionError if that has another shape, TypeError if it is not of real numbers.
    """
    z = np.asarray(encoder.encode(x))
    if z.shape != (len(x), encoder.d_out):
        raise DimensionError(
            f"expected embeddings of shape ({len(x)}, {encoder.d_out}) from "
            f"{type(encoder).__name__}, got {z.shape}"
        )
    return z.astype(np.float32, order="C", casting="same_kind", copy=False)


def encoder_state(encoder: Encoder) -> dict[str, Any]:
    """Describe an encoder by its name in `TYPES` and its state.

    Raises KindError if its class is not there, or has no `state`.
    """
    name = type(encoder).__name__
    if name not in TYPES or _class(name) is not type(encoder):
        raise KindError(f"expected an encoder of a class in deepq.encoders.TYPES, got {name}")
    return {"type": name, **encoder.state()}


def make_encoder(state: dict[str, Any]) -> Encoder:
    """Make the encoder that a state describes. Raises FormatError for an unknown or faulty one."""
    try:
        rest = dict(state)
        name = rest.pop("type")
        if name not in TYPES:
            raise FormatError(f"one of the type {name!r}, which deepq.encoders.TYPES does not have")
        return _class(name).from_state(rest)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"expected the state of an encoder, got {error}") from error


def hand_back(state: dict[str, Any], network: Any) -> dict[str, Any]:
    """Put a network into the state of an encoder, where that has one.

    `network` may also be an encoder like the one described; None leaves the state as it is.
    """
    if isinstance(network, Chain):
        network = next((m for m in network.members if hasattr(m, "network")), None)
    if network is None:
        return state
    if state.get("type") == "Chain":
        return {**state, "members": [hand_back(member, network) for member in state["members"]]}
    return {**state, "handed_back": network} if state.get("type") == "NetworkEncoder" else state


def _class(name: str) -> type[Encoder]:
    module, _, attribute = TYPES[name].partition(":")
    found: type[Encoder] = getattr(import_module(module), attribute)
    return found


def _frozen(numbers: Floats) -> Floats:
    """Make an array read-only: an index's C++ object holds a copy that must stay the same."""
    numbers.flags.writeable = False
    return numbers


def _as_rows(x: Any, d: int) -> NDArray[np.float32]:
    rows = x if isinstance(x, np.ndarray) and x.dtype == np.float32 else as_floats(x, "x")
    rows = np.ascontiguousarray(rows)
    if rows.ndim != 2 or rows.shape[1] != d:
        raise DimensionError(f"expected rows of {d} numbers, got shape {rows.shape}")
    return rows
