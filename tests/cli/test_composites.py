"""The command line on files whose root is a composite of faiss's."""

from __future__ import annotations

import json

import faiss
import numpy as np
import pytest

import deepq
from deepq.cli.app import run

X = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
Q = X[:7] + np.float32(0.01)
IDS = np.arange(600)[::-1] * 3 + 5


def turned(inner):
    rotation = faiss.RandomRotationMatrix(16, 16)
    rotation.init(3)
    return faiss.IndexPreTransform(rotation, inner)


AROUND = {
    "IndexIDMap": faiss.IndexIDMap,
    "IndexIDMap2": faiss.IndexIDMap2,
    "IndexRefineFlat": faiss.IndexRefineFlat,
    "IndexPreTransform": turned,
}


@pytest.fixture(scope="module")
def inner():
    index = deepq.DeepQuantIndex(16, 4, 4, training=deepq.TrainConfig(epochs=2))
    index.train(X)
    return index


@pytest.fixture(params=AROUND)
def kind(request):
    return request.param


@pytest.fixture
def path(kind, inner, tmp_path, monkeypatch):
    """A file of a composite of this kind, in the folder of the run, with queries beside it."""
    outer = AROUND[kind](inner.copy_empty())
    outer.add_with_ids(X, IDS) if "IDMap" in kind else outer.add(X)
    monkeypatch.chdir(tmp_path)
    faiss.write_index(outer, "outer.faiss")
    np.save("queries.npy", Q)
    return "outer.faiss"


def told(capsys):
    return json.loads(capsys.readouterr().out)


def test_info(path, kind, inner, capsys):
    assert run(["info", path, "--json"]) == 0
    facts = told(capsys)
    assert (facts["in"], facts["kind"]) == (kind, "DeepQuantIndex")
    assert (facts["ntotal"], facts["M"], facts["fingerprint"]) == (600, 4, inner.fingerprint)


def test_search(path, capsys):
    D, I = deepq.read_index(path).search(Q, 3)
    assert run(["search", path, "queries.npy", "-k", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_array_equal([line["ids"] for line in lines], I)
    np.testing.assert_array_equal(np.float32([line["scores"] for line in lines]), D)
    assert run(["search", path, "queries.npy", "--nprobe", "3"]) == 1
    assert "expected no --nprobe of an index without cells" in capsys.readouterr().err


def test_queries_of_other_widths_are_refused(path, capsys):
    np.save("narrow.npy", Q[:, :5])
    assert run(["search", path, "narrow.npy"]) == 1
    assert "expected queries of shape (n, 16), got (7, 5)" in capsys.readouterr().err


def test_evaluate_with_a_data_set_and_with_ids(path, kind, capsys):
    _, gt = deepq.datasets.exact_neighbours(X, Q, 3)
    np.savez("set.npz", train=X, base=X, query=Q, gt=gt)
    measures = ["--measures", "1-recall@3", "--json"]
    assert run(["evaluate", path, "set.npz", *measures]) == 0
    recall = told(capsys)["1-recall@3"]
    found = deepq.read_index(path).search(Q, 3)[1]
    rows = 599 - (found - 5) // 3 if "IDMap" in kind else found
    assert recall == pytest.approx((rows == gt[:, :1]).any(axis=1).mean())
    assert recall > 0
    np.save("ids.npy", IDS[gt] if "IDMap" in kind else gt)
    assert run(["evaluate", path, "queries.npy", "--truth", "ids.npy", *measures]) == 0
    assert told(capsys)["1-recall@3"] == pytest.approx(recall)


def test_convert(path, kind, capsys):
    assert run(["convert", path, "again.faiss", "--json"]) == 0
    assert told(capsys)["ntotal"] == 600
    again = deepq.read_index("again.faiss")
    assert type(again).__name__ == kind
    for one, other in zip(again.search(Q, 3), deepq.read_index(path).search(Q, 3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run(["convert", path, "bare.dpq"]) == 1
    said = capsys.readouterr().err
    assert f"in no composite for a file of deepq's, got an {kind}" in said
    assert "--to faiss keeps it" in said


def test_what_changes_vectors_is_refused(path, capsys):
    before = deepq.read_index(path).ntotal
    for line in (["add", path, "queries.npy"], ["merge", path, path, "--output", "m.dpq"]):
        assert run(line) == 1
        assert f"expected an index that is in no composite in {path}" in capsys.readouterr().err
    assert deepq.read_index(path).ntotal == before


def test_probes_and_reranking_reach_the_index_inside(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    index = deepq.DeepQuantIVFIndex(16, 8, 4, 4, training=deepq.TrainConfig(epochs=1))
    index.train(X)
    outer = faiss.IndexRefineFlat(index)
    outer.add(X)
    faiss.write_index(outer, "cells.faiss")
    np.save("queries.npy", Q)
    found = []
    for nprobe in (1, 8):
        index.nprobe = nprobe
        assert (
            run(["search", "cells.faiss", "queries.npy", "-k", "9", "--nprobe", str(nprobe)]) == 0
        )
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found.append([line["ids"] for line in lines])
        right = outer.search(Q, 9)[1]
        assert found[-1] == [[i for i in row if i >= 0] for row in right.tolist()]
    assert found[0] != found[1]
