"""faiss's own files, read without faiss: what it would make of them, or a refusal."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepq
from deepq import encoders
from deepq._common.safe_files import Reader
from deepq.decoders import Decoder
from deepq.encoders import Affine, Chain, Encoder, Identity, Normalize
from deepq.files.faiss_files import parse
from deepq.quantizers import ProductQuantizer

D, M, NBITS = 9, 3, 2
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT
X = np.random.default_rng(0).standard_normal((300, D)).astype(np.float32)
SQUARE = np.random.default_rng(1).standard_normal((D, D)).astype(np.float32)
SETTINGS = ("search_type", "encode_signs", "polysemous_ht", "metric_arg", "verbose")


class Cubed(Encoder):
    """One that faiss has no transform for."""

    def encode(self, x):
        return np.asarray(x, np.float32) ** 3

    def state(self):
        return {"d_in": self.d_in, "d_out": self.d_out}


encoders.TYPES["Cubed"] = f"{__name__}:Cubed"


def linear(d_out: int = D, *, bias: bool = False) -> faiss.LinearTransform:
    transform = faiss.LinearTransform(D, d_out, bias)
    faiss.copy_array_to_vector(SQUARE[:d_out].ravel(), transform.A)
    if bias:
        faiss.copy_array_to_vector(SQUARE[0, :d_out].copy(), transform.b)
    transform.is_trained = True
    return transform


def opq() -> faiss.OPQMatrix:
    transform = faiss.OPQMatrix(D, M)
    transform.niter = transform.niter_pq = 2
    return transform


def few(transform: Any) -> Any:
    """Train on fewer rows than there are columns."""
    transform.train(X[:7])
    return transform


TRANSFORMS = {
    "none": list,
    "linear": lambda: [linear()],
    "biased": lambda: [linear(3, bias=True)],
    "opq": lambda: [opq()],
    "random": lambda: [faiss.RandomRotationMatrix(D, D)],
    "pca": lambda: [faiss.PCAMatrix(D, 3, -0.5, True)],
    "pca of few": lambda: [few(faiss.PCAMatrix(D, 3))],
    "itq": lambda: [faiss.ITQMatrix(D)],
    "remapping": lambda: [faiss.RemapDimensionsTransform(D, 12, True)],
    "normalizing": lambda: [faiss.NormalizationTransform(D)],
    "centring": lambda: [faiss.CenteringTransform(D)],
    "three": lambda: [faiss.CenteringTransform(D), faiss.NormalizationTransform(D), linear(3)],
}


def chain_of(transforms: list[Any], metric: int = L2, nbits: int = NBITS) -> Any:
    index = faiss.IndexPQ(transforms[-1].d_out if transforms else D, M, nbits, metric)
    if not transforms:
        return index
    chain = faiss.IndexPreTransform(index)
    for transform in reversed(transforms):
        chain.prepend_transform(transform)
    return chain


def filled(transforms: list[Any], metric: int = L2) -> Any:
    index = chain_of(transforms, metric)
    index.train(X)
    index.add(X[:20])
    return index


def ours(encoder: Encoder | None = None, **options: Any) -> deepq.DeepQuantIndex:
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=encoder, **options)
    index.train(X)
    index.add(X[:20])
    return index


def with_decoder() -> deepq.DeepQuantIndex:
    rng = np.random.default_rng(3)
    sizes = {"M": M, "ksub": 4, "dsub": D // M, "d": D, "h": 2}
    shapes = {
        "sites": ("M", "ksub", "dsub"),
        "tables": ("M", "ksub", "d"),
        "features": ("M", "ksub", "h"),
        "inner": ("h", "h"),
        "bias": ("h",),
        "outer": ("h", "h"),
        "output": ("h", "d"),
        "centre": ("d",),
    }
    quantizer = ProductQuantizer(M, NBITS)
    quantizer.codebooks = rng.standard_normal((M, 4, D // M))
    quantizer.decoder = Decoder(
        {name: rng.standard_normal([sizes[s] for s in shape]) for name, shape in shapes.items()}
    )
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=Affine(SQUARE), quantizer=quantizer, rerank=4)
    index.add(X[:20])
    return index


OURS = {
    "rotation": ours,
    "identity": lambda: ours(Identity(D)),
    "affine": lambda: ours(Affine(SQUARE, np.ones(D))),
    "chain": lambda: ours(Chain([Normalize(D), Affine(SQUARE)])),
    "foreign": lambda: ours(Cubed(D, D)),
    "foreign in a chain": lambda: ours(Chain([Affine(SQUARE), Cubed(D, D), Normalize(D)])),
    "decoder": with_decoder,
}


def content(index: Any) -> bytes:
    return faiss.serialize_index(index).tobytes()


def read(data: bytes) -> deepq.DeepQuantIndex:
    return deepq.read_index(io.BytesIO(data))


def by_faiss(data: bytes) -> deepq.DeepQuantIndex:
    return deepq.from_faiss(faiss.deserialize_index(np.frombuffer(data, np.uint8)))


def assert_same(a: deepq.DeepQuantIndex, b: deepq.DeepQuantIndex) -> None:
    """Equal in everything that faiss's format, with what deepq puts into it, can hold."""
    assert repr(a) == repr(b)
    assert content(a) == content(b)
    assert [getattr(a, name) for name in SETTINGS] == [getattr(b, name) for name in SETTINGS]
    assert (a.pq.cp.niter, a.pq.cp.seed, a.rerank) == (b.pq.cp.niter, b.pq.cp.seed, b.rerank)
    assert (a.quantizer.decoder is None) == (b.quantizer.decoder is None)
    if a.is_trained:
        np.testing.assert_array_equal(a.search(X, 3), b.search(X, 3))


