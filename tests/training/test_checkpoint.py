"""Checkpoints: a resumed training is that of a whole one; other files are refused."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq._common.errors import FormatError, InputError
from deepq._common.plain_data import to_bytes
from deepq.encoders.plain import encoder_state
from deepq.training import checkpoint, fitting, ranking, stages, stretching
from deepq.training.checkpoint import Checkpoint
from deepq.training.progress import Report
from tests.common.builders import WRONG, assert_same

D, M, NBITS = 16, 4, 4


def clustered(n: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((40, D))
    mix = np.random.default_rng(7).standard_normal((D, D)) / 4
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(40, size=n)] + rng.standard_normal((n, D)) @ mix
    return x.astype(np.float32)


X = clustered(1200, 1)


# ---- the file ------------------------------------------------------------------------------------


def test_stages_are_kept(tmp_path) -> None:
    path = tmp_path / "c"
    kept = Checkpoint(path, {"seed": 1, "rows": (3, 4)})
    assert kept.get("one") is None
    assert not path.exists()
    kept.put("one", {"x": X[:5], "history": [{"stage": "one", "error": 0.25}]})
    kept.put("two", {"step": 7})
    again = Checkpoint(str(path), {"rows": [3, 4], "seed": 1})
    assert_same(again.get("one"), {"x": X[:5], "history": [{"stage": "one", "error": 0.25}]})
    assert again.get("two") == {"step": 7}
    assert again.get("three") is None
    again.put("two", {"step": 8})
    assert Checkpoint(path, {"seed": 1, "rows": (3, 4)}).get("two") == {"step": 8}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_without_a_path_nothing_is_kept() -> None:
    kept = Checkpoint(None, {"seed": 1})
    kept.put("one", {"x": X[:5]})
    assert kept.get("one") is None


def test_a_key_may_describe_an_encoder(tmp_path) -> None:
    key = {"encoder": checkpoint._digest(encoder_state(encoders.Rotation(D)))}
    Checkpoint(tmp_path / "c", key).put("one", {"x": X[:5]})
    np.testing.assert_array_equal(Checkpoint(tmp_path / "c", key).get("one")["x"], X[:5])


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(content, tmp_path) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"expected a checkpoint in {path}, got"):
        Checkpoint(path, {})
    assert path.read_bytes() == content


@pytest.mark.parametrize("value", [1, [1, 2], {}, {"key": {}}, {"key": 1, "stages": 2}], ids=str)
def test_other_data_of_deepq_is_no_checkpoint(value, tmp_path) -> None:
    (tmp_path / "c").write_bytes(to_bytes(value))
    with pytest.raises(FormatError, match=r"expected a checkpoint in .*got"):
        Checkpoint(tmp_path / "c", {})


def test_a_pipe_is_no_checkpoint_and_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="expected a regular file"):
        Checkpoint(tmp_path / "pipe", {})


def test_an_index_file_is_no_checkpoint(tmp_path) -> None:
    deepq.write_index(deepq.DeepQuantIndex(D, M, NBITS), tmp_path / "c")
    with pytest.raises(FormatError, match=r"expected a checkpoint in .*got"):
        Checkpoint(tmp_path / "c", {})


def test_another_training_is_refused_by_what_differs(tmp_path) -> None:
    Checkpoint(tmp_path / "c", {"seed": 1, "rows": 5, "metric": 0}).put("one", {})
    with pytest.raises(InputError, match=r"another rows, seed: give another path, or remove it"):
        Checkpoint(tmp_path / "c", {"seed": 2, "rows": 6, "metric": 0})


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(error, at, tmp_path, monkeypatch) -> None:
    path = tmp_path / "c"
    kept = Checkpoint(path, {})
    kept.put("one", {"step": 1})
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        if at == "write":
            args[0].write(args[1][:10])
        raise error

    owner, name = {
        "write": (checkpoint, "write_whole"),
        "fsync": (os, "fsync"),
        "replace": (Path, "replace"),
    }[at]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(type(error)):
            kept.put("two", {"step": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


# ---- trainings -----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Small decoders, which are kept whatever they are worth, and a checkpoint after every step."""
    pytest.importorskip("torch")
    real = stages.plan
    monkeypatch.setattr(stages, "plan", lambda *a, **kw: real(*a, **kw)._replace(hidden=8))
    monkeypatch.setattr(fitting, "pays", lambda *_: True)
    monkeypatch.setattr(stages, "_SECONDS_PER_CHECKPOINT", 0.0)


