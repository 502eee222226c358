"""Index files: whole or refused."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
import threading
import tracemalloc

import faiss
import numpy as np
import pytest

import deepq
from deepq._common.safe_files import checksum
from deepq.encoders import Affine, Chain, Identity, Normalize

D = 12
X = np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)
SQUARE = np.random.default_rng(1).standard_normal((D, D)).astype(np.float32)

ENCODERS = {
    "rotation": None,
    "identity": Identity(D),
    "affine": Affine(SQUARE, np.ones(D)),
    "narrower": Affine(SQUARE[:8]),
    "chain": Chain([Normalize(D), Affine(SQUARE)]),
}


@pytest.fixture(scope="module", params=ENCODERS, ids=str)
def index(request):
    """A small filled index of one kind of encoder."""
    made = deepq.DeepQuantIndex(D, 4, 5, encoder=ENCODERS[request.param])
    made.train(X)
    made.add(X[:50])
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a small file."""
    index = deepq.DeepQuantIndex(4, 2, 2)
    index.train(X[:, :4])
    index.add(X[:5, :4])
    path = tmp_path_factory.mktemp("io") / "small.dpq"
    deepq.write_index(index, path)
    return path.read_bytes()


@pytest.mark.parametrize("convert", [str, lambda path: path], ids=["str", "Path"])
def test_a_file_restores_the_index(index, tmp_path, convert):
    path = convert(tmp_path / "index.dpq")
    deepq.write_index(index, path)
    restored = deepq.read_index(path)
    assert repr(restored) == repr(index)
    np.testing.assert_array_equal(restored.search(X[:9], 5), index.search(X[:9], 5))
    np.testing.assert_array_equal(restored.reconstruct_n(), index.reconstruct_n())


def test_a_file_object_will_do(index):
    file = io.BytesIO()
    deepq.write_index(index, file)
    file.seek(0)
    assert repr(deepq.read_index(file)) == repr(index)


def test_every_prefix_is_refused(saved):
    for length in range(len(saved)):
        with pytest.raises(deepq.FormatError, match="expected a whole deepq index"):
            deepq.read_index(io.BytesIO(saved[:length]))


def test_appended_bytes_are_refused(saved):
    with pytest.raises(deepq.FormatError):
        deepq.read_index(io.BytesIO(saved + b"\0"))


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(saved, mask):
    for at in range(len(saved)):
        damaged = saved[:at] + bytes([saved[at] ^ mask]) + saved[at + 1 :]
        with pytest.raises(deepq.FormatError, match=r"^expected a whole deepq index in the file"):
            deepq.read_index(io.BytesIO(damaged))


def test_two_files_cannot_be_mixed(saved, tmp_path):
    """Not even where everything has the same size."""
    index = deepq.DeepQuantIndex(4, 2, 2)
    index.train(X[100:, :4])
    index.add(X[5:10, :4])
    deepq.write_index(index, tmp_path / "other.dpq")
    other = (tmp_path / "other.dpq").read_bytes()
    ends = (64, struct.unpack_from("<Q", saved, 24)[0] + 64, len(saved) - 128, len(saved) - 64)
    for end in ends:
        with pytest.raises(deepq.FormatError):
            deepq.read_index(io.BytesIO(saved[:end] + other[end:]))


def altered(saved: bytes, change) -> bytes:
    """A file of another header, with the right checksum."""
    (length,) = struct.unpack_from("<Q", saved, 24)
    document = json.loads(saved[64 : 64 + length])
    header = change(document)
    if not isinstance(header, bytes):
        header = json.dumps(document).encode()
    gap = -len(header) % 64
    rest = saved[64 + length + -length % 64 :]
    total = 64 + len(header) + gap + len(rest)
    head = struct.pack("<8sIIQQQ", saved[:8], 1, 0, checksum(header), len(header), total)
    return head.ljust(64, b"\0") + header + bytes(gap) + rest


def sets(*keys, to):
    """Put something else in a place of the header."""

    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = to

    return change


