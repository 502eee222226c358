"""Kernel hashing: the formula, what it learns from, its state."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

import deepq
from deepq._common.errors import DimensionError, FormatError, InputError, KindError, StateError
from deepq.encoders import Chain, Normalize, kernel_bits
from deepq.encoders.kernel_hash import KernelHash
from deepq.encoders.plain import encoder_state, make_encoder
from deepq.labels.supervision import Classes, Pairs, Tags
from deepq.metrics import mean_average_precision

from .kernels import clusters


def bits_of(encoder, x):
    return np.where(encoder.encode(x) < 0, -1, 1)


def mean_precision(base, queries, y, yq) -> float:
    """Of codes (n, bits) of -1 and 1, by Hamming distance."""
    distances = -queries @ base.T
    order = np.argsort(distances, axis=1, kind="stable")
    D = np.take_along_axis(distances, order, axis=1)
    return mean_average_precision(order, yq, y, D=D)


@pytest.fixture(scope="module")
def learned() -> KernelHash:
    x, y = clusters(800)
    encoder = KernelHash(16, 12, 40)
    encoder.fit_labels(x, Classes(y))
    return encoder


# ---- the encoder ---------------------------------------------------------------------------------


def test_encode_is_the_formula(learned) -> None:
    x, _ = clusters(800)
    anchors, width, mean, A = learned.functions
    assert anchors.shape == (40, 16)
    assert all((x == anchor).all(axis=1).any() for anchor in anchors)
    squared = np.square(x[:, None].astype(float) - anchors).sum(axis=2)
    assert width == pytest.approx(squared.mean())
    k = np.exp(-squared / (2 * width))
    np.testing.assert_allclose(mean, k.mean(axis=0), rtol=1e-5)
    z = learned.encode(x)
    np.testing.assert_allclose(z, (k - mean) @ A.T.astype(float), atol=1e-3)
    assert np.abs(z).mean() > 0.1
    assert z.dtype == np.float32


@pytest.mark.parametrize("cast", [np.asfortranarray, np.float64, lambda x: x[::-1][::-1]])
def test_encode_takes_any_layout(learned, cast) -> None:
    x, _ = clusters(10)
    z = learned.encode(cast(x))
    assert z.flags.c_contiguous
    np.testing.assert_array_equal(z, learned.encode(x))


def test_the_mean_does_not_depend_on_blocks(learned, monkeypatch) -> None:
    monkeypatch.setattr("deepq.encoders.kernel_hash._BLOCK", 100)
    x, y = clusters(800)
    encoder = KernelHash(16, 12, 40)
    encoder.fit_labels(x, Classes(y))
    np.testing.assert_allclose(encoder.functions.mean, learned.functions.mean, rtol=1e-6)


def test_codes_find_classes_that_random_planes_do_not(learned) -> None:
    x, y = clusters(800)
    xq, yq = clusters(200, seed=1)
    planes = np.random.default_rng(0).standard_normal((16, 12))
    centre = x.mean(axis=0)
    lsh = mean_precision(np.sign((x - centre) @ planes), np.sign((xq - centre) @ planes), y, yq)
    ours = mean_precision(bits_of(learned, x), bits_of(learned, xq), y, yq)
    assert ours > lsh + 0.3
    assert ours > 0.7


def test_codes_find_unseen_digits() -> None:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    encoder = KernelHash(64, 24, 100, labelled=500)
    encoder.fit_labels(x[300:], Classes(y[300:]))
    assert (
        mean_precision(bits_of(encoder, x[300:]), bits_of(encoder, x[:300]), y[300:], y[:300]) > 0.9
    )


def test_it_learns_from_tags_and_from_pairs() -> None:
    x, y = clusters(600)
    rng = np.random.default_rng(0)
    i = rng.integers(600, size=9000)
    j = (i + rng.integers(1, 600, size=9000)) % 600
    tags = np.eye(5, dtype=np.bool_)[y]
    tags[:100] = False
    random = mean_precision(
        np.sign(rng.standard_normal((600, 12))), np.sign(rng.standard_normal((600, 12))), y, y
    )
    for supervision in (Tags(tags), Pairs(i, j, y[i] == y[j])):
        encoder = KernelHash(16, 12, 40)
        encoder.fit_labels(x, supervision)
        found = bits_of(encoder, x)
        assert mean_precision(found, found, y, y) > random + 0.2


def test_labels_are_taken_of_about_as_many_rows_as_asked(monkeypatch) -> None:
    counts = []
    plain = kernel_bits.learn_kernel_bits
    monkeypatch.setattr(
        kernel_bits, "learn_kernel_bits", lambda K, *a: counts.append(len(K)) or plain(K, *a)
    )
    x, y = clusters(800)
    for labelled in (2000, 400, 100):
        KernelHash(16, 4, 40, labelled=labelled).fit_labels(x, Classes(y))
    assert counts == [800, 400, 100]


def test_seed_decides_what_is_learned(learned) -> None:
    x, y = clusters(800)
    again, other = KernelHash(16, 12, 40), KernelHash(16, 12, 40)
    again.fit_labels(x, Classes(y))
    other.fit_labels(x, Classes(y), seed=7)
    np.testing.assert_array_equal(again.encode(x), learned.encode(x))
    assert not np.array_equal(again.functions.anchors, other.functions.anchors)
    again.fit_labels(x, Classes(y))  # from the beginning
    np.testing.assert_array_equal(again.encode(x), learned.encode(x))


@pytest.mark.parametrize("odd", ["duplicates", "constant columns", "huge", "tiny", "far"])
def test_it_copes_with_odd_data(odd) -> None:
    x, y = clusters(200)
    if odd == "duplicates":
        x, y = x[np.arange(200) % 7], y[np.arange(200) % 7]
    elif odd == "constant columns":
        x[:, 1:] = 7
    elif odd == "far":
        x += 1e4
    else:
        x *= {"huge": 1e12, "tiny": 1e-12}[odd]
    encoder = KernelHash(16, 8, 30)
    encoder.fit_labels(x, Classes(y))
    codes = bits_of(encoder, x)
    assert np.isfinite(encoder.encode(x)).all()
    assert mean_precision(codes, codes, y, y) > 0.25


# ---- as plain data, and in an index --------------------------------------------------------------


def test_a_state_restores_it(learned) -> None:
    x, _ = clusters(50)
    state = encoder_state(learned)
    again = make_encoder(state)
    assert type(again) is KernelHash
    assert (again.d_in, again.d_out, again.m, again.labelled) == (16, 12, 40, 2000)
    np.testing.assert_array_equal(again.encode(x), learned.encode(x))
    assert not make_encoder(encoder_state(KernelHash(16, 12))).is_fitted


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("A", np.zeros((12, 39), np.float32), r"shapes .*\(12, 39\)"),
        ("anchors", np.full((40, 16), np.nan, np.float32), "finite numbers"),
        ("width", 0.0, "width above 0"),
        ("width", "wide", "width to be a number"),
        ("more", 1, "unexpected keyword"),
    ],
)
def test_a_damaged_state_is_refused(learned, name, value, text) -> None:
    state = encoder_state(learned)
    with pytest.raises(FormatError, match=text):
        make_encoder({**state, "functions": {**state["functions"], name: value}})


def test_an_index_searches_by_it_and_is_written(learned, tmp_path) -> None:
    x, _ = clusters(800)
    index = deepq.DeepQuantIndex(16, 3, 4, encoder=Chain([Normalize(16), learned]))
    with pytest.raises(InputError, match="labels for a kernel hash"):
        deepq.DeepQuantIndex(16, 3, 4, encoder=KernelHash(16, 12)).train(x)
    index.train(x)
    index.add(x)
    deepq.write_index(index, tmp_path / "index")
    again = deepq.read_index(tmp_path / "index")
    for a, b in zip(index.search(x[:9], 5), again.search(x[:9], 5), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_learned_from_is_refused() -> None:
    x, y = clusters(100)
    encoder = KernelHash(16, 8, 30)
    with pytest.raises(InputError, match="at least 30 training vectors, got 29"):
        encoder.fit_labels(x[:29], Classes(y[:29]))
    with pytest.raises(InputError, match="at least 100 training vectors, got 50"):
        encoder.fit_labels(x[:50], Classes(y))
    with pytest.raises(KindError, match="expected a Supervision, got ndarray"):
        encoder.fit_labels(x, y)
    with pytest.raises(DimensionError, match=r"\(n, 16\), got \(100, 8\)"):
        encoder.fit_labels(x[:, :8], Classes(y))
    with pytest.raises(InputError, match="training vectors that differ"):
        encoder.fit_labels(np.full_like(x, 0.1), Classes(y))
    x[3, 2] = np.nan
    with pytest.raises(InputError, match="finite numbers in x, got NaN or infinity in row 3"):
        encoder.fit_labels(x, Classes(y))
    assert not encoder.is_fitted


def test_it_must_have_learned() -> None:
    x, _ = clusters(100)
    encoder = KernelHash(16, 8, 30)
    with pytest.raises(StateError, match="has learned from labels"):
        encoder.encode(x)
    with pytest.raises(InputError, match="expected labels"):
        encoder.unlabelled()


def test_it_cannot_be_undone(learned) -> None:
    assert not learned.can_decode
    with pytest.raises(StateError, match="undone"):
        learned.decode(np.zeros((1, 12), np.float32))


@pytest.mark.parametrize("sizes", [(0, 8, 30), (16, 0, 30), (16, 8, 0)])
def test_sizes_are_positive(sizes) -> None:
    with pytest.raises(InputError, match="of at least 1, got 0"):
        KernelHash(*sizes)
    with pytest.raises(InputError, match="labelled of at least 1"):
        KernelHash(16, 8, labelled=0)
    with pytest.raises(KindError, match="anchors to be an integer"):
        KernelHash(16, 8, 30.5)
