"""The command line, as it is run: files in, files and lines out, exit codes."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

import deepq
from deepq.cli import main
from deepq.cli.app import run

X = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
Q = X[:7] + np.float32(0.01)
DEEPQ = Path(sys.executable).with_name("deepq")
QUICK = ("--kind", "PQ4x4", "--max-points", "500")


def command(*arguments, **how):
    """Run `deepq` in a process of its own."""
    return subprocess.run([DEEPQ, *map(str, arguments)], capture_output=True, timeout=600, **how)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with vectors, and an index of them that the command line has trained and filled."""
    folder = tmp_path_factory.mktemp("cli")
    np.save(folder / "base.npy", X)
    np.save(folder / "queries.npy", Q)
    done = command("train", "base.npy", "trained.dpq", *QUICK, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained_on"] == 600
    done = command("add", "trained.dpq", "base.npy", "--output", "full.dpq", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


@pytest.fixture(scope="module")
def right(made):
    return deepq.read_index(made / "full.dpq").search(Q, 5)


def test_what_was_trained_and_added(made):
    index = deepq.read_index(made / "full.dpq")
    assert (index.ntotal, index.pq.M, index.pq.nbits) == (600, 4, 4)
    assert deepq.read_index(made / "trained.dpq").ntotal == 0
    same = deepq.index_factory(16, "PQ4x4")
    same.training = deepq.TrainConfig(max_points=500)
    same.train(X)
    np.testing.assert_array_equal(same.codebooks, index.codebooks)


def test_a_pipe_in_and_out(made, right):
    given = (made / "queries.npy").read_bytes()
    done = command("search", "full.dpq", "-", "-k", 5, cwd=made, input=given)
    assert (done.returncode, done.stderr) == (0, b"")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["query"] for line in found] == list(range(7))
    np.testing.assert_array_equal([line["ids"] for line in found], right[1])
    np.testing.assert_array_equal(np.float32([line["scores"] for line in found]), right[0])


def test_a_closed_pipe_ends_quietly(made):
    np.save(made / "many.npy", np.tile(Q, (3000, 1)))
    line = [DEEPQ, "search", "full.dpq", "many.npy"]
    with subprocess.Popen(
        line, cwd=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert json.loads(process.stdout.readline())["query"] == 0
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(600) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(made):
    with Path("/dev/full").open("wb") as full:
        line = [DEEPQ, "search", "full.dpq", "queries.npy"]
        done = subprocess.run(line, cwd=made, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["deepq: [Errno 28] No space left on device"]


def read_npz(path):
    with np.load(path) as arrays:
        return arrays["D"], arrays["I"]


def read_parquet(path):
    pytest.importorskip("pyarrow")
    found = [np.asarray(deepq.datasets.read_vectors(path, name)) for name in ("scores", "ids")]
    return found[0], found[1]


def read_csv(path):
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5] * 7
    assert [int(row["query"]) for row in rows] == np.repeat(np.arange(7), 5).tolist()
    D, I = np.float32([row["score"] for row in rows]), np.int64([row["id"] for row in rows])
    return D.reshape(7, 5), I.reshape(7, 5)


def read_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return np.float32([row["scores"] for row in rows]), np.array([row["ids"] for row in rows])


READERS = {"npz": read_npz, "parquet": read_parquet, "csv": read_csv, "jsonl": read_jsonl}


@pytest.mark.parametrize("kind", [*READERS, "ivecs"])
@pytest.mark.usefixtures("here")
def test_answers_in_every_format(tmp_path, right, kind):
    path = tmp_path / f"answers.{kind}"
    assert run(["search", "full.dpq", "queries.npy", "-k", "5", "--output", str(path)]) == 0
    if kind == "ivecs":
        np.testing.assert_array_equal(deepq.datasets.read_vectors(path), right[1])
        return
    D, I = READERS[kind](path)
    np.testing.assert_array_equal(D, right[0])
    np.testing.assert_array_equal(I, right[1])


@pytest.mark.usefixtures("here")
def test_missing_results(tmp_path):
    few = deepq.read_index("trained.dpq")
    few.add(X[:2])
    deepq.write_index(few, tmp_path / "few.dpq")
    for name in ("a.jsonl", "a.npz"):
        arguments = ["search", str(tmp_path / "few.dpq"), "queries.npy", "-k", "3"]
        assert run([*arguments, "--output", str(tmp_path / name)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [len(line["ids"]) for line in lines] == [2] * 7
    assert (read_npz(tmp_path / "a.npz")[1][:, 2] == -1).all()


def told(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("here")
def test_info_has_the_fingerprint(capsys):
    assert run(["info", "full.dpq", "--json"]) == 0
    index = deepq.read_index("full.dpq")
    assert json.loads(capsys.readouterr().out)["fingerprint"] == index.fingerprint


def test_info(here, capsys):
    assert run(["info", "full.dpq", "--json"]) == 0
    facts = told(capsys)
    assert (facts["kind"], facts["ntotal"], facts["metric"]) == ("DeepQuantIndex", 600, "l2")
    assert facts["bytes"] == (here / "full.dpq").stat().st_size
    assert run(["info", "base.npy"]) == 0
    assert capsys.readouterr().out.split() == [
        "kind",
        "vectors",
        "n",
        "600",
        "d",
        "16",
        "dtype",
        "float32",
    ]


@pytest.mark.usefixtures("here")
def test_convert_there_and_back(tmp_path, capsys, right):
    its, ours = tmp_path / "its.faiss", tmp_path / "ours.dpq"
    assert run(["convert", "full.dpq", str(its), "--json"]) == 0
    assert told(capsys)["format"] == "faiss"
    np.testing.assert_allclose(faiss.read_index(str(its)).search(Q, 5)[0], right[0], rtol=1e-5)
    assert run(["convert", str(its), str(ours)]) == 0
    np.testing.assert_array_equal(deepq.read_index(ours).search(Q, 5)[1], right[1])
    assert run(["convert", str(its), str(ours)]) == 1
    assert run(["convert", str(its), str(ours), "--force"]) == 0


@pytest.mark.usefixtures("here")
def test_evaluate(tmp_path, capsys):
    gt = deepq.datasets.exact_neighbours(X, Q, 10)[1]
    np.savez(
        tmp_path / "set.npz",
        base=X,
        query=Q,
        base_label=np.arange(600) % 3,
        query_label=np.arange(7) % 3,
    )
    (tmp_path / "gt.ivecs").write_bytes(np.insert(gt, 0, 10, axis=1).astype("<i4").tobytes())
    right = deepq.evaluate(deepq.read_index("full.dpq"), Q, gt, ["10-recall@10"])
    for data in (["queries.npy", "--truth", tmp_path / "gt.ivecs"], [tmp_path / "set.npz"]):
        arguments = [
            "evaluate",
            "full.dpq",
            *map(str, data),
            "--measures",
            "10-recall@10",
            "--json",
        ]
        assert run(arguments) == 0
        assert told(capsys) == right
    assert (
        run(["evaluate", "full.dpq", str(tmp_path / "set.npz"), "--measures", "mAP,precision@5"])
        == 0
    )
    assert capsys.readouterr().out.startswith("mAP          0.")
    assert run(["evaluate", "trained.dpq", str(tmp_path / "set.npz")]) == 1
    assert "expected an index of the 600 vectors" in capsys.readouterr().err


def test_a_data_set_of_benchmarks(tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    data, index = str(tmp_path / "x.hdf5"), str(tmp_path / "x.dpq")
    with h5py.File(data, "w") as file:
        file.create_dataset("train", data=X, compression="gzip")
        file["test"], file.attrs["distance"] = Q, "angular"
    assert run(["train", data, index, *QUICK, "--add"]) == 0
    assert [type(m).__name__ for m in deepq.read_index(index).encoder.members] == [
        "Normalize",
        "Identity",
    ]
    capsys.readouterr()
    assert run(["evaluate", index, data, "--json"]) == 0
    assert told(capsys)["10-recall@10"] > 0.3
    assert run(["info", data, "--json"]) == 0
    assert told(capsys)["metric"] == "cosine"
    assert run(["search", index, data, "--output", str(tmp_path / "a.npz")]) == 0
    assert read_npz(tmp_path / "a.npz")[1].shape == (7, 10)


@pytest.mark.usefixtures("here")
def test_suggest(capsys):
    assert run(["suggest", "base.npy", "--bytes", "2", "--json"]) == 0
    best = json.loads(capsys.readouterr().out.splitlines()[0])
    assert best["bytes_per_vector"] <= 2
    assert run(["suggest", "base.npy"]) == 2
    assert "expected either --bytes or --recall" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_labels_and_cells(tmp_path, capsys):
    y = np.arange(600) % 3
    np.save(tmp_path / "y.npy", y)
    index = str(tmp_path / "x.dpq")
    arguments = [
        "train",
        "base.npy",
        index,
        "--kind",
        "KSH8",
        "--labels",
        str(tmp_path / "y.npy"),
        "--add",
    ]
    assert run(arguments) == 0
    assert deepq.read_index(index).ntotal == 600
    assert run([*arguments[:5], "--force"]) == 1
    assert "expected --labels, or labels in base.npy, for 'KSH8'" in capsys.readouterr().err
    assert (
        run(
            [
                "train",
                "base.npy",
                index,
                "--kind",
                "IVF4,PQ4x4",
                "--metric",
                "ip",
                "--force",
                "--add",
            ]
        )
        == 0
    )
    assert (
        run(["search", index, "queries.npy", "--nprobe", "4", "--output", str(tmp_path / "a.npz")])
        == 0
    )
    assert run(["info", index]) == 0
    assert "nlist" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "none.npy", "x.dpq"], 1, "expected a file or folder none.npy, got none"),
        (["train", "base.npy", "full.dpq"], 1, "which is there: --force replaces it"),
        (["train", "base.npy", "x.dpq", "--kind", "Flat"], 1, "expected a description such as"),
        (["train", "base.npy", "x.dpq", "--kind", "PQ5"], 1, "M to divide"),
        (["train", "base.npy", "x.dpq", "--metric", "l1"], 2, "'l1' is not one of"),
        (["train", "base.npy", "x.dpq", *QUICK, "--labels", "y.npy"], 1, "learns from labels"),
        (["train", "base.npy", "x.dpq", "--column", "emb"], 1, "expected no column"),
        (["train", "base.npy"], 2, "Missing argument 'INDEX'"),
        (["add", "none.dpq", "base.npy"], 1, "expected an index none.dpq, got no such file"),
        (["add", "base.npy", "base.npy"], 1, "expected a whole deepq index in base.npy"),
        (["search", "full.dpq", "queries.npy", "-k", "0"], 2, "Invalid value for '-k'"),
        (
            ["search", "full.dpq", "queries.npy", "--output", "x.txt"],
            1,
            "expected --output that ends in",
        ),
        (["search", "trained.dpq", "gone/q.npy"], 1, "expected a file or folder"),
        (["evaluate", "full.dpq", "queries.npy"], 1, "--truth beside queries"),
        (["info", "none"], 1, "expected a file none, got none"),
        (["index"], 2, "No such command 'index'"),
    ],
)
def test_errors_take_a_line_and_leave_files_alone(here, capsys, arguments, code, words):
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert run(arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert code == 2 or len(said.err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


def test_an_error_in_the_middle_writes_nothing(here, tmp_path, capsys):
    bad = Q.copy()
    np.save(tmp_path / "wide.npy", np.hstack([bad, bad]))
    out = tmp_path / "a.jsonl"
    out.write_text("before")
    assert run(["search", "full.dpq", str(tmp_path / "wide.npy"), "--output", str(out)]) == 1
    assert "shape (n, 16)" in capsys.readouterr().err
    assert out.read_text() == "before"
    bad[3, 2] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    before = (here / "full.dpq").read_bytes()
    assert run(["add", "full.dpq", str(tmp_path / "nan.npy")]) == 1
    assert "row 3" in capsys.readouterr().err
    assert (here / "full.dpq").read_bytes() == before


# A training that does not end by itself; what runs in the background may not listen to Ctrl-C.
WITHOUT_END = """
import signal
from deepq.training import settings
from deepq.cli import main

settings._MOST_VISITS, settings._EPOCHS = 10**9, 10**6
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_ctrl_c_keeps_the_best_so_far(tmp_path):
    index = tmp_path / "x.dpq"
    np.save(tmp_path / "many.npy", np.random.default_rng(1).standard_normal((3000, 16)))
    line = ["train", "many.npy", str(index), "--progress"]
    line += ["--kind", "PQ4x4,Rerank10", "--preset", "best"]
    line = [sys.executable, "-c", WITHOUT_END, *line]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        said = ""
        while "decoder:" not in said and process.poll() is None:
            said += process.stderr.read1().decode()
        process.send_signal(signal.SIGINT)
        said += process.stderr.read().decode()
        assert process.wait(600) == 130, said
    assert f"interrupted: {index} has the best so far" in said
    assert deepq.read_index(index).is_trained


def test_without_click(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == "deepq: expected click, got none: pip install 'deepq[cli]'\n"


def test_the_installed_command_and_completion():
    done = command("--version")
    assert deepq.__version__.encode() in done.stdout
    done = subprocess.run(
        [DEEPQ], capture_output=True, text=True, env={"_DEEPQ_COMPLETE": "bash_source", "PATH": ""}
    )
    assert "_deepq_completion" in done.stdout


@pytest.mark.parametrize(
    "name", ["train", "add", "search", "evaluate", "info", "suggest", "convert"]
)
def test_help_teaches_by_examples(capsys, name):
    assert run([name, "--help"]) == 0
    assert f"  deepq {name} " in capsys.readouterr().out


# ---- one training in several files ---------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_merge(tmp_path, capsys, right):
    for i, rows in enumerate((X[:250], X[250:])):
        shard = deepq.read_index("trained.dpq")
        shard.add(rows)
        deepq.write_index(shard, tmp_path / f"{i}.dpq")
    parts = [str(tmp_path / "0.dpq"), str(tmp_path / "1.dpq")]
    whole = str(tmp_path / "whole.dpq")
    assert run(["merge", *parts, "--output", whole, "--json"]) == 0
    facts = told(capsys)
    assert (facts["merged"], facts["ntotal"]) == (2, 600)
    found = deepq.read_index(whole)
    assert facts["fingerprint"] == found.fingerprint
    np.testing.assert_array_equal(found.search(Q, 5)[1], right[1])
    assert [deepq.read_index(part).ntotal for part in parts] == [250, 350]
    assert run(["merge", *parts, "--output", whole]) == 1
    assert "--force" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_merge_refuses_another_training(tmp_path, capsys):
    mine, other = deepq.read_index("full.dpq"), deepq.DeepQuantIndex(16, 4, 4)
    other.train(X)
    deepq.write_index(other, tmp_path / "other.dpq")
    out = tmp_path / "out.dpq"
    assert run(["merge", "full.dpq", str(tmp_path / "other.dpq"), "--output", str(out)]) == 1
    said = capsys.readouterr().err
    assert mine.fingerprint in said
    assert other.fingerprint in said
    assert "other.dpq beside full.dpq" in said
    assert not out.exists()


@pytest.mark.usefixtures("here")
def test_drift(tmp_path, capsys, caplog):
    x = np.random.default_rng(1).standard_normal((4000, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "far.npy", x[:3000] * 2)
    index = str(tmp_path / "i.dpq")
    assert run(["train", str(tmp_path / "x.npy"), index, "--kind", "PQ4x4"]) == 0
    capsys.readouterr()
    assert run(["info", index, "--drift", str(tmp_path / "far.npy"), "--json"]) == 0
    facts = told(capsys)
    found = deepq.diagnose(deepq.read_index(index), x[:3000] * 2)
    assert (facts["rows"], facts["drift"]) == (3000, pytest.approx(found.drift))
    assert facts["fingerprint"] == deepq.read_index(index).fingerprint
    assert "is above 0.1" in caplog.text
    assert run(["info", "full.dpq", "--drift", "base.npy"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith("unknown")]