def train(path: Path | None, *, rerank: int = 5, x: Any = X, **settings: Any) -> Any:
    config = deepq.TrainConfig(
        checkpoint=path,
        **{"epochs": 2, "batch_size": 128, "validation": 0.2, "additive": False, **settings},
    )
    index = deepq.DeepQuantIndex(D, M, NBITS, training=config, rerank=rerank)
    index.train(x)
    return index


def assert_same_training(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.encoder.A, b.encoder.A)
    np.testing.assert_array_equal(a.codebooks, b.codebooks)
    ours, theirs = a.quantizer.decoder, b.quantizer.decoder
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours.settings == theirs.settings
        assert_same(ours.arrays, theirs.arrays)


class Interruption:
    """Raises KeyboardInterrupt at a call of a method, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
        self.calls = 0
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == at:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("at", [1, 2, 15])
@pytest.mark.usefixtures("quick")
def test_a_resumed_decoder_is_that_of_a_whole_training(at, tmp_path, monkeypatch) -> None:
    from deepq.training.decoding import Learner

    whole = train(None)
    assert whole.quantizer.decoder is not None
    steps = Interruption(monkeypatch, Learner, "step", at)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c")
    assert steps.calls == at
    resumed = train(tmp_path / "c")
    assert steps.calls == 15 + 1  # 2 x 960 rows in 128: no step is done twice
    assert_same_training(whole, resumed)


@pytest.mark.parametrize("made", ["array", "callable", "memmap"])
@pytest.mark.usefixtures("quick")
def test_a_resumed_training_reads_the_same_rows(made, tmp_path, monkeypatch) -> None:
    from deepq.training.decoding import Learner

    X.tofile(tmp_path / "x")
    x = {
        "array": X,
        "callable": lambda: (X[i : i + 500] for i in range(0, len(X), 500)),
        "memmap": np.memmap(tmp_path / "x", np.float32, "r", shape=X.shape),
    }[made]
    whole = train(None, x=x, max_points=1100)
    Interruption(monkeypatch, Learner, "step", 11)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", x=x, max_points=1100)
    assert_same_training(whole, train(tmp_path / "c", x=x, max_points=1100))


@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.usefixtures("quick")
def test_a_training_may_be_interrupted_again_and_again(again, tmp_path, monkeypatch) -> None:
    from deepq.training.decoding import Learner

    for _ in range(again):
        with monkeypatch.context() as patch:
            Interruption(patch, Learner, "step", 4)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "c")
    assert_same_training(train(None), train(tmp_path / "c"))


def test_finished_stages_are_not_done_again(tmp_path, monkeypatch) -> None:
    whole = train(tmp_path / "c", rerank=0)
    for name in ("deepq.training.ranking.learn_order", "deepq.encoders.rotation.learn_rotation"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("done again"))
    resumed = train(tmp_path / "c", rerank=0)
    assert_same_training(whole, resumed)
    assert resumed.history == whole.history


def test_an_order_that_was_interrupted_is_done_again(tmp_path, monkeypatch) -> None:
    whole = train(None, rerank=0)
    with monkeypatch.context() as patch:
        Interruption(patch, ranking.Ranker, "_step", 3)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "c", rerank=0)
    resumed = train(tmp_path / "c", rerank=0)
    assert_same_training(whole, resumed)
    assert resumed.history == whole.history


def test_training_with_a_checkpoint_is_training_without(tmp_path) -> None:
    assert_same_training(train(None, rerank=0), train(tmp_path / "c", rerank=0))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.usefixtures("quick")
def test_a_decoder_may_be_added_to_a_finished_training(turns, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stretching, "pays", lambda *_: turns)
    train(tmp_path / "c", rerank=0)
    added, whole = train(tmp_path / "c"), train(None)
    assert_same_training(added, whole)
    assert added.history == whole.history


@pytest.mark.usefixtures("quick")
def test_other_axes_are_kept(tmp_path, monkeypatch) -> None:
    from deepq.training.decoding import Learner

    monkeypatch.setattr(stretching, "pays", lambda *_: True)
    whole = train(None)
    assert whole.quantizer.decoder.arrays["stretch"].shape == (D, D)
    with monkeypatch.context() as patch:
        Interruption(patch, Learner, "step", 3)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "c")
    monkeypatch.setattr(stretching, "learn_rotation", lambda *_, **__: pytest.fail("done again"))
    resumed = train(tmp_path / "c")
    assert_same_training(whole, resumed)
    ours, theirs = (
        [entry for entry in index.history if entry["stage"] == "axes"] for index in (resumed, whole)
    )
    assert len(theirs) > 0
    assert ours == theirs


@pytest.mark.usefixtures("quick")
def test_a_training_without_a_decoder_takes_nothing_from_other_axes(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stretching, "pays", lambda *_: True)
        train(tmp_path / "c")
    assert_same_training(train(tmp_path / "c", rerank=0), train(None, rerank=0))


@pytest.mark.usefixtures("quick")
def test_axes_that_there_was_no_time_for_are_learned_when_there_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stretching, "pays", lambda *_: True)
    seen: list[Any] = []
    real = stretching.start_of
    with monkeypatch.context() as patch:
        patch.setattr(stretching, "start_of", lambda *args: seen.append(1) or real(*args))
        patch.setattr(Report, "elapsed", property(lambda _: float(len(seen))))
        assert train(tmp_path / "c").quantizer.decoder is None
    assert_same_training(train(tmp_path / "c"), train(None))


def test_history_is_of_the_stages_that_were_done(tmp_path) -> None:
    train(tmp_path / "c", rerank=0)
    resumed = train(tmp_path / "c", rerank=0, max_seconds=0)
    plain = train(None, rerank=0, ranking=False)
    np.testing.assert_array_equal(resumed.codebooks, plain.codebooks)
    assert {entry["stage"] for entry in resumed.history} == {"rotation", "codebooks", "held out"}
    assert resumed.history[-1] == plain.history[-1]


OTHERS = {
    "settings": {"seed": 5},
    "settings ": {"validation": 0.3},
    "settings  ": {"ranking": False},
    "settings   ": {"epochs": 3},
    "rows": {"x": X[:-1]},
    "rows ": {"x": X + 1},
}


@pytest.mark.parametrize("differs", OTHERS)
def test_a_checkpoint_of_another_training_is_refused(differs, tmp_path) -> None:
    train(tmp_path / "c", rerank=0)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(InputError, match=rf"expected a checkpoint of this .*{differs.strip()}"):
        train(tmp_path / "c", rerank=0, **OTHERS[differs])
    assert (tmp_path / "c").read_bytes() == before


@pytest.mark.parametrize(
    ("differs", "arguments"),
    [
        ("metric", {"metric": 0}),
        ("quantizer", {"nbits": 3}),
        ("encoder", {"encoder": encoders.Identity(D)}),
    ],
)
def test_a_checkpoint_of_another_index_is_refused(differs, arguments, tmp_path) -> None:
    config = deepq.TrainConfig(epochs=1, checkpoint=tmp_path / "c", ranking=False)
    deepq.DeepQuantIndex(D, M, NBITS, training=config).train(X)
    index = deepq.DeepQuantIndex(D, M, **{"nbits": NBITS, **arguments}, training=config)
    with pytest.raises(InputError, match=rf"expected a checkpoint of this .*{differs}"):
        index.train(X)
    assert not index.is_trained


def test_a_wrong_file_stops_a_training_before_it_begins(tmp_path) -> None:
    (tmp_path / "c").write_bytes(b"my notes")
    index = deepq.DeepQuantIndex(D, M, NBITS, training=deepq.TrainConfig(checkpoint=tmp_path / "c"))
    with pytest.raises(FormatError, match=r"expected a checkpoint in .*got"):
        index.train(X)
    assert not index.is_trained
    assert (tmp_path / "c").read_bytes() == b"my notes"


@pytest.mark.usefixtures("quick")
def test_the_file_holds_no_pickle(tmp_path, monkeypatch) -> None:
    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("pickle is used"))
    train(tmp_path / "c", x=X)
    content = (tmp_path / "c").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    assert list(metadata) == ["deepq"]
    fields = json.loads(metadata["deepq"])["data"]
    assert set(fields) == {"key", "stages"}
    assert set(fields["stages"]) == {"codebooks", "start", "order", "learner"}
    # Every byte after the header is a number of a named array.
    ends = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    assert [begin for begin, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert 8 + size + ends[-1][1] == len(content)
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
