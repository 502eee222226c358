"""faiss's own files of an IndexPQ, alone or behind transforms: read without faiss.

faiss believes what such a file says of itself: one that is damaged may load and answer wrongly, end
the process, or ask for any amount of memory. Here every size and flag is compared with the others
and with the length of the file first. Numbers are not: the format has no checksums, so codes,
codewords, the numbers of transforms and settings are taken as they are, if they are finite.

The layout (faiss 1.14.2 to 1.15, little-endian, without gaps), where a vector is its length in 8
bytes and its items, and a flag is a byte, 0 or 1:

    header        d int32, ntotal int64, twice 2**20 as int64, is_trained flag, metric int32
    IndexPQ       "IxPq", header, d M nbits int64, vector of float32 centroids, vector of codes,
                  search_type int32, encode_signs flag, polysemous_ht int32
    older ones    "IxPo" the same, of metric L2 whatever it says; "IxPQ" that without the last three
    chain         "IxPT", header, number of transforms int32, the transforms, an IndexPQ
    transform     its name, its numbers, d_in d_out int32, is_trained flag
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepq._common.errors import FormatError
from deepq._common.safe_files import InFile, Reader, fill
from deepq._common.types import METRIC_L2, Floats
from deepq.encoders.chain import Chain
from deepq.index.native import bridge, payload
from deepq.index.native.plain import PlainIndex, Transform
from deepq.index.native.transforms import encoder_of

INDEXES = (b"IxPT", b"IxPq", b"IxPo", b"IxPQ")

# How the names of faiss's other indexes begin, and whole names of those that people have most.
FAMILIES = (b"Ix", b"IB", b"IH", b"Iw", b"Iv", b"IN", b"IP", b"Is", b"IL", b"IR")
_KINDS = {
    b"IxF2": "IndexFlatL2",
    b"IxFI": "IndexFlatIP",
    b"IxFl": "IndexFlat",
    b"IxMp": "IndexIDMap",
    b"IxM2": "IndexIDMap2",
    b"IxRF": "IndexRefine",
    b"IxSQ": "IndexScalarQuantizer",
    b"IPfs": "IndexPQFastScan",
    b"IBxF": "IndexBinaryFlat",
    b"IHNf": "IndexHNSWFlat",
    b"IwFl": "IndexIVFFlat",
    b"IwPQ": "IndexIVFPQ",
}

_DUMMY = 1 << 20
_ST_SDC = 3
_MOST_SYMMETRIC_BITS = 8  # of words whose distances to each other are in a table
_MOST_TRANSFORMS = 16
_LOOKED_AT = 1000  # codes whose unused bits are looked at

# What linear transforms have before their vectors, and the vectors of some before A and b.
_LINEAR = {
    b"LTra": ("", ()),
    b"rrot": ("", ()),
    b"Viqm": ("ii", ()),
    b"PCAm": ("fB", ("mean", "eigenvalues", "PCAMat")),
    b"PcAm": ("fBi", ("mean", "eigenvalues", "PCAMat")),
    b"Pcam": ("ffBi", ("mean", "eigenvalues", "PCAMat")),
}


def kind_of(name: bytes) -> str:
    """Say which class of faiss's a file of that name is of, as far as it is known."""
    return f"{_KINDS[name]} ({_text(name)})" if name in _KINDS else _text(name)


class _Header(NamedTuple):
    d: int
    ntotal: int
    is_trained: bool
    metric: int