# ---- whole files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_it_is_what_faiss_reads(kind, metric, tmp_path):
    index = filled(TRANSFORMS[kind](), metric)
    faiss.write_index(index, str(tmp_path / "index"))
    back = deepq.read_index(tmp_path / "index")
    assert_same(back, by_faiss(content(index)))
    np.testing.assert_allclose(back.search(X, 3)[0], index.search(X, 3)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", OURS)
def test_it_is_what_faiss_wrote_of_ours(kind):
    index = OURS[kind]()
    back = read(content(index))
    assert_same(back, by_faiss(content(index)))
    np.testing.assert_array_equal(back.search(X, 3), index.search(X, 3))
    assert back.rerank == index.rerank


@pytest.mark.parametrize("kind", ["none", "linear", "biased", "normalizing"])
def test_an_untrained_index(kind):
    data = content(chain_of(TRANSFORMS[kind]()))
    back = read(data)
    assert not back.is_trained
    assert_same(back, by_faiss(data))
    back.train(X)


def test_an_untrained_transform_is_refused():
    with pytest.raises(deepq.FormatError, match="expected trained transforms, got an untrained"):
        read(content(chain_of([opq()])))


def test_an_index_of_long_codes():
    index = chain_of([], nbits=9)
    rng = np.random.default_rng(0)
    books = rng.standard_normal(index.pq.centroids.size()).astype(np.float32)
    faiss.copy_array_to_vector(books, index.pq.centroids)
    index.is_trained = True
    index.add(X)
    back = read(content(index))
    assert_same(back, by_faiss(content(index)))
    np.testing.assert_array_equal(back.sa_encode(X), index.sa_encode(X))


@given(
    st.integers(0, 5),
    st.booleans(),
    st.one_of(st.integers(0, 12), st.integers(0, 2**31 - 1)),
)
def test_settings_are_kept(search_type, encode_signs, ht):
    index = chain_of([])
    index.search_type, index.encode_signs, index.polysemous_ht = search_type, encode_signs, ht
    back = read(content(index))
    assert (back.search_type, back.encode_signs, back.polysemous_ht) == (
        search_type,
        encode_signs,
        ht,
    )
    assert_same(back, by_faiss(content(index)))


@pytest.mark.parametrize("name", [b"IxPQ", b"IxPo"])
def test_older_files(name):
    whole = content(filled([], IP))
    old = name + (whole[4:-9] if name == b"IxPQ" else whole[4:])
    back = read(old)
    assert back.metric_type == L2
    assert_same(back, by_faiss(old))


def test_faiss_sees_nothing_of_it(monkeypatch):
    data = content(filled([linear()]))

    def refuse(*_):
        raise SystemExit("faiss has got a file")

    for name in ("deserialize_index", "read_index"):
        monkeypatch.setattr(faiss, name, refuse)
    assert read(data).ntotal == 20


# ---- damaged files -------------------------------------------------------------------------------

SMALL = {
    "plain": content(filled([])),
    "chain": content(filled(TRANSFORMS["three"]())),
    "pca": content(filled(TRANSFORMS["pca"]())),
    "remapping": content(filled(TRANSFORMS["remapping"]())),
    "foreign": content(OURS["foreign"]()),
    "decoder": content(with_decoder()),
}
each_small = pytest.mark.parametrize("kind", SMALL)


def structure(plain: Any) -> tuple[Any, ...]:
    """All of a description but numbers, and settings like the metric.

    A decoder counts as numbers: it goes with the codebooks that it was made for, and no others.
    """

    def of(encoder: Encoder) -> Any:
        inner = [of(member) for member in encoder.members if member is not encoder]
        return type(encoder), encoder.d_in, encoder.d_out, inner

    return (
        of(plain.encoder),
        (plain.M, plain.nbits, plain.codes.shape),
        None if plain.codebooks is None else plain.codebooks.shape,
    )


def described(data: bytes) -> tuple[Any, ...]:
    return structure(parse(Reader(io.BytesIO(data))).inner)


def accepted_as(data: bytes) -> tuple[Any, ...] | None:
    try:
        return described(data)
    except (deepq.FormatError, ValueError, TypeError):
        return None


@each_small
def test_every_prefix_is_refused(kind):
    for length in range(len(SMALL[kind])):
        with pytest.raises(deepq.FormatError, match=r"^expected .* in the file, got "):
            read(SMALL[kind][:length])


@each_small
def test_appended_bytes_are_refused(kind):
    for rest in (b"\0", SMALL[kind]):
        with pytest.raises(deepq.FormatError, match=f"{len(rest)} bytes too many"):
            read(SMALL[kind] + rest)


@each_small
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_is_refused_or_is_a_number(kind, mask):
    """No single byte changes a size, the kind of an encoder, or what is trained."""
    whole, right = SMALL[kind], described(SMALL[kind])
    accepted = 0
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
        found = accepted_as(damaged)
        accepted += found is not None
        assert found in (None, right), at
    assert accepted < len(whole)


def test_a_flipped_byte_that_is_accepted_lies_in_numbers_or_settings():
    whole = SMALL["plain"]
    index = faiss.deserialize_index(np.frombuffer(whole, np.uint8))
    numbers = set[int]()
    for held in (index.pq.centroids, index.codes):
        data = faiss.vector_to_array(held).tobytes()
        start = whole.index(data)
        numbers |= set(range(start, start + len(data)))
    settings = {33, *range(len(whole) - 9, len(whole))}  # the metric, and those at the end
    for at in range(len(whole)):
        for mask in (0x01, 0x10, 0x80, 0xFF):
            damaged = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            try:
                read(damaged)
            except deepq.FormatError:
                continue
            assert at in numbers | settings, at


@pytest.mark.parametrize("kind", ["foreign", "decoder"])
def test_what_deepq_puts_into_it_has_a_checksum(kind):
    whole = SMALL[kind]
    start = whole.index(b"deepq\r\n")
    (length,) = struct.unpack_from("<Q", whole, start + 8)
    for at in [*range(start, start + 24), *range(start + 24, start + 24 + length, 5)]:
        damaged = whole[:at] + bytes([whole[at] ^ 0x04]) + whole[at + 1 :]
        with pytest.raises(deepq.FormatError):
            read(damaged)


@each_small
@given(st.data())
def test_fields_set_to_anything_are_refused_or_are_numbers(kind, data):
    whole, right = SMALL[kind], described(SMALL[kind])
    layout = data.draw(st.sampled_from(["<i", "<q", "<f"]))
    value: Any = data.draw(
        st.floats(width=32)
        if layout == "<f"
        else st.sampled_from([0, 1, -1, 2, 255, 1 << 20, (1 << 31) - 1, -(1 << 31)])
        if layout == "<i"
        else st.sampled_from([0, 1, -1, 7, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63)])
    )
    at = data.draw(st.integers(0, len(whole) - struct.calcsize(layout)))
    damaged = bytearray(whole)
    struct.pack_into(layout, damaged, at, value)
    assert accepted_as(bytes(damaged)) in (None, right)


