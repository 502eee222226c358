"""Index files: whole or refused."""

from __future__ import annotations

import io
import stat

import numpy as np
import pytest

import deepq
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


def test_every_flipped_byte_is_refused_or_lies_in_the_padding(saved):
    whole = deepq.read_index(io.BytesIO(saved))
    accepted = 0
    for at in range(len(saved)):
        damaged = bytearray(saved)
        damaged[at] ^= 0xFF
        try:
            index = deepq.read_index(io.BytesIO(bytes(damaged)))
        except deepq.FormatError:
            continue
        accepted += 1
        assert saved[at] == 0
        assert repr(index) == repr(whole)
        np.testing.assert_array_equal(index.reconstruct_n(), whole.reconstruct_n())
    assert accepted < 5 * 64


def test_what_is_no_index_is_refused_by_name(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not an index")
    with pytest.raises(deepq.FormatError, match=r"notes\.txt"):
        deepq.read_index(path)
    with pytest.raises(FileNotFoundError):
        deepq.read_index(tmp_path / "missing")
    with pytest.raises(TypeError, match="expected a DeepQuantIndex"):
        deepq.write_index(X, path)


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