def parse(reader: Reader, network: Any = None, *, maps: bool = False) -> PlainIndex:
    """Read a file from the beginning to its end.

    Parameters
    ----------
    reader : Reader
        At the beginning.
    network : optional
        What a user hands back, see `deepq.read_index`.
    maps : bool
        Whether the codes are to stay in the file.

    Raises
    ------
    FormatError
        If it is anything else than a whole index of parts that fit together.
    KindError, InputError
        If it has a transform that no encoder stands for, or an untrained one.
    """
    name, chain, transforms = reader.take(4, "the name of an index"), None, list[Transform]()
    if name == b"IxPT":
        chain = _header(reader)
        (count,) = reader.unpack("<i", "the number of transforms")
        if not 0 <= count <= _MOST_TRANSFORMS:
            raise FormatError(f"{count} transforms")
        transforms = [_transform(reader) for _ in range(count)]
        name = reader.take(4, "the name of the index inside")
    if name not in INDEXES[1:]:
        raise FormatError(f"an index of the kind {kind_of(name)}")
    inner = _header(reader)
    trained = inner.is_trained and all(transform.is_trained for transform in transforms)
    parts = _product_quantizer(reader, inner)
    parts["codes"] = _codes(reader, inner.ntotal, parts["M"] * parts["nbits"], maps=maps)
    parts["settings"] = _settings(reader, name, parts["nbits"])
    reader.end()
    if inner.ntotal and not trained:
        raise FormatError(f"{inner.ntotal} codes in an untrained index")
    if chain is not None:
        _check_chain(chain, transforms, inner._replace(is_trained=trained))
    spare = [t.b for t in transforms if t.kind == "linear" and not t.has_bias]
    return PlainIndex(
        encoder=Chain.of([encoder_of(t, network) for t in transforms], inner.d),
        is_trained=trained,
        metric=inner.metric if name == b"IxPq" else METRIC_L2,
        carried=payload.carried(spare, parts["codebooks"]),
        **parts,
    )


# ---- an index ------------------------------------------------------------------------------------


def _header(reader: Reader) -> _Header:
    d, ntotal, *dummies, trained, metric = reader.unpack("<iqqqBi", "the header of an index")
    if d < 1 or ntotal < 0 or dummies != [_DUMMY, _DUMMY]:
        raise FormatError(f"a header of d = {d}, ntotal = {ntotal} and the numbers {dummies}")
    if metric not in (0, 1):
        raise FormatError(f"metric {metric} instead of 0 (inner product) or 1 (L2)")
    return _Header(d, ntotal, _flag(trained, "is_trained"), metric)


def _check_chain(chain: _Header, transforms: list[Transform], inner: _Header) -> None:
    d = chain.d
    for transform in transforms:
        _require(transform.d_in, d, f"inputs of a {transform.kind} transform")
        d = transform.d_out
    _require(inner.d, d, "dimensions of the index inside")
    _require(chain.ntotal, inner.ntotal, "vectors in the chain")
    _require(chain.metric, inner.metric, "as the metric of the chain")
    _require(chain.is_trained, inner.is_trained, "as is_trained of the chain")