@given(st.sampled_from([b"IxPq", b"IxPT", b"IxPQ", b"IxPo"]), st.binary(max_size=300))
def test_random_bytes_are_refused(name, rest):
    with pytest.raises(deepq.FormatError):
        read(name + rest)


HEADER = {"d": (4, "<i"), "ntotal": (8, "<q"), "trained": (32, "B"), "metric": (33, "<i")}
PQ = {"pq.d": (37, "<q"), "M": (45, "<q"), "nbits": (53, "<q"), "centroids": (61, "<q")}
FIELDS = {**HEADER, **PQ, "dummy": (16, "<q")}
FAULTS = [
    ({"d": 0}, "a header of d = 0"),
    ({"d": -9}, "a header of d = -9"),
    ({"ntotal": -1}, "ntotal = -1"),
    ({"ntotal": 21}, "20 bytes of codes instead of 21"),
    ({"ntotal": 1 << 62}, "20 bytes of codes instead of 4611686018427387904"),
    ({"dummy": 7}, r"the numbers \[7, 1048576\]"),
    ({"trained": 2}, "is_trained = 2, which is neither 0 nor 1"),
    ({"trained": 0}, "20 codes in an untrained index"),
    ({"metric": 2}, "metric 2 instead of 0"),
    ({"metric": -1}, "metric -1 instead of 0"),
    ({"pq.d": 18}, "a product quantizer of d = 18"),
    ({"M": 0}, "M = 0"),
    ({"M": 1}, "more than 2 bits in a code"),
    ({"M": 4}, "M = 4"),
    ({"M": 9}, "20 bytes of codes instead of 60"),
    ({"M": 1 << 62}, "M = 4611686018427387904"),
    ({"nbits": 0}, "nbits = 0"),
    ({"nbits": 17}, "nbits = 17"),
    ({"nbits": 3}, "36 numbers in centroids instead of 72"),
    ({"nbits": 16}, "36 numbers in centroids instead of 589824"),
    ({"centroids": 1 << 60}, "numbers in centroids instead of 36"),
    ({"d": 1 << 30, "pq.d": 1 << 30, "M": 1, "centroids": 1 << 32}, "centroids of 17179869184"),
]


