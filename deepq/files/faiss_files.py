"""faiss's own files of an IndexPQ or IndexIVFPQ, alone or behind transforms: read without faiss.

faiss believes what such a file says of itself: one that is damaged may load and answer wrongly, end
the process, or ask for any amount of memory. Here every size and flag is compared with the others
and with the length of the file first. Numbers are not: the format has no checksums, so codes,
codewords, the numbers of transforms and settings are taken as they are, if they are finite.

The layout (faiss 1.14.2 to 1.15); `faiss_values` says what a header, a vector and a flag are:

    IndexPQ       "IxPq", header, product quantizer, vector of codes, search_type int32,
                  encode_signs flag, polysemous_ht int32
    older ones    "IxPo" the same, of metric L2 whatever it says; "IxPQ" that without the last three
    IndexIVFPQ    "IwPQ" ...: see `faiss_cells`
    chain         "IxPT", header, number of transforms int32, the transforms, an index
    map of ids    "IxMp" or "IxM2", header, an index, vector of int64
    quantizer     d M nbits int64, vector of float32 centroids
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deepq._common.errors import FormatError
from deepq._common.safe_files import InFile, Reader, fill
from deepq._common.types import METRIC_L2
from deepq.encoders.chain import Chain
from deepq.files.faiss_cells import read_cells
from deepq.files.faiss_transforms import check_chain, read_transforms
from deepq.files.faiss_values import (
    Header,
    flag,
    read_header,
    read_product_quantizer,
    read_vector,
    require,
    require_bits,
    text,
)
from deepq.index.native import payload
from deepq.index.native.plain import PlainCells, PlainIndex, Transform, with_ids
from deepq.index.native.refused import advice_for
from deepq.index.native.transforms import encoder_of

_FLAT = (b"IxPq", b"IxPo", b"IxPQ")
_CELLS = b"IwPQ"
_CHAIN = b"IxPT"
_MAPS = (b"IxMp", b"IxM2")
INDEXES = (*_FLAT, _CELLS, _CHAIN, *_MAPS)

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
    b"IBwF": "IndexBinaryIVF",
    b"IHNf": "IndexHNSWFlat",
    b"IwFl": "IndexIVFFlat",
    b"IwPQ": "IndexIVFPQ",
    b"IwPf": "IndexIVFPQFastScan",
    b"IwQR": "IndexIVFPQR",
    b"IwSq": "IndexIVFScalarQuantizer",
}

_ST_SDC = 3
_MOST_SYMMETRIC_BITS = 8  # of words whose distances to each other are in a table
_LOOKED_AT = 1000  # codes whose unused bits are looked at


def kind_of(name: bytes) -> str:
    """Say which class of faiss's a file of that name is of, and what to do, as far as is known."""
    if name not in _KINDS:
        return text(name)
    return f"{_KINDS[name]} ({text(name)}){advice_for(_KINDS[name])}"


class _Parts(NamedTuple):
    """What has been read: of an index, of the whole it is in, and the transforms before it."""

    header: Header
    content: dict[str, Any]
    transforms: list[Transform]


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
    header, index, transforms = _read(reader, INDEXES, maps=maps)
    reader.end()
    trained = header.is_trained and all(transform.is_trained for transform in transforms)
    if header.ntotal and not trained:
        raise FormatError(f"{header.ntotal} codes in an untrained index")
    spare = [t.b for t in transforms if t.kind == "linear" and not t.has_bias]
    return PlainIndex(
        encoder=Chain.of([encoder_of(t, network) for t in transforms], index.pop("d")),
        is_trained=trained,
        carried=payload.carried(spare, index["codebooks"]),
        **index,
    )


def _read(reader: Reader, allowed: tuple[bytes, ...], *, maps: bool) -> _Parts:
    """Read an index of one of the kinds that may stand here, with all that is inside."""
    name = reader.take(4, "the name of an index")
    if name not in allowed:
        raise FormatError(f"an index of the kind {kind_of(name)}")
    if name == _CHAIN:
        return _chain(reader, tuple(kind for kind in allowed if kind != _CHAIN), maps=maps)
    if name in _MAPS:
        inside = tuple(kind for kind in allowed if kind not in _MAPS)
        return _in_a_map(reader, inside, _KINDS[name], maps=maps)
    if name == _CELLS:
        if maps:  # ids would not be where numbers of 8 bytes may be
            raise FormatError(
                "one in cells, which deepq.write_index writes so that it can be mapped"
            )
        header, index = read_cells(reader)
    else:
        header, index = _flat(reader, name, maps=maps)
    return _Parts(header, {"d": header.d, "metric": header.metric, **index}, [])


def _chain(reader: Reader, allowed: tuple[bytes, ...], *, maps: bool) -> _Parts:
    header, transforms = read_header(reader), read_transforms(reader)
    inner = _read(reader, allowed, maps=maps)
    trained = inner.header.is_trained and all(each.is_trained for each in transforms)
    check_chain(header, transforms, inner.header._replace(is_trained=trained))
    return inner._replace(header=header, transforms=transforms)


def _in_a_map(reader: Reader, allowed: tuple[bytes, ...], name: str, *, maps: bool) -> _Parts:
    """Read a map of ids, whose ids become those of the lists inside."""
    header, inner = read_header(reader), _read(reader, allowed, maps=maps)
    for own, wanted, what in zip(header, inner.header, Header._fields, strict=True):
        require(own, wanted, f"as {what} of an {name}")
    ids = read_vector(reader, "<i8", "ids", header.ntotal)
    cells = inner.content["codes"]
    if not isinstance(cells, PlainCells):
        raise FormatError(f"an {name} around an IndexPQ{advice_for(name)}")
    inner.content["codes"] = with_ids(cells, ids)
    return inner


# ---- an IndexPQ ----------------------------------------------------------------------------------


def _flat(reader: Reader, name: bytes, *, maps: bool) -> tuple[Header, dict[str, Any]]:
    header = read_header(reader)
    parts = read_product_quantizer(reader, header.d, is_trained=header.is_trained)
    parts["codes"] = _codes(reader, header.ntotal, parts["M"] * parts["nbits"], maps=maps)
    parts["settings"] = _settings(reader, name, parts["nbits"])
    return header, parts if name == b"IxPq" else {**parts, "metric": METRIC_L2}


def _codes(reader: Reader, ntotal: int, bits: int, *, maps: bool) -> InFile:
    (size,) = reader.unpack("<Q", "the size of the codes")
    code_size = (bits + 7) // 8
    require(size, ntotal * code_size, "bytes of codes")
    at = reader.skip(size, "codes")
    few = np.empty((min(ntotal, _LOOKED_AT), code_size), np.uint8)
    fill(reader.file, at, few.reshape(-1))
    require_bits(few, bits)
    return InFile(reader.file, at, (ntotal, code_size), maps=maps)


def _settings(reader: Reader, name: bytes, nbits: int) -> dict[str, Any]:
    if name == b"IxPQ":  # as faiss has them then
        return {"search_type": 0, "encode_signs": False, "polysemous_ht": 1}
    search_type, encode_signs, ht = reader.unpack("<iBi", "the settings of searches")
    if not 0 <= search_type <= 5 or (search_type == _ST_SDC and nbits > _MOST_SYMMETRIC_BITS):
        raise FormatError(f"search_type {search_type} for nbits = {nbits}")
    if ht < 0:
        raise FormatError(f"polysemous_ht {ht}")
    encode_signs = flag(encode_signs, "encode_signs")
    return {"search_type": search_type, "encode_signs": encode_signs, "polysemous_ht": ht}
