"""Hash functions of kernels as an encoder, in NumPy.

It learns from labels alone, by `KernelHash.fit_labels`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deepq._common.arrays import as_vectors
from deepq._common.checks import as_real, as_size
from deepq._common.errors import DimensionError, InputError, KindError, StateError
from deepq._common.types import Floats, Progress
from deepq.encoders import kernel_bits
from deepq.encoders.base import Encoder
from deepq.labels.supervision import Supervision

_BLOCK = 16_384


class Functions(NamedTuple):
    """What a `KernelHash` learns: m anchors, the width of kernels, and (bits, m) projections.

    Attributes
    ----------
    anchors : (m, d) float32
    width : float
        Mean squared distance of vectors to anchors: k(x) = exp(-|x - anchor|^2 / (2 width)).
    mean : (m,) float32
        Mean of the kernels of training vectors.
    A : (bits, m) float32
    """

    anchors: Floats
    width: float
    mean: Floats
    A: Floats


class KernelHash(Encoder):
    """z = A (k(x) - mean), k(x) (m,) the kernels of x with m anchors; its signs are a code.

    Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012. See
    `kernel_bits`.

    Parameters
    ----------
    d : int
        Length of the vectors.
    bits : int
        Bits of a code, and so d_out.
    anchors : int
        Training vectors that others are compared with.
    labelled : int
        About how many training vectors labels are taken of. A learning takes time that grows with
        its square.

    Attributes
    ----------
    functions : Functions or None
        What it has learned.

    Raises
    ------
    InputError, KindError
        If one is no positive integer.
    """

    can_decode = False
    learns_from = "labels"

    def __init__(self, d: int, bits: int, anchors: int = 300, *, labelled: int = 2000) -> None:
        super().__init__(d, bits)
        self.m, self.labelled = as_size(anchors, "anchors"), as_size(labelled, "labelled")
        self.functions: Functions | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned from labels."""
        return self.functions is not None

    @property
    def learns(self) -> bool:
        """Whether `fit` has labels to ask for."""
        return self.functions is None

    def fit_labels(
        self,
        x: Floats,
        supervision: Supervision,
        *,
        seed: int = 1234,
        progress: Progress | None = None,
    ) -> None:
        """Draw anchors and labelled vectors among the rows of `x` (n, d), and learn the bits.

        The kernels' width and mean are those of all rows. Only pairs that are known count.
        `progress` is called after each bit: see `kernel_bits.learn_kernel_bits`.

        Raises
        ------
        KindError, DimensionError
            If `x` is no array of such rows, or `supervision` none: `as_supervision` makes one of
            labels.
        InputError
            If there are fewer rows than anchors or than the supervision is of, a number is not
            finite, or all rows are equal.
        """
        x = as_vectors(x, self.d_in, finite=True)
        if not isinstance(supervision, Supervision):
            raise KindError(f"expected a Supervision, got {type(supervision).__name__}")
        least = max(self.m, supervision.n)
        if len(x) < least:
            raise InputError(f"expected at least {least} training vectors, got {len(x)}")
        if (x == x[0]).all():
            raise InputError("expected training vectors that differ, got equal ones")
        rng = np.random.default_rng(seed)
        anchors = x[np.sort(rng.choice(len(x), self.m, replace=False))]
        width = kernel_bits.mean_squared_distance(x, anchors)
        total = np.zeros(self.m)
        for i in range(0, len(x), _BLOCK):
            block = kernel_bits.kernels(x[i : i + _BLOCK], anchors, width)
            total += block.sum(axis=0, dtype=np.float64)
        mean = (total / len(x)).astype(np.float32)
        rows = next(supervision.batches(self.labelled, rng))
        K = kernel_bits.kernels(x[rows], anchors, width) - mean
        A = kernel_bits.learn_kernel_bits(K, *supervision.similar(rows), self.d_out, progress)
        self.functions = Functions(anchors, width, mean, A)

    def unlabelled(self) -> None:
        """Raise InputError before `fit_labels`: without labels it learns nothing."""
        if self.functions is None:
            raise InputError("expected labels for a kernel hash to learn from, got none")

    def encode(self, x: Floats) -> Floats:
        """Embeddings (n, bits) of the rows of `x` (n, d). Raises StateError before `fit_labels`."""
        if self.functions is None:
            raise StateError("expected a kernel hash that has learned from labels, got a new one")
        anchors, width, mean, A = self.functions
        k = kernel_bits.kernels(as_vectors(x, self.d_in), anchors, width)
        k -= mean
        return k @ A.T

    def decode(self, z: Floats) -> Floats:  # noqa: ARG002
        """Raise StateError: kernels cannot be undone."""
        raise StateError("expected an encoder that can be undone, got a kernel hash")

    def state(self) -> dict[str, Any]:
        """Numbers it was made with, and what it has learned."""
        return {
            "d": self.d_in,
            "bits": self.d_out,
            "anchors": self.m,
            "labelled": self.labelled,
            "functions": None if self.functions is None else self.functions._asdict(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> KernelHash:
        """Make a kernel hash, learned or not."""
        settings = {name: state[name] for name in ("d", "bits", "anchors", "labelled")}
        encoder = cls(**settings)
        if state["functions"] is not None:
            encoder.functions = encoder._as_functions(**state["functions"])
        return encoder

    def _as_functions(self, anchors: Any, width: Any, mean: Any, A: Any) -> Functions:
        """Take over what has been learned, if it fits. Raises DimensionError, InputError."""
        shapes = [(self.m, self.d_in), (self.m,), (self.d_out, self.m)]
        arrays = [np.array(numbers, np.float32) for numbers in (anchors, mean, A)]
        if [array.shape for array in arrays] != shapes:
            raise DimensionError(
                f"expected arrays of shapes {shapes}, got {[array.shape for array in arrays]}"
            )
        width = as_real(width, "width")
        if not (width > 0 and all(np.isfinite(array).all() for array in arrays)):
            raise InputError("expected finite numbers and a width above 0, got others")
        return Functions(arrays[0], width, *arrays[1:])
