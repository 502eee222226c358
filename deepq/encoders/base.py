"""What an encoder is, and how embeddings are asked of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.arrays import as_floats
from deepq._common.checks import as_size
from deepq._common.errors import DimensionError, KindError
from deepq._common.types import Floats, Progress
from deepq.quantizers.product import ProductQuantizer


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
    scales_embeddings : bool
        Whether cosines are those of its embeddings, and not of its vectors.
    """

    can_decode: bool = True
    learns_codebooks: bool = False
    scales_embeddings: bool = False

    def __init__(self, d_in: int, d_out: int) -> None:
        self.d_in = as_size(d_in, "d_in")
        self.d_out = as_size(d_out, "d_out")

    @property
    def members(self) -> tuple[Encoder, ...]:
        """The encoders that it is made of, in order: of all but a chain, itself."""
        return (self,)

    @property
    def is_fitted(self) -> bool:
        """Whether `encode` can be called."""
        return True

    @property
    def learns(self) -> bool:
        """Whether `fit` has anything to do; here, where a class has a `fit` of its own."""
        return type(self).fit is not Encoder.fit

    @property
    def learns_from(self) -> str | None:
        """What it learns from: "vectors" by `fit`, "labels" by `fit_labels`, "epochs", or None.

        What learns in epochs is a network, which `training.network` trains.
        """
        return None if type(self).fit is Encoder.fit else "vectors"

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

    def unlabelled(self) -> None:
        """Get ready for a training without labels: whoever needs them refuses, or does without."""

    def settle(self) -> None:
        """Count as fitted with the numbers it has: for codebooks made elsewhere."""

    def encode(self, x: Floats) -> Floats:
        """Embeddings (n, d_out) float32, C-contiguous, of the rows of `x` (n, d_in)."""
        return as_rows(x, self.d_in)

    def decode(self, z: Floats) -> Floats:
        """Input vectors (n, d_in) float32 of the embeddings `z` (n, d_out)."""
        return as_rows(z, self.d_out)

    def look_at(self, x: Any) -> None:
        """Log a warning where rows (n, d_in) are plainly of another scale than those learned from.

        Only a network does: here nothing.
        """

    def state(self) -> dict[str, Any]:
        """Everything that `from_state` needs: JSON values, and arrays of float32 or uint8.

        Raises KindError here: without it an encoder works, but cannot be written or copied.
        """
        raise KindError(f"expected an encoder with a state(), got {type(self).__name__}")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Encoder:
        """Make the encoder that has this `state`; here by passing it to the constructor."""
        return cls(**state)


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


def as_rows(x: Any, d: int) -> NDArray[np.float32]:
    """Rows (n, d) of float32, C-contiguous. Raises DimensionError for another shape."""
    rows = x if isinstance(x, np.ndarray) and x.dtype == np.float32 else as_floats(x, "x")
    rows = np.ascontiguousarray(rows)
    if rows.ndim != 2 or rows.shape[1] != d:
        raise DimensionError(f"expected rows of {d} numbers, got shape {rows.shape}")
    return rows
