"""`fingerprint` and `copy_empty`: one training in several places."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import xxhash

import deepq
from deepq import encoders

from ..clients.kinds import KINDS, XB, XQ, XT, D, OwnNetwork, bare, made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_is_that_of_every_copy(kind):
    index = bare(kind)
    found = index.fingerprint
    assert len(found) == 16
    assert int(found, 16) >= 0
    file = io.BytesIO()
    deepq.write_index(index, file)
    file.seek(0)
    network = OwnNetwork() if kind == "network of one's own" else None
    others = [
        made(kind),
        copy.deepcopy(index),
        pickle.loads(pickle.dumps(index)),
        deepq.read_index(file, network),
        deepq.from_faiss(deepq.to_faiss(index), network),
        index.copy_empty(),
    ]
    assert {other.fingerprint for other in others} == {found}


def test_no_two_kinds_have_the_same():
    assert len({made(kind).fingerprint for kind in KINDS}) == len(KINDS)


def test_each_thing_counts():
    index = made("re-ranked")
    prints = {index.fingerprint}
    for change in (
        lambda other: setattr(other, "metric_type", faiss.METRIC_INNER_PRODUCT),
        lambda other: setattr(other, "codebooks", other.codebooks + np.float32(1e-6)),
        lambda other: setattr(other, "codebooks", other.codebooks),  # which are without a decoder
    ):
        other = copy.deepcopy(index)
        change(other)
        prints.add(other.fingerprint)
    cells = made("cells")
    centres = cells.quantizer.reconstruct_n(0, cells.nlist)
    moved = faiss.IndexFlatL2(D)
    moved.add(centres + np.float32(0.5))
    prints.add(cells.fingerprint)
    cells.quantizer = moved
    prints.add(cells.fingerprint)
    assert len(prints) == 6


def test_what_does_not_count(kind):
    index = made(kind)
    found = index.fingerprint
    index.add(XB)
    index.training, index.num_threads, index.history = deepq.TrainConfig(seed=3), 2, []
    assert index.fingerprint == found


SCRIPT = "import sys, deepq; print(deepq.read_index(sys.argv[1]).fingerprint)"


def test_it_is_the_same_in_another_process(tmp_path):
    for kind in ("re-ranked", "network"):
        deepq.write_index(made(kind), tmp_path / "index")
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "index")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == made(kind).fingerprint


def test_there_is_none_before_the_training():
    assert deepq.DeepQuantIndex(D, 4, 4).fingerprint is None
    assert deepq.DeepQuantIVFIndex(D, 8, 4, 4).fingerprint is None


class Stateless(encoders.Encoder):
    def encode(self, x: Any) -> Any:
        return x

    def decode(self, z: Any) -> Any:
        return z


def test_an_encoder_without_a_state_has_none():
    index = deepq.DeepQuantIndex(D, 4, 4, encoder=Stateless(D, D))
    index.train(XT)
    with pytest.raises(TypeError, match="Stateless"):
        _ = index.fingerprint


# ---- in files ------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "files" / "golden" / "1"
# Of files that have none. Another one here is another meaning: see `LearnedIndex._meaning`.
PRINTS = {
    "cells": "520963edb6075676",
    "cnnh": "2660fad782794b0b",
    "codes": "0ebd3b9c8f25e5d9",
    "cosine": "e9704780776dfcf0",
    "decoder": "11a8d2ad8201465d",
    "dqn": "e0a71b242dc43fe2",
    "dsh": "b331b12b41a76d70",
    "imi": "5980e97d9578d67b",
    "ksh": "fe6d5731a9aedcfc",
}


@pytest.mark.parametrize("name", PRINTS)
def test_it_stays_the_same_from_version_to_version(name):
    assert deepq.read_index(GOLDEN / f"{name}.dpq").fingerprint == PRINTS[name]


def rewritten(content: bytes, change: Any) -> io.BytesIO:
    """Return a file whose header has been changed, with the right checksums."""
    length = struct.unpack_from("<Q", content, 24)[0]
    document = json.loads(content[64 : 64 + length])
    change(document["index"])
    header = json.dumps(document).encode()
    rest = content[64 + -(-length // 64) * 64 :]
    gap = bytes(-len(header) % 64)
    total = 64 + len(header) + len(gap) + len(rest)
    check = xxhash.xxh3_64_intdigest(header)
    head = struct.pack("<8sIIQQQ", content[:8], 1, 0, check, len(header), total)
    return io.BytesIO(head + bytes(24) + header + gap + rest)


def test_files_hold_it_and_another_is_refused(kind):
    index, file = bare(kind), io.BytesIO()
    deepq.write_index(index, file)
    network = OwnNetwork() if kind == "network of one's own" else None
    seen = []

    def read(change: Any) -> Any:
        return deepq.read_index(rewritten(file.getvalue(), change), network)

    assert read(lambda state: seen.append(state["fingerprint"])).fingerprint == seen[0]
    assert seen == [index.fingerprint]
    assert read(lambda state: state.pop("fingerprint")).ntotal == index.ntotal
    for other in ("0" * 16, 7, []):
        with pytest.raises(deepq.FormatError, match=f"fingerprint .*{index.fingerprint}"):
            read(lambda state, other=other: state.update(fingerprint=other))


def test_an_untrained_index_has_none_in_its_file():
    file = io.BytesIO()
    deepq.write_index(deepq.DeepQuantIndex(D, 4, 4), file)
    assert b"fingerprint" not in file.getvalue()


# ---- copies without vectors ----------------------------------------------------------------------


def test_filled_in_several_places_and_merged(kind):
    index = bare(kind)
    parts = [index.copy_empty() for _ in range(2)]
    assert [part.ntotal for part in parts] == [0, 0]
    assert index.ntotal == len(XB)
    for part, rows in zip(parts, (slice(0, 250), slice(250, None)), strict=True):
        part.add(XB[rows])
    if "cells" in kind:
        parts[0].merge_from(parts[1], 250)
        parts[0].nprobe = index.nprobe
    else:
        parts[0].merge_from(parts[1])
    (D, I), right = parts[0].search(XQ, 5), index.search(XQ, 5)
    np.testing.assert_allclose(D, right[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(I, right[1])


def test_settings_stay(kind):
    index = bare(kind)
    again = index.copy_empty()
    assert type(again) is type(index)
    assert (again.rerank, again.training) == (index.rerank, index.training)
    assert type(again.encoder) is type(index.encoder)
    index.remove_ids(np.arange(len(XB) - 1))
    again.add(XB[:3])
    assert (again.ntotal, index.ntotal) == (3, 1)


class Named(deepq.DeepQuantIndex):
    pass


def test_a_subclass_and_an_untrained_index():
    assert type(Named(D, 4, 4).copy_empty()) is Named
    assert not deepq.DeepQuantIVFIndex(D, 8, 4, 4).copy_empty().is_trained


def test_a_mapped_index_gives_one_in_memory(tmp_path):
    deepq.write_index(bare("re-ranked"), tmp_path / "index")
    index = deepq.read_index(tmp_path / "index", mmap=True).copy_empty()
    index.add(XB[:5])
    assert index.ntotal == 5


def test_a_refused_merge_tells_both():
    index, other = bare("re-ranked"), bare("inner product")
    with pytest.raises(ValueError, match=f"{index.fingerprint} and {other.fingerprint}"):
        index.merge_from(other)


def test_encoders_of_the_users_may_describe_themselves_otherwise(monkeypatch):
    """Only they know whether that changes what codes mean."""
    index = deepq.DeepQuantIndex(D, 4, 4, encoder=Described(D, D))
    index.train(XT)
    file = io.BytesIO()
    monkeypatch.setitem(encoders.TYPES, "Described", f"{__name__}:Described")
    deepq.write_index(index, file)
    before = index.fingerprint
    monkeypatch.setattr(Described, "more", {"since": "yesterday"})
    file.seek(0)
    assert deepq.read_index(file).fingerprint != before


class Described(Stateless):
    more: dict[str, Any] = {}  # noqa: RUF012

    def state(self) -> dict[str, Any]:
        return {"d": self.d_in, **self.more}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Described:
        return cls(state["d"], state["d"])
