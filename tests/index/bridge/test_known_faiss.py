"""The bridge is tried first, and a faiss that it does not know is not touched."""

from __future__ import annotations

import copy
import platform
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq.index.native import _bridge, bridge, known_faiss
from deepq.index.native import trained as native_training

from .builders import (
    D_IN,
    NBITS,
    XB,
    XQ,
    XT,
    M,
    chained,
    filled,
    native,
    normal,
    run,
    trained,
    waved,
)


@pytest.fixture
def unbridged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A faiss that neither the bridge nor training through composites is known to fit."""
    found_out = bridge.is_available, native_training.fault
    monkeypatch.setattr(faiss, "__version__", "1.16.0")
    for each in found_out:
        each.cache_clear()
    yield
    for each in found_out:
        each.cache_clear()


@pytest.mark.parametrize("version", ["1.14.1", "1.16.0", "1.16.0.dev1", "2.0.0", "0.9", "unknown"])
def test_another_version_is_not_touched(monkeypatch, version):
    monkeypatch.setattr(faiss, "__version__", version)
    assert_untouched(monkeypatch, version)


@pytest.mark.parametrize(
    ("module", "name", "value"), [(platform, "machine", lambda: "riscv64"), (sys, "platform", "?")]
)
def test_another_platform_is_not_touched(monkeypatch, module, name, value):
    monkeypatch.setattr(module, name, value)
    assert_untouched(monkeypatch, "Linux")


def assert_untouched(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in ("fields", "has_functions", "place", "get_encoder"):
        monkeypatch.setattr(_bridge, name, None)
    assert text in bridge._fault()


@pytest.mark.parametrize("version", ["1.14.2", "1.14.3", "1.15.0", "1.15.1.post1"])
def test_supported_versions(monkeypatch, version):
    monkeypatch.setattr(faiss, "__version__", version)
    assert not bridge._fault()


def test_the_supported_versions_are_those_of_the_package():
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    assert '"faiss-cpu>=1.14.2,<1.16"' in pyproject.read_text()
    assert (known_faiss._OLDEST, known_faiss._BEYOND) == ((1, 14, 2), (1, 16))


def test_another_layout_is_not_tried(monkeypatch):
    monkeypatch.setattr(_bridge, "place", None)
    monkeypatch.setattr(_bridge, "fields", lambda _: (3, 5, False, True, True, 0, 0))
    assert "not as expected" in bridge._fault()


def test_the_functions_are_told_apart():
    assert _bridge.has_functions(int(faiss.LinearTransform(2, 2).this))
    assert not _bridge.has_functions(int(faiss.NormalizationTransform(2).this))


def test_a_trial_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(bridge._Trial, "encode", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in bridge._fault()
    monkeypatch.undo()
    monkeypatch.setattr(bridge._Trial, "decode", lambda _, z: z[:, :2] + 1)
    assert bridge._fault() == "a trial gave wrong numbers"


@pytest.mark.usefixtures("unbridged")
def test_without_the_bridge_the_index_works_and_c_plus_plus_refuses(tmp_path, caplog):
    index = filled(chained())
    assert "cannot call encoders" in caplog.text
    right = index.search(XQ, 5)
    for use in (lambda: native(index).search(XQ, 5), lambda: native(index).add(XQ)):
        with pytest.raises(RuntimeError, match="not initialized"):
            use()
    with pytest.raises(RuntimeError):
        native(index).reconstruct(0)
    long = deepq.DeepQuantIndex.from_codebooks(normal(4096, 2).reshape(M, 1024, 2), waved())
    long.add(XB)  # faiss's own search, for queries that are encoded before
    assert long.search(XQ, 5)[1].min() >= 0
    assert long.range_search(XQ, 1e9)[0][-1] == len(XQ) * len(XB)
    mapped = faiss.IndexIDMap(trained(waved()))
    with pytest.raises(RuntimeError):
        mapped.add_with_ids(XB, np.arange(300))
    with pytest.raises(RuntimeError):
        faiss.IndexIDMap(deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=waved())).train(XT)
    deepq.write_index(index, tmp_path / "index.dpq")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    for back in (
        copy.deepcopy(index),
        deepq.read_index(tmp_path / "index.dpq"),
        deepq.read_index(tmp_path / "index.faiss"),
    ):
        np.testing.assert_array_equal(back.search(XQ, 5), right)
        assert np.isfinite(back.reconstruct_n()).all()


def test_the_bridge_is_looked_at_when_it_is_needed():
    script = """
import deepq, numpy as np
from deepq.index.native import bridge
x = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
index = deepq.DeepQuantIndex.from_codebooks(x[:16, :8].reshape(4, 16, 2))
index.add(x)
deepq.from_faiss(index)
print(bridge.is_available.cache_info().currsize)
"""
    assert run(script) == "0\n"
