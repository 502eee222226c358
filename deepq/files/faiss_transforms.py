"""Transforms in faiss's own files: its VectorTransforms, parsed in Python.

The layout; `faiss_values` says what a vector and a flag are:

    transform     its name, its numbers, d_in d_out int32, is_trained flag
    linear        settings of its class, have_bias flag, vectors of float32 A and b
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import FormatError
from deepq._common.safe_files import Reader
from deepq.files.faiss_values import Header, flag, read_vector, require, require_finite, text
from deepq.index.native import bridge, payload
from deepq.index.native.plain import Transform

_MOST_TRANSFORMS = 16

# What linear transforms have before their vectors, and the vectors of some before A and b.
_LINEAR = {
    b"LTra": ("", ()),
    b"rrot": ("", ()),
    b"Viqm": ("ii", ()),
    b"PCAm": ("fB", ("mean", "eigenvalues", "PCAMat")),
    b"PcAm": ("fBi", ("mean", "eigenvalues", "PCAMat")),
    b"Pcam": ("ffBi", ("mean", "eigenvalues", "PCAMat")),
}


def read_transforms(reader: Reader) -> list[Transform]:
    """Read the transforms of a chain.

    Raises FormatError for what cannot be, or a transform that is not known.
    """
    (count,) = reader.unpack("<i", "the number of transforms")
    if not 0 <= count <= _MOST_TRANSFORMS:
        raise FormatError(f"{count} transforms")
    return [_transform(reader) for _ in range(count)]


def check_chain(chain: Header, transforms: list[Transform], inner: Header) -> None:
    """Raise FormatError unless the index inside takes what comes out, and is what the chain is."""
    d = chain.d
    for transform in transforms:
        require(transform.d_in, d, f"inputs of a {transform.kind} transform")
        d = transform.d_out
    require(inner.d, d, "dimensions of the index inside")
    require(chain.ntotal, inner.ntotal, "vectors in the chain")
    require(chain.metric, inner.metric, "as the metric of the chain")
    require(chain.is_trained, inner.is_trained, "as is_trained of the chain")


def _transform(reader: Reader) -> Transform:
    name = reader.take(4, "the name of a transform")
    if name in _LINEAR:
        return _linear(reader, *_LINEAR[name])
    if name == b"RmDT":
        transform = _complete(reader, "remapping", read_vector(reader, "<i4", "map"))
        inputs, behind = np.split(transform.numbers, [transform.d_out])
        require(len(inputs), transform.d_out, "numbers in a map")
        if len(behind) and not payload.is_carried(behind):
            raise FormatError(f"{len(behind)} numbers too many in a map")
        if not ((inputs >= -1) & (inputs < transform.d_in)).all():
            raise FormatError(f"a map of other than {transform.d_in} inputs")
        return transform._replace(numbers=inputs, spare=behind.view(np.float32))
    if name == b"VCnt":
        transform = _complete(reader, "centring", read_vector(reader, "<f4", "mean"))
        require(len(transform.numbers), transform.d_in, "numbers in a mean")
        require_finite(transform.numbers, "a mean")
    elif name == b"VNrm":
        transform = _complete(reader, "normalizing", reader.numbers(1, "<f4", "a norm"))
    else:
        raise FormatError(f"a transform of the kind {text(name)}")
    require(transform.d_out, transform.d_in, f"outputs of a {transform.kind} transform")
    return transform


def _linear(reader: Reader, layout: str, names: tuple[str, ...]) -> Transform:
    settings = reader.unpack("<" + layout, "the settings of a transform")
    if "B" in layout:
        flag(settings[layout.index("B")], "random_rotation")
    known = [len(read_vector(reader, "<f4", name)) for name in names]
    has_bias = flag(reader.unpack("<B", "have_bias")[0], "have_bias")
    A, b = read_vector(reader, "<f4", "A"), read_vector(reader, "<f4", "b")
    transform = _complete(reader, "linear", A, has_bias, b)
    d_in, d_out = transform.d_in, transform.d_out
    if any(known):
        require(known[0], d_in, "numbers in a mean")
        require(known[2] % d_in, 0, "numbers in the last row of PCAMat")
    if transform.is_trained and not bridge.is_state(A, d_in * d_out):
        require(len(A), d_in * d_out, "numbers in A")
        require_finite(A, "A")
    if has_bias:
        require(len(b), d_out, "numbers in b")
        require_finite(b, "b")
    elif len(b) and not payload.is_carried(b):
        raise FormatError(f"{len(b)} numbers in b of a transform without a bias")
    return transform if has_bias else transform._replace(spare=b)


def _complete(reader: Reader, kind: str, numbers: NDArray[Any], *bias: Any) -> Transform:
    """Read what all transforms end with."""
    d_in, d_out, trained = reader.unpack("<iiB", f"the sizes of a {kind} transform")
    if d_in < 1 or d_out < 1:
        raise FormatError(f"a {kind} transform from {d_in} to {d_out} numbers")
    return Transform(kind, d_in, d_out, flag(trained, "is_trained"), numbers, *bias)
