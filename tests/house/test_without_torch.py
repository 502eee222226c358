"""What serves needs no torch, and what needs it says how to install it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np

import deepq
from tests.files.golden.make import rows
from tests.index.reranked.builders import XQ, filled

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "files" / "golden" / "1"
# As where torch is not installed.
START = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from pathlib import Path
import faiss, numpy as np, pytest, deepq
x, y = np.load("x.npy"), np.arange(300) % 4
def refused(call):
    expected = r"expected torch, to .*, got: .*; pip install 'deepq\\[train\\]'$"
    with pytest.raises(ImportError, match=expected):
        call()
"""


def without_torch(folder: Path, code: str, *arguments: str) -> str:
    """Run code in a process of its own that cannot import torch, and return what it printed."""
    np.save(folder / "x.npy", rows()[0])
    done = subprocess.run(
        [sys.executable, "-c", START + code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SERVED = """
networks = {"dqn", "dsh", "cnnh", "own"}
answers = np.load(sys.argv[1] + "/answers.npz")
for path in sorted(Path(sys.argv[1]).glob("*.*")):
    read = deepq.load_pickle if path.suffix == ".pickle" else deepq.read_index
    if path.suffix == ".npz" or path.stem == "own":
        continue
    if path.stem in networks:
        refused(lambda: read(path))
        continue
    index = read(path)
    np.testing.assert_array_equal(index.search(x[100:110], 5)[1], answers[path.stem + "_I"])
    before = index.ntotal
    if path.stem != "IxM2":  # which adds with ids
        index.add(x[100:])
        assert index.ntotal == before + 200
    print(path.name)
"""


def test_reading_searching_and_adding(tmp_path):
    """Every kind of index but those with a network."""
    read = without_torch(tmp_path, SERVED, str(GOLDEN)).split()
    assert {"codes.dpq", "decoder.dpq", "decoder.pickle", "ksh.dpq", "cells.dpq"} <= set(read)
    assert len(read) == len({path for path in GOLDEN.iterdir() if path.suffix != ".npz"}) - 7


RERANKED = """
found = np.load("found.npz")
with deepq.patched_faiss():
    read = {
        "own": deepq.read_index("index.dpq"),
        "mapped": deepq.read_index("index.dpq", mmap=True),
        "faiss's": deepq.read_index("index.faiss"),
        "patched": faiss.read_index("index.faiss"),
    }
    refused(lambda: faiss.read_index("network.faiss"))
refused(lambda: deepq.read_index("network.faiss"))
for index in read.values():
    assert index.product_quantizer.decoder is not None
    D, I = index.search(found["queries"], 5)
    np.testing.assert_array_equal(I, found["I"])
    np.testing.assert_array_equal(D, found["D"])
read["own"].add(found["queries"])
deepq.write_index(read["own"], "again.dpq")
assert deepq.read_index("again.dpq").ntotal == len(found["queries"]) + read["mapped"].ntotal
"""


def test_re_ranking_and_files_of_faiss(tmp_path):
    index = filled()
    D, I = index.search(XQ, 5)
    np.savez(tmp_path / "found.npz", queries=XQ, D=D, I=I)
    deepq.write_index(index, tmp_path / "index.dpq")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    faiss.write_index(deepq.read_index(GOLDEN / "dqn.dpq"), str(tmp_path / "network.faiss"))
    without_torch(tmp_path, RERANKED)


LEARNED = """
quick = deepq.TrainConfig(epochs=1, checkpoint="checkpoint")
for index in (
    deepq.DeepQuantIndex(8, 4, 4, training=quick),
    deepq.DeepQuantIVFIndex(8, 4, 4, 4, training=quick),
    deepq.index_factory(8, "OPQ2,PQ2x4"),
):
    index.train(x)
    index.add(x)
    assert index.search(x, 1)[1].shape == (300, 1)
    Path("checkpoint").unlink(missing_ok=True)
    again = deepq.from_faiss(deepq.to_faiss(index))
    np.testing.assert_array_equal(again.search(x, 3)[1], index.search(x, 3)[1])
assert deepq.evaluate(index, x[:9], np.arange(9)[:, None], ["1-recall@10"])["1-recall@10"] > 0.5
assert deepq.diagnose(index, x).n == 300
assert all(found.rerank == 0 for found in deepq.suggest(x, bytes_per_vector=2))
for kind in ("PQ4x4,Rerank9", "IVF4,PQ4x4,Rerank9"):
    index = deepq.index_factory(8, kind)
    refused(lambda: index.train(x))
    assert not index.is_trained
refused(lambda: deepq.DeepQuantIndex(8, 4, 4).train(x, y))
refused(lambda: deepq.index_factory(8, "DQN24"))
for name in ("networks", "objectives", "recipes", "NetworkEncoder"):
    refused(lambda: getattr(deepq, name))
"""


def test_learning_without_labels_and_decoders(tmp_path):
    without_torch(tmp_path, LEARNED)


COMMANDS = """
from deepq.cli.app import run

def deepq_command(*arguments):
    sys.argv = ["deepq", *arguments]
    return run()

folder = sys.argv[1]
assert deepq_command("info", folder + "/decoder.dpq") == 0
assert deepq_command("search", folder + "/decoder.dpq", "x.npy", "--output", "found.npz") == 0
assert deepq_command("train", "x.npy", "made.dpq", "--kind", "PQ4x4", "--add") == 0
assert deepq_command("info", folder + "/dqn.dpq") == 1
assert deepq_command("train", "x.npy", "no.dpq", "--kind", "PQ4x4,Rerank10") == 1
assert not Path("no.dpq").exists()
"""


def test_the_command_line(tmp_path):
    without_torch(tmp_path, COMMANDS, str(GOLDEN))