WRONG = {
    "a huge array": (sets("arrays", 0, "shape", to=[1 << 40, 4]), "encoder.A of 17592186044416 b"),
    "no array": (sets("arrays", 0, "shape", to=[0, 1 << 70]), ""),
    "a negative length": (sets("arrays", 0, "shape", to=[-4, -4]), "encoder.A of an unknown kind"),
    "a word for a length": (sets("arrays", 0, "shape", to=["4", "4"]), "encoder.A of an unknown"),
    "a true length": (sets("arrays", 0, "shape", to=[True, 16]), "encoder.A of an unknown kind"),
    "objects": (sets("arrays", 0, "dtype", to="|O"), "encoder.A of an unknown kind"),
    "float codes": (sets("arrays", 2, "dtype", to="<f4"), "codes of shape"),
    "flat codes": (sets("arrays", 2, "shape", to=[5]), "codes of shape"),
    "other codes": (sets("arrays", 2, "shape", to=[1, 5]), r"expected codes of shape \(n, 1\)"),
    "a shape of nothing": (sets("arrays", 0, "shape", to=None), ""),
    "no checksum": (sets("arrays", 0, "xxh3", to="?"), ""),
    "one array fewer": (lambda document: document["arrays"].pop(), "bytes too many"),
    "an array that is not there": (sets("index", "codebooks", to={"$array": 9}), "array 9 missing"),
    "codes as codebooks": (sets("index", "codebooks", to={"$array": 2}), ""),
    "a list": (sets("index", to=[]), ""),
    "an encoder of numbers": (sets("index", "encoder", to=[1, 2]), ""),
    "an unknown encoder": (sets("index", "encoder", "type", to="os:system"), "TYPES does not have"),
    "another d": (sets("index", "d", to=5), "d = 5 and an encoder of 4 inputs"),
    "another M": (sets("index", "M", to=4), "expected codebooks of shape"),
    "M of infinity": (sets("index", "M", to=float("inf")), "expected M to be an integer"),
    "a metric": (sets("index", "metric", to=7), "expected METRIC_L2"),
    "a rotation that is no matrix": (
        sets("index", "encoder", to={"type": "Rotation", "A": [{"$array": 0}], "is_fitted": False}),
        r"expected a matrix \(d_out, d_in\), got shape \(1, 4, 4\)",
    ),
    "an unknown setting": (sets("index", "training", to={"speed": 1}), "speed"),
    "no settings": (sets("index", "settings", to={}), ""),
    "deep JSON": (lambda _: b"[" * 200_000 + b"]" * 200_000, "recursion"),
    "no JSON": (lambda _: b"{]", ""),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_header_that_does_not_fit_is_refused(saved, fault):
    """By the checks of the objects, whoever made the checksum."""
    change, message = WRONG[fault]
    data = io.BytesIO(altered(saved, change))
    with pytest.raises(deepq.FormatError, match=f"^expected a whole deepq index.*{message}"):
        deepq.read_index(data)


def test_a_file_does_not_choose_where_a_training_writes(saved, tmp_path):
    path = str(tmp_path / "checkpoint")
    index = deepq.read_index(
        io.BytesIO(altered(saved, sets("index", "training", to={"checkpoint": path})))
    )
    assert index.training == deepq.TrainConfig()


def test_a_newer_version_says_so(saved):
    newer = saved[:8] + struct.pack("<I", 2) + saved[12:]
    with pytest.raises(deepq.FormatError, match="format version 2, this deepq reads 1"):
        deepq.read_index(io.BytesIO(newer))


@pytest.mark.parametrize(("array", "name"), [(0, "encoder.A"), (1, "codebooks"), (2, "codes")])
def test_a_damaged_array_is_named(saved, array, name):
    at = len(saved) - 64 * (3 - array)
    damaged = saved[:at] + bytes([saved[at] ^ 1]) + saved[at + 1 :]
    with pytest.raises(deepq.FormatError, match=f"damaged {name}"):
        deepq.read_index(io.BytesIO(damaged))
    if name == "codes":
        whole = deepq.read_index(io.BytesIO(saved))
        loaded = deepq.read_index(io.BytesIO(damaged), verify="header")
        assert (loaded.ntotal, loaded.codebooks.tolist()) == (5, whole.codebooks.tolist())
    else:
        with pytest.raises(deepq.FormatError, match=f"damaged {name}"):
            deepq.read_index(io.BytesIO(damaged), verify="header")


def test_verify_is_one_of_two_words(saved):
    with pytest.raises(ValueError, match="expected verify='full' or 'header', got 'none'"):
        deepq.read_index(io.BytesIO(saved), verify="none")


def test_what_is_no_index_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not an index")
    with pytest.raises(deepq.FormatError, match=r"notes\.txt"):
        deepq.read_index(path)
    with pytest.raises(FileNotFoundError):
        deepq.read_index(tmp_path / "missing")
    with pytest.raises(TypeError, match="expected a DeepQuantIndex"):
        deepq.write_index(X, path)


def test_text_is_no_index():
    with pytest.raises(TypeError, match="expected a binary file, got one of str"):
        deepq.read_index(io.StringIO("text"))


def test_a_stream_will_do(index, tmp_path):
    """As a socket or a pipe, which takes and gives some bytes at a time, and has no positions."""

    class Stream(io.RawIOBase):
        held = b""

        def write(self, piece):
            self.held += bytes(piece[:1000])
            return min(len(piece), 1000)

        def read(self, count=-1):
            return self.held if count < 0 else self.held[:count]

        def seek(self, *_):
            raise OSError("no positions")

    stream = Stream()
    deepq.write_index(index, stream)
    deepq.write_index(index, tmp_path / "index.dpq")
    assert stream.held == (tmp_path / "index.dpq").read_bytes()
    assert repr(deepq.read_index(stream)) == repr(index)


@pytest.mark.parametrize("count", [None, 0])
def test_a_file_that_takes_nothing_is_an_error(index, count):
    class Deaf:
        def write(self, _):
            return count

    with pytest.raises(OSError, match=f"expected a file that takes bytes, got .* says {count}"):
        deepq.write_index(index, Deaf())


def test_numbers_that_json_does_not_hold_are_an_error(tmp_path):
    index = deepq.DeepQuantIndex(4, 2, 2, training=deepq.TrainConfig(max_seconds=float("inf")))
    with pytest.raises(ValueError, match="expected finite settings and history"):
        deepq.write_index(index, tmp_path / "index.dpq")
    assert not list(tmp_path.iterdir())


def test_folders_pipes_and_devices_are_left_alone(index, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for use in (deepq.read_index, lambda path: deepq.write_index(index, path)):
        with pytest.raises(IsADirectoryError):
            use(tmp_path)
        for special in (pipe, "/dev/null"):
            with pytest.raises(OSError, match="expected a regular file"):
                use(special)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_loading_takes_the_memory_of_the_codes_once(tmp_path):
    """Not counted here is the C++ object, which holds them."""
    index = deepq.DeepQuantIndex(4, 2, 2)
    index.train(X[:, :4])
    index.add_sa_codes(np.zeros((1 << 22, 1), np.uint8))
    deepq.write_index(index, tmp_path / "index.dpq")
    tracemalloc.start()
    try:
        back = deepq.read_index(tmp_path / "index.dpq")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        deepq.write_index(back, tmp_path / "index.dpq")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_holds_one_state_of_an_index_that_changes(tmp_path):
    index = deepq.DeepQuantIndex(4, 2, 2)
    index.train(X[:, :4])
    stop = threading.Event()

    def change():
        while not stop.is_set():
            index.add(X[:100, :4])
            if index.ntotal > 10_000:
                index.reset()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            deepq.write_index(index, tmp_path / "index.dpq")
            back = deepq.read_index(tmp_path / "index.dpq")
            assert back.ntotal % 100 == 0
            want = np.tile(index.sa_encode(X[:100, :4]), (back.ntotal // 100, 1))
            np.testing.assert_array_equal(faiss.vector_to_array(back.codes), want.ravel())
    finally:
        stop.set()
        thread.join()


def test_a_failed_write_leaves_no_trace(index, tmp_path):
    with pytest.raises(FileNotFoundError):
        deepq.write_index(index, tmp_path / "no folder" / "index.dpq")
    assert not list(tmp_path.iterdir())


def test_a_link_stays_a_link_and_permissions_stay(index, tmp_path):
    target, link = tmp_path / "target.dpq", tmp_path / "link.dpq"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to(target)
    deepq.write_index(index, link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert repr(deepq.read_index(target)) == repr(index)
