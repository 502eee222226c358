"""`deepq report`, as it is run: files in, a page out, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deepq
from deepq.cli.app import run

pytest.importorskip("matplotlib", reason="needs deepq[plots]")

X = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
Q = X[:9] + np.float32(0.01)
DEEPQ = Path(sys.executable).with_name("deepq")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an index, what is in it, and what there is to say about that."""
    folder = tmp_path_factory.mktemp("report")
    np.save(folder / "base.npy", X)
    np.save(folder / "wide.npy", np.hstack([X, X]))
    np.save(folder / "few.npy", X[:30])
    np.save(folder / "none.npy", X[:0])
    np.save(folder / "queries.npy", Q)
    np.save(folder / "y.npy", np.arange(400) % 3)
    np.save(folder / "qy.npy", np.arange(9) % 3)
    np.save(folder / "words.npy", np.array(["a", "b", "c"])[np.arange(9) % 3])
    (folder / "texts.txt").write_text("".join(f"text <b>{i}</b>\n" for i in range(400)))
    (folder / "qtexts.txt").write_text("".join(f"query & {i}\n" for i in range(9)))
    (folder / "latin.txt").write_bytes(b"caf\xe9\n" * 400)
    (folder / "paths.txt").write_text("gone.png\n" * 400)
    (folder / "tried.jsonl").write_text("not json\n")
    gt = deepq.datasets.exact_neighbours(X, Q, 10)[1]
    (folder / "gt.ivecs").write_bytes(np.insert(gt, 0, 10, axis=1).astype("<i4").tobytes())
    names = {"base_label": np.arange(400) % 3, "query_label": np.arange(9) % 3}
    np.savez(folder / "set.npz", base=X, query=Q, gt=gt, **names)
    index = deepq.DeepQuantIndex(16, 4, 4, training=deepq.TrainConfig(epochs=2, max_points=400))
    index.train(X)
    deepq.write_index(index, folder / "empty.dpq")
    index.add(X)
    deepq.write_index(index, folder / "full.dpq")
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def told(capsys):
    return json.loads(capsys.readouterr().out)


def evaluated(**how):
    return deepq.evaluate(deepq.read_index("full.dpq"), Q, **how)


@pytest.mark.usefixtures("here")
def test_a_data_set(tmp_path, capsys):
    page = tmp_path / "page.html"
    assert run(["report", "full.dpq", "set.npz", "-o", str(page), "--json"]) == 0
    facts = told(capsys)
    gt = deepq.datasets.exact_neighbours(X, Q, 10)[1]
    labels = np.arange(9) % 3, np.arange(400) % 3
    right = evaluated(ground_truth=gt, measures=["10-recall@10", "mAP"], labels=labels)
    assert {name: facts[name] for name in right} == right
    assert (facts["report"], facts["bytes"]) == (str(page), page.stat().st_size)
    text = page.read_text(encoding="utf-8")
    assert "<title>full.dpq - deepq report</title>" in text
    assert f"{right['10-recall@10']:.3f}" in text


@pytest.mark.usefixtures("here")
def test_files_of_all_kinds(tmp_path, capsys):
    page = tmp_path / "page.html"
    given = {
        "--queries": "queries.npy",
        "--labels": "y.npy",
        "--query-labels": "qy.npy",
        "--texts": "texts.txt",
        "--query-texts": "qtexts.txt",
        "--output": page,
        "--title": "My <index>",
        "--samples": 2,
        "--max-queries": 5,
    }
    line = [str(part) for pair in given.items() for part in pair]
    assert run(["report", "full.dpq", "base.npy", *line]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1].split() == ["queries", "5"]
    text = page.read_text(encoding="utf-8")
    assert "My &lt;index&gt;" in text
    assert "query &amp; " in text
    assert "text &lt;b&gt;" in text
    assert text.count('<article class="query">') == 2


