"""Trainings in cells: from residuals, judged by searches that look into some cells."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq._common.types import InCells
from deepq.quantizers import ProductQuantizer
from deepq.quantizers.judging_cells import CellJudge
from deepq.training import fitting, stages
from deepq.training.cells import CentreQuantizer

from .clusters import NBITS, XB, XQ, D, M, X, stages_of

NLIST = 12


def train(x: Any = X, *args: Any, rerank: int = 20, index: Any = None, **settings: Any) -> Any:
    config = deepq.TrainConfig(**{"epochs": 2, "batch_size": 128, "validation": 0.2, **settings})
    if index is None:
        index = deepq.DeepQuantIVFIndex(D, NLIST, M, NBITS, rerank=rerank)
    index.training = config
    index.train(x, *args)
    return index


def decoder_of(index: Any) -> Any:
    return index.product_quantizer.decoder


def assert_same(a: Any, b: Any) -> None:
    """Hold what was learned to each other; settings and histories may differ."""
    cells = (faiss.serialize_index(faiss.extract_index_ivf(each)).tobytes() for each in (a, b))
    assert next(cells) == next(cells)
    np.testing.assert_array_equal(a.encoder.encode(X), b.encoder.encode(X))
    ours, theirs = decoder_of(a), decoder_of(b)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours.settings == theirs.settings
        for name, array in ours.arrays.items():
            np.testing.assert_array_equal(array, theirs.arrays[name])


# ---- what is learned -----------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_decoder_of_cells_reads_what_is_added() -> None:
    index = train()
    assert decoder_of(index).arrays["cells"].shape == (D, 8)
    index.add(XB)
    index.nprobe = NLIST
    D_, I = index.search(XQ, 5)
    vectors = index.reconstruct_batch(I.ravel()).reshape(*I.shape, D)
    np.testing.assert_allclose(np.square(XQ[:, None] - vectors).sum(axis=2), D_, rtol=1e-3)
    whole = index.sa_decode(index.sa_encode(XB[:100]))
    np.testing.assert_array_equal(whole, index.reconstruct_n(0, 100))


@pytest.mark.usefixtures("small")
def test_plain_faiss_answers_from_the_tables() -> None:
    index = train()
    index.add(XB)
    index.nprobe = 4
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    faiss.extract_index_ivf(plain).nprobe = 4
    tables = index.search(XQ, 5, params=deepq.SearchParameters(rerank=0))
    np.testing.assert_array_equal(plain.search(XQ, 5)[1], tables[1])


@pytest.mark.usefixtures("small")
def test_two_trainings_with_one_seed_are_equal() -> None:
    assert_same(train(), train())


@pytest.mark.usefixtures("small")
def test_a_decoder_outlives_a_copy_and_a_file(tmp_path: Path) -> None:
    import copy
    import pickle

    index = train()
    index.add(XB)
    deepq.write_index(index, tmp_path / "i")
    want = index.search(XQ, 5)
    for other in (
        copy.deepcopy(index),
        pickle.loads(pickle.dumps(index)),
        deepq.read_index(tmp_path / "i"),
    ):
        for a, b in zip(want, other.search(XQ, 5), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", ["user's", "imi", "whole", "encoder"])
@pytest.mark.usefixtures("small")
def test_a_decoder_is_learned_whatever_finds_the_cells(how: str) -> None:
    options: dict[str, Any] = {"rerank": 20}
    nlist = 16
    args: tuple[Any, ...] = (D, nlist, M, NBITS)
    if how == "user's":
        coarse = faiss.IndexFlatL2(D)
        coarse.add(X[:nlist])
        args = (coarse, *args)
    elif how == "imi":
        options["coarse"] = "imi"
    elif how == "whole":
        options["by_residual"] = False
    else:
        options["encoder"] = deepq.encoders.Affine(2 * np.eye(D))
    index = train(index=deepq.DeepQuantIVFIndex(*args, **options))
    assert ("cells" in decoder_of(index).arrays) == (how != "whole")
    index.add(XB)
    index.nprobe = nlist
    D_, I = index.search(XQ, 5)
    unit = 2 if how == "encoder" else 1
    vectors = index.reconstruct_batch(I.ravel()).reshape(*I.shape, D)
    got = np.square(unit * (XQ[:, None] - vectors)).sum(axis=2)
    np.testing.assert_allclose(got, D_, rtol=1e-3)


# ---- never worse ---------------------------------------------------------------------------------


def test_cells_are_as_good_as_those_of_faiss() -> None:
    centres = CentreQuantizer(40).learn(XB, seed=1)
    theirs = faiss.Kmeans(D, 40, niter=10, seed=1)
    theirs.train(XB)
    books = centres, np.ascontiguousarray(theirs.centroids)
    ours, others = (faiss.knn(XB, book, 1)[0].mean() for book in books)
    assert ours < 1.05 * others
    np.testing.assert_array_equal(centres, CentreQuantizer(40).learn(XB, seed=1))


@pytest.mark.parametrize("setting", ["niter", "seed"])
def test_what_a_user_says_of_the_cells_is_heard(setting: str) -> None:
    index = deepq.DeepQuantIVFIndex(D, NLIST, M, NBITS)
    setattr(index.cp, setting, 3)
    train(rerank=0, index=index)
    assert "cells" not in stages_of(index)
    assert stages_of(train(rerank=0))[0] == "cells"


def test_more_cells_than_vectors_are_refused() -> None:
    index = deepq.DeepQuantIVFIndex(D, len(X) + 1, M, NBITS)
    with pytest.raises(ValueError, match="expected at least 1201 training vectors"):
        train(index=index)
    assert not index.is_trained


def test_a_decoder_that_does_not_pay_leaves_the_tables(monkeypatch, caplog) -> None:
    pytest.importorskip("torch")
    caplog.set_level(logging.INFO, "deepq")
    monkeypatch.setattr(fitting, "pays", lambda *_: False)
    assert_same(train(), train(rerank=0))
    assert "no decoder" in caplog.text


def test_few_rows_are_trained_on_plainly(caplog) -> None:
    caplog.set_level(logging.INFO, "deepq")
    index = train(X[:500])
    assert "too few to judge" in caplog.text
    assert decoder_of(index) is None
    assert set(stages_of(index)) <= {"cells", "rotation", "codebooks"}


# ---- interrupted ---------------------------------------------------------------------------------


def interrupted_at(call: int, monkeypatch: Any, owner: Any, name: str) -> None:
    """Let the call of a method with this number, counted from 1, raise KeyboardInterrupt, once."""
    calls, real = [0], getattr(owner, name)

    def interrupt(*args: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise KeyboardInterrupt
        return real(*args, **named)

    monkeypatch.setattr(owner, name, interrupt)


@pytest.mark.parametrize("at", [1, 2, 12])
@pytest.mark.usefixtures("small")
def test_a_resumed_training_is_a_whole_one(at: int, tmp_path: Path, monkeypatch: Any) -> None:
    from deepq.training.decoding import Learner

    monkeypatch.setattr(stages, "_SECONDS_PER_CHECKPOINT", 0.0)
    whole = train()
    interrupted_at(at, monkeypatch, Learner, "step")
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=tmp_path / "c")
    assert_same(train(checkpoint=tmp_path / "c"), whole)


def test_codebooks_are_not_learned_again(tmp_path: Path, monkeypatch: Any) -> None:
    whole = train(rerank=0, checkpoint=tmp_path / "c")
    monkeypatch.setattr(
        "deepq.encoders.rotation.learn_rotation", lambda *_, **__: pytest.fail("done again")
    )
    again = train(rerank=0, checkpoint=tmp_path / "c")
    assert_same(again, whole)
    assert again.history == whole.history


def test_a_checkpoint_of_other_cells_is_refused(tmp_path: Path) -> None:
    train(rerank=0, checkpoint=tmp_path / "c")
    other = deepq.DeepQuantIVFIndex(D, NLIST + 1, M, NBITS)
    with pytest.raises(ValueError, match=r"expected a checkpoint of this .*rows"):
        train(index=other, checkpoint=tmp_path / "c")
    assert not other.is_trained
    assert other.quantizer.ntotal == 0


def test_an_interrupt_in_the_first_stage_changes_nothing(monkeypatch: Any) -> None:
    index = deepq.DeepQuantIVFIndex(D, NLIST, M, NBITS)
    interrupted_at(3, monkeypatch, ProductQuantizer, "assign")
    with pytest.raises(KeyboardInterrupt):
        train(index=index)
    assert not index.is_trained
    assert index.quantizer.ntotal == 0
    assert_same(train(rerank=0, index=index), train(rerank=0))


@pytest.mark.usefixtures("small")
def test_an_interrupt_of_the_decoder_leaves_the_best_so_far(monkeypatch: Any) -> None:
    from deepq.training.decoding import Learner

    index = deepq.DeepQuantIVFIndex(D, NLIST, M, NBITS, rerank=20)
    interrupted_at(4, monkeypatch, Learner, "step")
    with pytest.raises(KeyboardInterrupt):
        train(index=index)
    assert index.is_trained
    index.add(XB[:200])
    assert (index.search(XQ, 1)[1] >= 0).any()


@pytest.mark.parametrize("coarse", ["kmeans", "imi"])
def test_a_second_training_is_like_the_first(coarse: str) -> None:
    index = deepq.DeepQuantIVFIndex(D, 16, M, NBITS, coarse=coarse)
    first = faiss.serialize_index(train(rerank=0, index=index))
    np.testing.assert_array_equal(faiss.serialize_index(train(rerank=0, index=index)), first)


@pytest.mark.parametrize("coarse", ["kmeans", "imi"])
def test_a_second_training_that_fails_changes_nothing(coarse: str, monkeypatch: Any) -> None:
    index = deepq.DeepQuantIVFIndex(D, 16, M, NBITS, coarse=coarse)
    first = faiss.serialize_index(train(rerank=0, index=index))
    interrupted_at(3, monkeypatch, ProductQuantizer, "update")
    with pytest.raises(KeyboardInterrupt):
        train(XB, index=index)
    np.testing.assert_array_equal(faiss.serialize_index(index), first)


# ---- the judge -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [0, 1])
@pytest.mark.parametrize("nprobe", [1, 3, NLIST])
def test_the_judge_finds_what_an_index_finds(metric: int, nprobe: int) -> None:
    index = deepq.DeepQuantIVFIndex(D, NLIST, M, NBITS, metric, encoder=deepq.encoders.Identity(D))
    index.train(X)
    index.nprobe = nprobe
    centres = index.quantizer.reconstruct_n(0, NLIST)
    own, probed = (index.quantizer.search(X, n)[1] for n in (1, nprobe))
    judge = CellJudge(X, InCells(centres, own[:, 0]), 400, probed, metric)
    nq = len(judge._test.queries)
    index.add(X[nq:])
    found = index.search(X[:nq], 10)[1]
    want = judge._test.recall(found)
    got = judge.by_tables(index.product_quantizer)
    assert nq == 100
    assert np.abs(got - want).mean() < 0.01  # sums are rounded otherwise
    quantizer = index.product_quantizer
    np.testing.assert_allclose(judge.reranked(quantizer), want, atol=0.2)
