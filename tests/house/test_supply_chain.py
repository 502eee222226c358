"""What comes in and goes out: pinned dependencies, no network, hardened extensions."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from deepq import _cells, _decode, _scan
from deepq.index.native import _bridge, _called, _mapped

ROOT = Path(__file__).parents[2]
EXTENSIONS = (_cells, _decode, _scan, _bridge, _called, _mapped)
linux = pytest.mark.skipif(sys.platform != "linux", reason="hardened on Linux only")


def name_of(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def test_development_constraints_are_exact_and_complete():
    """Nothing that the tests run with is of a version that somebody else chooses."""
    lines = [
        Requirement(line)
        for line in (ROOT / "constraints-dev.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all([s.operator for s in each.specifier] == ["=="] for each in lines)
    pinned = {name_of(each.name) for each in lines}
    waiting, seen = [("deepq", "dev")], set()
    while waiting:
        name, extra = waiting.pop()
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({"extra": extra}):
                continue
            for each in {(name_of(needed.name), e) for e in (*needed.extras, "")} - seen:
                seen.add(each)
                try:
                    importlib.metadata.requires(each[0])
                except importlib.metadata.PackageNotFoundError:
                    continue
                waiting.append(each)
    assert {name for name, _ in seen} - {"deepq"} <= pinned


NO_NETWORK = """
import sys

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        raise RuntimeError(f"the network is used: {event} {arguments}")

sys.addaudithook(refuse)
import io
import numpy as np
import deepq
from deepq import datasets, evaluation, recipes
from deepq.evaluation import suggestion
from deepq.index import interop
from deepq.networks import MLP

x = np.random.default_rng(0).standard_normal((300, 8)).astype("float32")
network = deepq.DeepQuantIndex(8, 2, 4, encoder=MLP(8, [4]).eval())
for index in (deepq.DeepQuantIndex(8, 2, 4), network):
    index.train(x)
    index.add(x)
    file = io.BytesIO()
    deepq.write_index(index, file)
    file.seek(0)
    assert deepq.read_index(file).search(x[:3], 2)[1].shape == (3, 2)
datasets.wordnet_glosses()
print("done")
"""


def test_nothing_asks_the_network():
    """Not an import, a training, a search or a file; sockets of any kind would be seen."""
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr


def readelf(module, *options: str) -> str:
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("needs readelf")
    return subprocess.run(
        [tool, *options, "-W", module.__file__], capture_output=True, text=True, check=True
    ).stdout


@linux
@pytest.mark.parametrize("module", EXTENSIONS, ids=lambda module: module.__name__)
def test_extensions_are_hardened(module):
    """Tables are read-only once loaded, stacks are guarded and hold no code."""
    assert "NOW" in readelf(module, "-d")
    segments = readelf(module, "-l")
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK .* RW ", segments)
    assert "__stack_chk_fail" in readelf(module, "-s")