def _product_quantizer(reader: Reader, header: _Header) -> dict[str, Any]:
    d, M, nbits = reader.unpack("<QQQ", "the sizes of the product quantizer")
    if d != header.d or not 1 <= M <= d or d % M or not 1 <= nbits <= 16:
        raise FormatError(f"a product quantizer of d = {d}, M = {M}, nbits = {nbits}")
    centroids = _vector(reader, "<f4", "centroids", d << nbits)
    books = centroids.reshape(M, 1 << nbits, d // M) if header.is_trained else None
    if books is not None:
        _require_finite(books, "centroids")
    return {"M": M, "nbits": nbits, "codebooks": books}


def _codes(reader: Reader, ntotal: int, bits: int, *, maps: bool) -> InFile:
    (size,) = reader.unpack("<Q", "the size of the codes")
    code_size = (bits + 7) // 8
    _require(size, ntotal * code_size, "bytes of codes")
    at = reader.skip(size, "codes")
    few = np.empty((min(ntotal, _LOOKED_AT), code_size), np.uint8)
    fill(reader.file, at, few.reshape(-1))
    if bits % 8 and (few[:, -1] >> bits % 8).any():  # of another M
        raise FormatError(f"more than {bits} bits in a code")
    return InFile(reader.file, at, (ntotal, code_size), None, maps=maps)


def _settings(reader: Reader, name: bytes, nbits: int) -> dict[str, Any]:
    if name == b"IxPQ":  # as faiss has them then
        return {"search_type": 0, "encode_signs": False, "polysemous_ht": 1}
    search_type, encode_signs, ht = reader.unpack("<iBi", "the settings of searches")
    if not 0 <= search_type <= 5 or (search_type == _ST_SDC and nbits > _MOST_SYMMETRIC_BITS):
        raise FormatError(f"search_type {search_type} for nbits = {nbits}")
    if ht < 0:
        raise FormatError(f"polysemous_ht {ht}")
    encode_signs = _flag(encode_signs, "encode_signs")
    return {"search_type": search_type, "encode_signs": encode_signs, "polysemous_ht": ht}


# ---- transforms ----------------------------------------------------------------------------------


def _transform(reader: Reader) -> Transform:
    name = reader.take(4, "the name of a transform")
    if name in _LINEAR:
        return _linear(reader, *_LINEAR[name])
    if name == b"RmDT":
        transform = _complete(reader, "remapping", _vector(reader, "<i4", "map"))
        inputs = transform.numbers
        _require(len(inputs), transform.d_out, "numbers in a map")
        if not ((inputs >= -1) & (inputs < transform.d_in)).all():
            raise FormatError(f"a map of other than {transform.d_in} inputs")
        return transform
    if name == b"VCnt":
        transform = _complete(reader, "centring", _vector(reader, "<f4", "mean"))
        _require(len(transform.numbers), transform.d_in, "numbers in a mean")
        _require_finite(transform.numbers, "a mean")
    elif name == b"VNrm":
        transform = _complete(reader, "normalizing", reader.numbers(1, "<f4", "a norm"))
    else:
        raise FormatError(f"a transform of the kind {_text(name)}")
    _require(transform.d_out, transform.d_in, f"outputs of a {transform.kind} transform")
    return transform


def _linear(reader: Reader, layout: str, names: tuple[str, ...]) -> Transform:
    settings = reader.unpack("<" + layout, "the settings of a transform")
    if "B" in layout:
        _flag(settings[layout.index("B")], "random_rotation")
    known = [len(_vector(reader, "<f4", name)) for name in names]
    has_bias = _flag(reader.unpack("<B", "have_bias")[0], "have_bias")
    A, b = _vector(reader, "<f4", "A"), _vector(reader, "<f4", "b")
    transform = _complete(reader, "linear", A, has_bias, b)
    d_in, d_out = transform.d_in, transform.d_out
    if any(known):
        _require(known[0], d_in, "numbers in a mean")
        _require(known[2] % d_in, 0, "numbers in the last row of PCAMat")
    if transform.is_trained and not bridge.is_state(A, d_in * d_out):
        _require(len(A), d_in * d_out, "numbers in A")
        _require_finite(A, "A")
    if has_bias:
        _require(len(b), d_out, "numbers in b")
        _require_finite(b, "b")
    elif len(b) and not payload.is_carried(b):
        raise FormatError(f"{len(b)} numbers in b of a transform without a bias")
    return transform


def _complete(reader: Reader, kind: str, numbers: NDArray[Any], *bias: Any) -> Transform:
    """Read what all transforms end with."""
    d_in, d_out, trained = reader.unpack("<iiB", f"the sizes of a {kind} transform")
    if d_in < 1 or d_out < 1:
        raise FormatError(f"a {kind} transform from {d_in} to {d_out} numbers")
    return Transform(kind, d_in, d_out, _flag(trained, "is_trained"), numbers, *bias)


# ---- values --------------------------------------------------------------------------------------


def _vector(reader: Reader, dtype: str, what: str, wanted: int | None = None) -> NDArray[Any]:
    (count,) = reader.unpack("<Q", f"the size of {what}")
    if wanted is not None:
        _require(count, wanted, f"numbers in {what}")
    return reader.numbers(count, dtype, what)


def _flag(value: int, what: str) -> bool:
    if value not in (0, 1):
        raise FormatError(f"{what} = {value}, which is neither 0 nor 1")
    return bool(value)


def _require(value: int, wanted: int, what: str) -> None:
    if value != wanted:
        raise FormatError(f"{value} {what} instead of {wanted}")


def _require_finite(numbers: Floats, what: str) -> None:
    if not np.isfinite(numbers).all():
        raise FormatError(f"NaN or infinity in {what}")


def _text(name: bytes) -> str:
    return repr(name.decode("latin-1"))
