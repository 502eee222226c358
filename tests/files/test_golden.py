"""Files and pickles of every released version of the format are read, and answer as they did."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

import deepq

from .golden.make import rows

FOLDERS = sorted(path for path in (Path(__file__).parent / "golden").iterdir() if path.is_dir())
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.*")) if path.suffix != ".npz"]
PICKLES = [path for path in FILES if path.suffix == ".pickle" and path.stem != "own"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_it_answers_as_it_did(path: Path) -> None:
    if path.stem == "own":  # with a network of a user's own class: plain pickle, of a friend
        index = pickle.loads(path.read_bytes())
    elif path.suffix == ".pickle":
        index = deepq.load_pickle(path)
    else:
        index = deepq.read_index(path)
    D, I = index.search(rows()[0][100:110], 5)
    answers = np.load(path.parent / "answers.npz")
    np.testing.assert_array_equal(I, answers[f"{path.stem}_I"])
    np.testing.assert_allclose(D, answers[f"{path.stem}_D"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: path.name)
def test_pickle_and_file_are_one_index(path: Path) -> None:
    file, old = io.BytesIO(), io.BytesIO()
    with path.open("rb") as stream:
        deepq.write_index(pickle.load(stream), file)
    deepq.write_index(deepq.read_index(path.with_suffix(".dpq")), old)
    assert file.getvalue() == old.getvalue()


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: path.name)
def test_it_is_pickled_as_it_was(path: Path) -> None:
    if path.parent != FOLDERS[-1]:
        pytest.skip("of an older version of the format")
    assert pickle.dumps(deepq.load_pickle(path), protocol=4) == path.read_bytes()


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".dpq"], ids=lambda p: p.name)
def test_it_is_written_as_it_was(path: Path, monkeypatch) -> None:
    # The first files had no fingerprints; tests/index/test_fingerprint.py has those of these.
    monkeypatch.setattr("deepq.files.kinds._mark", lambda *_: {})
    if path.parent != FOLDERS[-1]:
        pytest.skip("of an older version of the format")
    file = io.BytesIO()
    deepq.write_index(deepq.read_index(path), file)
    assert file.getvalue() == path.read_bytes()


def test_there_are_files_of_every_kind() -> None:
    found = {path.stem for path in FILES if path.parent == FOLDERS[-1]}
    assert found == {
        "codes",
        "cosine",
        "decoder",
        "dqn",
        "dsh",
        "cnnh",
        "ksh",
        "own",
        "cells",
        "imi",
        "IxPq",
        "IxPT",
        "IwPQ",
        "IxM2",
    }
