"""An index exported to Lance answers as it did, by the same codebooks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq.cli.app import run as run_command

lance = pytest.importorskip("lance")
D, N, K = 24, 700, 8
RNG = np.random.default_rng(0)
X = (RNG.standard_normal((N, D)) @ RNG.standard_normal((D, D))).astype(np.float32)
Q = (X[:12] + 0.3 * RNG.standard_normal((12, D))).astype(np.float32)
QUICK = deepq.TrainConfig(epochs=2, ranking=False)

# The metric, and what changes vectors: nothing, a learned rotation, scaling to length 1, a matrix.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"encoder": encoders.Identity(D)},
    "rotated": {},
    "cosine": {"metric": "cosine"},
    "inner product": {"metric": faiss.METRIC_INNER_PRODUCT},
    "a matrix": {"encoder": encoders.Affine(RNG.standard_normal((12, D)), np.ones(12))},
}


def index_of(kind: str, M: int = 4, nbits: int = 8) -> Any:
    index = deepq.DeepQuantIndex(D, M, nbits, training=QUICK, **KINDS[kind])
    index.train(X)
    index.add(X)
    return index


def ask(data: Any, index: Any, q: Any, k: int, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """Search as docs/files_and_formats.md says; distances as ours are."""
    found = []
    for z in index.encoder.encode(q):
        nearest = {"column": "vector", "q": z, "k": k, "nprobes": 1}
        table = data.to_table(columns=["id", "_distance"], nearest=nearest, **how)
        found.append((table["_distance"].to_numpy(), table["id"].to_numpy()))
    D, I = (np.stack(parts) for parts in zip(*found, strict=True))
    return (D if index.metric_type == faiss.METRIC_L2 else 1 - D), I


def assert_same(found: Any, right: Any) -> None:
    """Compare distances, and ids where no two codes have the same distance."""
    np.testing.assert_allclose(found[0], right[0], rtol=1e-4, atol=1e-4)
    distinct = (np.abs(np.diff(right[0], axis=1)) > 1e-3).all(axis=1)
    assert distinct.sum() > 4
    np.testing.assert_array_equal(found[1][distinct], right[1][distinct])


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_answers_as_the_index_does(kind, given, tmp_path):
    index = index_of(kind)
    data = deepq.write_lance(index, tmp_path / "a.lance", X if given else None)
    assert data.count_rows() == N
    assert [one.index_type for one in data.describe_indices()] == ["IVF_PQ"]
    assert_same(ask(data, index, Q, K), index.search(Q, K))
    stored = np.stack(data.to_table(columns=["vector"])["vector"].to_numpy())
    z = index.encoder.encode(X)
    kept = z if given else index.quantizer.decode(index.quantizer.encode(z))
    np.testing.assert_allclose(stored, kept, rtol=1e-5, atol=1e-5)
    assert data.schema.metadata[b"deepq.fingerprint"].decode() == index.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["a.lance"]


def test_codes_of_four_bits(tmp_path):
    index = index_of("rotated", 6, 4)
    data = deepq.write_lance(index, tmp_path / "a.lance")
    D, _ = ask(data, index, Q, K)
    np.testing.assert_allclose(D, index.search(Q, K)[0], rtol=1e-4, atol=1e-4)


def test_rows_in_a_file_and_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("deepq.files.lance_files._BLOCK", 97)
    np.save(tmp_path / "x.npy", X)
    index = index_of("rotated")
    given = deepq.write_lance(
        index, tmp_path / "a.lance", np.load(tmp_path / "x.npy", mmap_mode="r")
    )
    stored = deepq.write_lance(index, tmp_path / "b.lance")
    for data in (given, stored):
        assert_same(ask(data, index, Q, K), index.search(Q, K))


def test_a_filter_applies_after_the_search_unless_it_is_asked_for_before(tmp_path):
    index = index_of("rotated")
    data = deepq.write_lance(index, tmp_path / "a.lance")
    nearest = index.search(Q[:1], K)[1][0]
    how = {"filter": f"id not in ({', '.join(map(str, nearest[:3]))})"}
    after = ask(data, index, Q[:1], K, **how)[1][0]
    assert after.tolist() == nearest[3:].tolist()  # fewer than were asked for
    before = ask(data, index, Q[:1], K, prefilter=True, **how)[1][0]
    allowed = faiss.IDSelectorNot(faiss.IDSelectorBatch(nearest[:3]))
    params = deepq.SearchParameters(sel=allowed)
    assert before.tolist() == index.search(Q[:1], K, params=params)[1][0].tolist()


def test_ids_of_the_users(tmp_path):
    index, ids = index_of("rotated"), np.arange(N)[::-1] * 7 + 3
    data = deepq.write_lance(index, tmp_path / "a.lance", ids=ids)
    D, I = index.search(Q, K)
    assert_same(ask(data, index, Q, K), (D, ids[I]))


def test_what_lance_does_not_hold_is_refused(tmp_path):
    def write(index: Any, error: type[Exception], match: str, **how: Any) -> None:
        with pytest.raises(error, match=match):
            deepq.write_lance(index, tmp_path / "a.lance", **how)
        assert not list(tmp_path.iterdir())

    index = index_of("rotated")
    for M, nbits in ((4, 6), (3, 4)):
        other = deepq.DeepQuantIndex(D, M, nbits, training=QUICK)
        other.train(X)
        other.add(X)
        write(other, ValueError, f"got M = {M}, nbits = {nbits}")
    write(index.copy_empty(), RuntimeError, "expected a trained index with vectors")
    write(deepq.DeepQuantIndex(D, 4), RuntimeError, "expected a trained index with vectors")
    cells = deepq.DeepQuantIVFIndex(D, 4, 4, 4, training=QUICK)
    write(cells, TypeError, "expected a DeepQuantIndex for Lance, got DeepQuantIVFIndex")
    write(index, ValueError, f"expected x of {N} rows, got 5", x=X[:5])
    write(index, ValueError, f"expected ids of {N} rows, got 2", ids=np.arange(2))
    write(index, TypeError, "array of integers", ids=np.ones(N))
    worse = X.copy()
    worse[N - 1, 0] = np.nan
    write(index, ValueError, "finite", x=worse)


def test_a_failure_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(lance.LanceDataset, "create_index", fail)
    with pytest.raises(OSError, match="no space"):
        deepq.write_lance(index_of("rotated"), tmp_path / "a.lance")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path):
    (tmp_path / "a.lance").mkdir()
    (tmp_path / "a.lance" / "mine").write_text("mine")
    with pytest.raises(ValueError, match="expected a new folder"):
        deepq.write_lance(index_of("rotated"), tmp_path / "a.lance")
    assert (tmp_path / "a.lance" / "mine").read_text() == "mine"


def test_a_missing_lance_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ImportError, match=r"pip install 'deepq\[lance\]'"):
        deepq.write_lance(index_of("rotated"), tmp_path / "a.lance")


# ---- on the command line -------------------------------------------------------------------------


def test_convert(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    index, ids = index_of("rotated"), np.arange(N) * 3 + 1
    deepq.write_index(index, "a.dpq")
    np.save("x.npy", X)
    assert run_command(["convert", "a.dpq", "a.lance", "--vectors", "x.npy", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["ntotal"]) == ("lance", N)
    assert facts["bytes"] > N * (4 * D + 4)
    assert_same(ask(lance.dataset("a.lance"), index, Q, K), index.search(Q, K))
    outer = faiss.IndexIDMap2(index.copy_empty())
    outer.add_with_ids(X, ids)
    faiss.write_index(outer, "named.faiss")
    assert run_command(["convert", "named.faiss", "b.lance"]) == 0
    D_, I = index.search(Q, K)
    assert_same(ask(lance.dataset("b.lance"), index, Q, K), (D_, ids[I]))
    for line, said in (
        (["convert", "a.dpq", "a.lance", "--force"], "which is there"),
        (["convert", "a.dpq", "c.faiss", "--vectors", "x.npy"], "expected no --vectors"),
        (["convert", "a.dpq", "d.lance", "--vectors", "missing.npy"], "missing.npy"),
    ):
        capsys.readouterr()
        assert run_command(line) == 1
        assert said in capsys.readouterr().err
    assert not Path("d.lance").exists()
