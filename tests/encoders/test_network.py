"""Networks as encoders: their embeddings, and what does not fit."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from deepq import NetworkEncoder
from deepq._common.errors import DimensionError, InputError, KindError

from .networks import IMAGES, ROWS, SHAPE, D, Line, filled, known, net, of_user


def expected(network: nn.Module, rows: np.ndarray = ROWS) -> np.ndarray:
    images = torch.from_numpy(rows.reshape(-1, *SHAPE))
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images).numpy()


@pytest.mark.parametrize("make", [net, known])
def test_embeddings_are_those_of_the_network_in_evaluation(make):
    network = make().train()
    encoder = NetworkEncoder(network, SHAPE)
    assert (encoder.d_in, encoder.d_out, encoder.input_shape) == (D, 8, SHAPE)
    z = encoder.encode(ROWS)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, expected(network), atol=1e-5)
    encoder.network.train()
    np.testing.assert_array_equal(encoder.encode(ROWS), z)
    assert network.training  # the given one is left alone
    with torch.no_grad():
        next(network.parameters()).fill_(9)
    np.testing.assert_array_equal(encoder.encode(ROWS), z)


def test_batches_do_not_matter(monkeypatch):
    encoder = of_user()
    z = encoder.encode(ROWS)
    for size in (1, 7, 300):
        monkeypatch.setattr("deepq.encoders.network._BATCH", size)
        np.testing.assert_allclose(encoder.encode(ROWS), z, atol=1e-5)
    monkeypatch.setattr("deepq.encoders.network._NUMBERS", 2 * D)
    np.testing.assert_allclose(encoder.encode(ROWS), z, atol=1e-5)
    assert encoder.encode(ROWS[:0]).shape == (0, 8)


def test_bytes_are_numbers_and_rows_stay_as_they_are():
    encoder, rows = of_user(), ROWS.copy()
    z = encoder.encode(rows)
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(encoder.encode(IMAGES.reshape(300, D)), z)
    rows.flags.writeable = False
    np.testing.assert_array_equal(encoder.encode(rows), z)
    np.testing.assert_array_equal(encoder.encode(np.asfortranarray(rows)), z)
    for wrong in (rows[:, 1:], IMAGES, rows[0]):
        with pytest.raises(DimensionError, match=r"\(n, 144\)"):
            encoder.encode(wrong)
    with pytest.raises(KindError, match="array"):
        encoder.encode(rows.tolist())


def test_both_layouts_give_the_same():
    turned = IMAGES.transpose(0, 2, 3, 1)
    a, b = of_user(), NetworkEncoder(net(), (8, 6, 3), layout="HWC", fitted=True)
    rows = np.ascontiguousarray(turned, np.float32).reshape(300, D)
    np.testing.assert_allclose(a.encode(ROWS), b.encode(rows), atol=1e-6)
    first, second = filled(a, IMAGES), filled(b, turned)
    found = first.search(IMAGES[:9], 5)[0], second.search(turned[:9], 5)[0]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_mirrored_images_share_an_embedding():
    encoder = NetworkEncoder(net(), SHAPE, mirrored=True)
    flipped = np.ascontiguousarray(IMAGES[:, :, :, ::-1]).reshape(300, D)
    z = encoder.encode(ROWS)
    np.testing.assert_allclose(encoder.encode(flipped), z, atol=1e-5)
    plain = of_user()
    mean = (plain.encode(ROWS) + plain.encode(flipped)) / 2
    np.testing.assert_allclose(z, mean, atol=1e-5)
    turned = NetworkEncoder(net(), (8, 6, 3), layout="HWC", mirrored=True)
    rows = IMAGES.transpose(0, 2, 3, 1).reshape(300, D)
    np.testing.assert_allclose(turned.encode(rows), z, atol=1e-5)


def test_a_network_can_compute_in_half_the_bits():
    half, plain = NetworkEncoder(net(), SHAPE, precision="bfloat16"), of_user()
    z, exact = half.encode(ROWS), plain.encode(ROWS)
    assert z.dtype == np.float32
    assert not np.array_equal(z, exact)
    np.testing.assert_allclose(z, exact, rtol=0.05, atol=0.02 * np.abs(exact).max())
    assert not torch.is_autocast_enabled("cpu")


def test_threads_get_the_same_answers():
    encoder = of_user()
    z = encoder.encode(ROWS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(encoder.encode, [ROWS] * 12):
            np.testing.assert_array_equal(found, z)


@pytest.mark.parametrize(
    ("network", "shape", "options", "error", "text"),
    [
        ("net", SHAPE, {}, KindError, r"torch\.nn\.Module, got str"),
        (Line(), SHAPE, {}, DimensionError, "fails: mat1"),
        (nn.Flatten(0), SHAPE, {}, DimensionError, r"\(2, d_out\) floats, got \(288,\)"),
        (nn.Identity(), SHAPE, {}, DimensionError, r"got \(2, 3, 8, 6\)"),
        (nn.LSTM(D, 3), D, {}, DimensionError, "got tuple"),
        (net(), SHAPE, {"layout": "NCHW"}, InputError, '"CHW" or "HWC"'),
        (net(), (32, 32, 3), {}, InputError, 'pass layout="HWC"'),
        (net(), (3, 32, 32), {"layout": "HWC"}, InputError, 'pass layout="CHW"'),
        (Line(), D, {"mirrored": True}, InputError, "images to mirror"),
        (net(), SHAPE, {"precision": "half"}, InputError, "float32 or bfloat16, got 'half'"),
        (net(), (3, 8), {}, DimensionError, "3 numbers"),
    ],
)
def test_what_does_not_fit_is_refused(network, shape, options, error, text):
    with pytest.raises(error, match=text):
        NetworkEncoder(network, shape, **options)


def test_feature_maps_of_few_pixels_are_no_images_of_another_layout():
    assert NetworkEncoder(nn.Flatten(), (64, 3, 3)).d_out == 576