@pytest.mark.parametrize(("fields", "message"), FAULTS, ids=[str(f) for f, _ in FAULTS])
def test_an_impossible_field_is_named(fields, message):
    damaged = bytearray(SMALL["plain"])
    for name, value in fields.items():
        struct.pack_into(FIELDS[name][1], damaged, FIELDS[name][0], value)
    start = f"expected an IndexPQ or IndexIVFPQ of faiss's, .*, in the file, got .*(?:{message})"
    with pytest.raises(deepq.FormatError, match=start):
        read(bytes(damaged))


def settings(search_type: int, signs: int = 0, ht: int = 7) -> bytes:
    return SMALL["plain"][:-9] + struct.pack("<iBi", search_type, signs, ht)


CHAIN = SMALL["chain"]
CENTRING, NORM, LINEAR = (CHAIN.index(name) for name in (b"VCnt", b"VNrm", b"LTra"))
INSIDE = CHAIN.index(b"IxPq")
REMAP = SMALL["remapping"]


def edited(whole: bytes, *changes: tuple[int, bytes]) -> bytes:
    data = bytearray(whole)
    for at, value in changes:
        data[at : at + len(value)] = value
    return bytes(data)


def i4(value: int) -> bytes:
    return struct.pack("<i", value)


OTHERS = {
    "search_type": (settings(6), "search_type 6"),
    "a negative search_type": (settings(-1), "search_type -1"),
    "encode_signs": (settings(0, 2), "encode_signs = 2"),
    "polysemous_ht": (settings(0, 0, -1), "polysemous_ht -1"),
    "NaN in centroids": (edited(SMALL["plain"], (69, b"\0\0\xc0\x7f")), "infinity in centroids"),
    "a negative count": (edited(CHAIN, (37, i4(-1))), "-1 transforms"),
    "a huge count": (edited(CHAIN, (37, i4(2**31 - 1))), "2147483647 transforms"),
    "one transform fewer": (edited(CHAIN, (37, i4(2))), "an index of the kind 'LTra'"),
    "an unknown transform": (edited(CHAIN, (NORM, b"VXyz")), "a transform of the kind 'VXyz'"),
    "a norm": (edited(CHAIN, (NORM + 4, struct.pack("<f", 1.0))), "got a normalizing one"),
    "d of the chain": (edited(CHAIN, (4, i4(5))), "9 inputs of a centring transform instead of 5"),
    "ntotal of the chain": (edited(CHAIN, (8, i4(4))), "4 vectors in the chain instead of 20"),
    "metric of the chain": (edited(CHAIN, (33, i4(0))), "0 as the metric of the chain instead"),
    "is_trained": (edited(CHAIN, (32, b"\0")), "False as is_trained of the chain"),
    "a huge mean": (edited(CHAIN, (CENTRING + 10, i4(1))), "mean of 1125899906842660 bytes where"),
    "infinity in a mean": (edited(CHAIN, (CENTRING + 12, b"\0\0\x80\xff")), "infinity in a mean"),
    "have_bias": (edited(CHAIN, (LINEAR + 4, b"\1")), "0 numbers in b instead of 3"),
    "have_bias of 3": (edited(CHAIN, (LINEAR + 4, b"\3")), "have_bias = 3"),
    "NaN in A": (edited(CHAIN, (LINEAR + 13, b"\0\0\xc0\x7f")), "infinity in A"),
    "d_in of A": (edited(CHAIN, (INSIDE - 9, i4(5))), "numbers in A instead of 15"),
    "outputs of nothing": (edited(CHAIN, (INSIDE - 5, i4(0))), "from 9 to 0 numbers"),
    "an untrained part": (edited(CHAIN, (INSIDE - 1, b"\0")), "True as is_trained of the chain"),
    "another index": (edited(CHAIN, (INSIDE, b"IxFl")), r"of the kind IndexFlat \('IxFl'\)"),
    "a map too far": (edited(REMAP, (REMAP.index(b"RmDT") + 12, i4(9))), "a map of other than 9"),
    "a map before": (edited(REMAP, (REMAP.index(b"RmDT") + 12, i4(-2))), "a map of other than 9"),
    "ITQ": (content(filled([faiss.ITQTransform(D, 3, True)])), "a transform of the kind 'Viqt'"),
}