@pytest.mark.usefixtures("here")
def test_without_the_vectors_and_with_suggestions(tmp_path, capsys):
    one = {"M": 4, "nbits": 4, "rerank": 0, "bytes_per_vector": 2, "recall": 0.5}
    tried = tmp_path / "tried.jsonl"
    tried.write_text(json.dumps({**one, "search_us": 3.0, "encode_us": 1.0}) + "\n")
    page = tmp_path / "page.html"
    line = ["report", "full.dpq", "none", "--queries", "queries.npy", "--truth", "gt.ivecs"]
    assert run([*line, "--suggestions", str(tried), "-o", str(page), "--json"]) == 0
    gt = deepq.datasets.read_vectors("gt.ivecs")
    facts = told(capsys)
    assert facts["10-recall@10"] == evaluated(ground_truth=gt)["10-recall@10"]
    assert "error" not in facts
    assert 'id="settings"' in page.read_text(encoding="utf-8")


def test_a_pipe_out(made):
    line = [DEEPQ, "report", "full.dpq", "base.npy", "-o", "-", "--samples", "0"]
    done = subprocess.run(line, cwd=made, capture_output=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"<!DOCTYPE html>")
    assert done.stdout.endswith(b"</html>\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gone.dpq", "base.npy"], 1, "expected an index gone.dpq, got no such file"),
        (["full.dpq", "gone.npy"], 1, "expected a file or folder gone.npy, got none"),
        (["full.dpq", "wide.npy"], 1, "expected data of shape (n, 16), got (400, 32)"),
        (["full.dpq", "few.npy"], 1, "expected the 400 vectors that are in the index, got 30"),
        (["full.dpq", "none.npy"], 1, "got 0"),
        (["empty.dpq", "base.npy"], 1, "expected an index with vectors"),
        (["full.dpq", "none"], 1, "expected stored vectors or queries, got neither"),
        (["full.dpq", "base.npy", "--queries", "wide.npy"], 1, "queries"),
        (["full.dpq", "base.npy", "--queries", "none.npy"], 1, "expected at least one query"),
        (["full.dpq", "base.npy", "--truth", "gt.ivecs"], 1, "expected queries with their truth"),
        (["full.dpq", "base.npy", "--labels", "qy.npy"], 1, "expected 400"),
        (
            [
                *("full.dpq", "base.npy", "--queries", "queries.npy"),
                *("--labels", "y.npy", "--query-labels", "words.npy"),
            ],
            1,
            "expected names, or integers, in both",
        ),
        (["full.dpq", "base.npy", "--labels", "texts.txt"], 1, "of numpy.save in texts.txt"),
        (["full.dpq", "base.npy", "--texts", "latin.txt"], 1, "expected lines of UTF-8"),
        (["full.dpq", "base.npy", "--texts", "qtexts.txt"], 1, "expected 400 texts, got 9"),
        (["full.dpq", "base.npy", "--images", "paths.txt"], 1, "gone.png, got no such file"),
        (["full.dpq", "base.npy", "--suggestions", "tried.jsonl"], 1, "deepq suggest --json"),
        (["full.dpq", "base.npy", "-o", "gone/page.html"], 1, "gone"),
        (["full.dpq", "base.npy", "--max-queries", "0"], 2, "--max-queries"),
        (["full.dpq"], 2, "Missing argument 'DATA'"),
    ],
)
def test_errors_take_a_line_and_write_nothing(here, capsys, arguments, code, words):
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert run(["report", *arguments]) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert code == 2 or len(said.err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.usefixtures("here")
def test_a_missing_matplotlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["report", "full.dpq", "base.npy"]) == 1
    assert "pip install 'deepq[plots]'" in capsys.readouterr().err
    assert not Path("report.html").exists()


def test_help_teaches_by_examples(capsys):
    assert run(["report", "--help"]) == 0
    assert "  deepq report base.dpq base.npy" in capsys.readouterr().out
