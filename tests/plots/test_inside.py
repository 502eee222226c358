"""Training, codebooks and distortion: what is drawn are the numbers of history and `diagnose`."""

from __future__ import annotations

import numpy as np
import pytest

import deepq
from deepq import plots
from deepq.evaluation.bucket_use import BucketUse
from deepq.plots.inside import runs_of
from tests.index.reranked.builders import filled

plt = pytest.importorskip("matplotlib.pyplot", reason="needs deepq[plots]")

HISTORY = [
    {"stage": "rotation", "iteration": 0, "error": 4.0},
    {"stage": "rotation", "iteration": 1, "error": 3.0},
    {"stage": "rotation", "iteration": 0, "error": 8.0},
    {"stage": "rotation", "iteration": 1, "error": 2.0},
    {"stage": "order", "iteration": 0, "loss": 2.0, "recall": 0.5},
    {"stage": "order", "iteration": 1, "loss": 1.0, "recall": 0.6},
    {"stage": "decoder, judged", "iteration": 0, "recall": 0.66, "plain": 0.6},
    {"stage": "decoder, judged", "iteration": 0, "recall": 0.63, "plain": 0.6},
]


def drawn(ax, colour):
    lines = [line for line in ax.lines if line.get_color() == colour]
    return [np.round(line.get_ydata(), 6).tolist() for line in lines]


def test_all_stages_beside_each_other():
    ax = plots.training(HISTORY)
    falling, rising = plots.style.COLOURS[:2]
    assert drawn(ax, falling) == [[1, 0.75], [2, 0.5], [1, 0.5]], "a second start is a second line"
    assert drawn(ax, rising) == [[1, 1.2], [1.1], [1.05]], "judged by what there is without"
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == ["rotation (4)", "order (2)", "decoder, judged (2)"]
    for place, line in enumerate(line for line in ax.lines if line.get_color() == falling):
        assert place // 2 <= min(line.get_xdata()) <= max(line.get_xdata()) <= place // 2 + 1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "error, loss",
        "recall, mAP",
    ]


def test_one_stage():
    ax = plots.training(HISTORY, stage="rotation")
    assert [line.get_ydata().tolist() for line in ax.lines] == [[4, 3], [8, 2]]
    assert ax.get_ylabel() == "error"
    ax = plots.training(HISTORY, stage="order")
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.6]
    assert ax.get_ylabel() == "recall"


def test_what_held_out_rows_lose_is_no_stage():
    measured = {"stage": "held out", "iteration": 0, "error": 2.0, "bits": 7.5, "rows": 100}
    steps = [{"stage": "codebooks", "iteration": i, "error": 3.0 - i} for i in range(2)]
    ax = plots.training([*steps, measured])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["codebooks (2)"]
    assert plots.training([*steps, measured], stage="held out") is not ax


def test_stages_of_one_step_or_of_zeros():
    ax = plots.training([{"stage": "network", "iteration": 0, "loss": 3.0}])
    assert [line.get_ydata().tolist() for line in ax.lines[:-1]] == [[1]]
    ax = plots.training([{"stage": "network", "iteration": 0, "loss": 0.0}])
    assert ax.get_legend() is None


def test_a_real_training(small, cells):
    for index in (small.index, cells):
        ax = plots.training(index)
        ax.figure.canvas.draw()
        assert len(ax.get_xticks()) == len(runs_of(index.history))


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ([], ValueError, "expected a history of a training, got an empty one"),
        (3, TypeError, "expected an index, or its history, got int"),
        ([{"iteration": 1}], TypeError, "expected entries with a stage"),
    ],
)
def test_histories_that_are_of_no_use(given, kind, words):
    with pytest.raises(kind, match=words):
        plots.training(given)


def test_an_unknown_stage():
    with pytest.raises(ValueError, match="expected one of the stages 'rotation', 'order'"):
        plots.training(HISTORY, stage="sleep")
    with pytest.raises(ValueError, match="expected a measure in the stage 'a', got none"):
        plots.training([{"stage": "a", "iteration": 0}], stage="a")


def heights(ax, number):
    return np.array([bar.get_height() for bar in ax.containers[number]])


def test_use_of_codebooks(small):
    found = deepq.diagnose(small.index)
    ax = plots.codebook_usage(small.index)
    np.testing.assert_allclose(heights(ax, 0), found.usage * 16)
    np.testing.assert_allclose(heights(ax, 1), found.perplexity)
    assert ax.get_ylabel() == "codewords"


def test_distortion(small):
    found = deepq.diagnose(small.index, small.base)
    ax = plots.distortion(found)
    np.testing.assert_allclose(heights(ax, 0), found.variance)
    np.testing.assert_allclose(heights(ax, 1), found.distortion)


def test_buckets_of_a_hash_table():
    sizes = np.array([3, 0, 5, 4])
    use = BucketUse(12, sizes, np.array([[3, 9], [8, 4]]))
    ax = plots.bucket_usage(use)
    values = ax.patches[-1].get_data().values
    assert values.tolist() == [5, 4, 3, 0]
    assert ax.lines[0].get_ydata()[0] == 3
    with pytest.raises(TypeError, match="expected a hash table, or its use, got DeepQuantIndex"):
        plots.bucket_usage(filled())
    with pytest.raises(TypeError, match="expected an index of codes, or its diagnosis, got"):
        plots.codebook_usage(use)


def test_diagnoses_that_are_of_no_use(small):
    with pytest.raises(ValueError, match="expected a diagnosis of vectors"):
        plots.distortion(deepq.diagnose(small.index))
    with pytest.raises(TypeError, match="expected a Diagnosis, got DeepQuantIndex"):
        plots.distortion(small.index)
    with pytest.raises(RuntimeError, match="expected a trained index"):
        plots.codebook_usage(deepq.DeepQuantIndex(16, 4, 4))