@pytest.mark.parametrize("fault", OTHERS)
def test_what_does_not_fit_together_is_named(fault):
    data, message = OTHERS[fault]
    with pytest.raises(deepq.FormatError, match=message):
        read(data)


def test_tables_that_nobody_can_want_are_refused():
    index = chain_of([], nbits=9)
    index.search_type = faiss.IndexPQ.ST_SDC
    with pytest.raises(deepq.FormatError, match="search_type 3 for nbits = 9"):
        read(content(index))
    index.search_type = faiss.IndexPQ.ST_HE
    assert read(content(index)).search_type == faiss.IndexPQ.ST_HE


def test_a_small_file_asks_for_little_memory():
    """Whatever it says of itself."""
    transform = faiss.RemapDimensionsTransform(2**30, D, False)
    wide = content(chain_of([transform]))
    long = edited(SMALL["plain"], (61, struct.pack("<q", 1 << 58)))
    tracemalloc.start()
    try:
        for data in (wide, long):
            with pytest.raises(deepq.FormatError):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (faiss.IndexFlatL2(8), r"IndexFlatL2 \('IxF2'\)"),
        (faiss.IndexHNSWFlat(8, 4), r"IndexHNSWFlat \('IHNf'\)"),
        (faiss.IndexIDMap2(faiss.IndexFlatL2(8)), r"IndexFlatL2 \('IxF2'\)"),
        (faiss.IndexLSH(8, 8), "'IxHe'"),
        (faiss.IndexPreTransform(faiss.IndexFlatIP(8)), "IndexFlatIP"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_another_index_of_faiss_is_named(other, name, tmp_path):
    faiss.write_index(other, str(tmp_path / "other"))
    with pytest.raises(ValueError, match=f"expected .*IndexPQ.* got an index .*of the kind {name}"):
        deepq.read_index(tmp_path / "other")
