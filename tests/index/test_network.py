"""An index behind a network: images at every door, copies and files."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from torch import nn

import deepq
from deepq import NetworkEncoder
from deepq._common.errors import DimensionError, FormatError, InputError, KindError, StateError
from deepq.encoders import Chain, Normalize, Rotation
from deepq.encoders.plain import encoder_state, make_encoder
from tests.encoders.networks import (
    IMAGES,
    NBITS,
    PLAIN,
    ROWS,
    SHAPE,
    D,
    Line,
    M,
    Net,
    chained,
    filled,
    known,
    net,
    of_deepq,
    of_user,
)

QUERIES = ROWS[:9] + 3


@pytest.fixture(params=[of_user, of_deepq, chained], ids=["user", "deepq", "chained"])
def index(request: pytest.FixtureRequest) -> deepq.DeepQuantIndex:
    return filled(request.param())


def assert_same(a: Any, b: Any, x: Any = QUERIES, atol: float = 0) -> None:
    np.testing.assert_allclose(a.search(x, 5)[0], b.search(x, 5)[0], rtol=0, atol=atol)


# ---- in an index ---------------------------------------------------------------------------------


def test_a_module_is_taken_as_it_is():
    network = Line().train()
    index = filled(network)
    assert type(index.encoder) is NetworkEncoder
    np.testing.assert_array_equal(
        index.encoder.encode(ROWS), NetworkEncoder(network, D).encode(ROWS)
    )
    assert_same(index, filled(NetworkEncoder(network, D)))
    with pytest.raises(DimensionError, match="fails"):
        deepq.DeepQuantIndex(D, M, NBITS, encoder=net())
    for wrong in ("net", Net, object()):
        with pytest.raises(KindError, match=r"an Encoder or a torch\.nn\.Module"):
            deepq.DeepQuantIndex(D, M, NBITS, encoder=wrong)


def test_a_network_that_is_not_trained_is_told(caplog):
    index = deepq.DeepQuantIndex(D, M, NBITS, encoder=NetworkEncoder(known(), SHAPE))
    assert not index.encoder.is_fitted
    index.training = PLAIN
    index.train(ROWS)
    assert "not been trained" in caplog.text
    assert index.encoder.is_fitted
    caplog.clear()
    index.train(ROWS)
    assert "not been trained" not in caplog.text


def test_cosines_are_of_embeddings():
    index = filled(Chain([of_user(), Rotation(8)]), metric="cosine")
    kinds = [type(member) for member in index.encoder.members]
    assert kinds == [NetworkEncoder, Normalize, Rotation]
    index = filled(of_user(), metric="cosine")
    z = of_user().encode(ROWS)
    np.testing.assert_allclose(
        index.encoder.encode(ROWS), z / np.linalg.norm(z, axis=1)[:, None], atol=1e-5
    )


DOORS = {
    "search": lambda index, x: index.search(x, 5),
    "assign": lambda index, x: index.assign(x, 5),
    "range_search": lambda index, x: index.range_search(x, 1.0),
    "sa_encode": lambda index, x: index.sa_encode(x),
    "evaluate": lambda index, x: deepq.evaluate(index, x, np.zeros((len(x), 1), int), "1-recall@1"),
    "diagnose": lambda index, x: str(deepq.diagnose(index, x)),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_takes_images(index, door):
    if type(index.encoder) is Chain:
        index = filled(Chain(index.encoder.members[1:]))
    rows = IMAGES.reshape(300, D)[:20]
    right = DOORS[door](index, rows.astype(np.float32))
    for x in (IMAGES[:20], IMAGES[:20].astype(np.float64), rows, torch.from_numpy(IMAGES[:20])):
        if isinstance(x, torch.Tensor) and door in ("evaluate", "diagnose"):
            continue
        found = DOORS[door](index, x)
        if isinstance(right, str | dict):
            assert found == right
        else:
            for a, b in zip(found, right, strict=True):
                np.testing.assert_array_equal(a, b)
    for wrong in (IMAGES[0], IMAGES.transpose(0, 2, 3, 1), IMAGES[:, :, :5], IMAGES[:, None]):
        with pytest.raises(DimensionError, match=r"\(n, 144\) or \(n, 3, 8, 6\), got \("):
            DOORS[door](index, wrong)


@pytest.mark.parametrize("kind", ["bytes", "floats", "memmap", "callable", "tensor"])
def test_training_and_adding_take_images(kind, tmp_path):
    mapped = np.memmap(tmp_path / "x", np.uint8, "w+", shape=IMAGES.shape)
    mapped[:] = IMAGES
    x = {
        "bytes": IMAGES,
        "floats": IMAGES.astype(np.float32),
        "memmap": mapped,
        "callable": lambda: iter([IMAGES[:100], IMAGES[100:]]),
        "tensor": torch.from_numpy(IMAGES),
    }[kind]
    right, index = filled(of_user()), deepq.DeepQuantIndex(D, M, NBITS, encoder=of_user())
    index.training = PLAIN
    index.train(x, xq_train=IMAGES[:3])
    index.add(IMAGES if kind == "callable" else x)
    np.testing.assert_array_equal(index.codebooks, right.codebooks)
    assert_same(index, right)
    for wrong in (IMAGES[:, :, :, :5], lambda: iter([IMAGES[:, :2]]), mapped[:, :1]):
        index.reset()
        with pytest.raises(DimensionError, match=r"\(n, 144\)"):
            index.train(wrong)


def test_images_are_for_encoders_that_declare_them():
    index = filled(Line())
    with pytest.raises(DimensionError, match=r"shape \(n, 144\), got \(300, 3, 8, 6\)"):
        index.add(IMAGES)


def test_what_is_added_is_converted_in_parts(monkeypatch):
    index, seen = filled(of_user()), []
    right = index.sa_encode(ROWS)
    monkeypatch.setattr("deepq.index.training_data._NUMBERS", 50 * D)
    encode = index.encoder.encode
    monkeypatch.setattr(
        index.encoder, "encode", lambda x: seen.append((len(x), x.dtype)) or encode(x)
    )
    np.testing.assert_array_equal(index.sa_encode(IMAGES), right)
    assert seen == [(50, np.dtype(np.float32))] * 6


def test_decoding_is_refused_before_any_work(index, monkeypatch):
    monkeypatch.setattr(index.encoder, "encode", lambda _: pytest.fail("encoded"))
    codes = np.zeros((2, index.code_size), np.uint8)
    for use in (
        lambda: index.reconstruct(0),
        lambda: index.reconstruct_n(0, 3),
        lambda: index.reconstruct_batch(np.arange(3)),
        lambda: index.sa_decode(codes),
        lambda: index.search_and_reconstruct(QUERIES, 3),
    ):
        with pytest.raises(StateError, match="can be undone"):
            use()
    with pytest.raises(RuntimeError, match="can be undone"):
        faiss.downcast_index(index).reconstruct(0)
    with pytest.raises(StateError, match="a network"):
        of_user().decode(np.zeros((1, 8), np.float32))


def test_composites_of_faiss_give_equal_results(index):
    right = index.search(QUERIES, 5)[0]
    inside = copy.deepcopy(index)
    inside.reset()
    mapped = faiss.IndexIDMap2(inside)
    mapped.add_with_ids(ROWS, np.arange(300) + 1000)
    np.testing.assert_allclose(mapped.search(QUERIES, 5)[0], right, atol=1e-5)
    shards = faiss.IndexShards(D, True, True)
    parts = [copy.deepcopy(inside) for _ in range(2)]
    for part, rows in zip(parts, (ROWS[:100], ROWS[100:]), strict=True):
        part.reset()
        part.add(rows)
        shards.add_shard(part)
    np.testing.assert_allclose(shards.search(QUERIES, 5)[0], right, atol=1e-5)


def test_composites_train_behind_a_network_that_is_trained():
    inside = deepq.DeepQuantIndex(D, M, NBITS, encoder=Line())
    mapped = faiss.IndexIDMap2(inside)
    mapped.train(np.tile(ROWS, (3, 1)))
    mapped.add_with_ids(ROWS, np.arange(300))
    assert_same(inside, mapped, atol=1e-4)


def test_merging_compares_weights():
    a, books = filled(of_user()), filled(of_user()).codebooks
    same = deepq.DeepQuantIndex.from_codebooks(books, of_user())
    same.add(ROWS[:5])
    a.merge_from(same)
    assert a.ntotal == 305
    other = deepq.DeepQuantIndex.from_codebooks(books, NetworkEncoder(net(5), SHAPE))
    with pytest.raises(InputError, match="same encoder"):
        a.merge_from(other)


# ---- copies and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [of_user, of_deepq, chained])
def test_states(make):
    encoder = make()
    encoder.settle()
    again = make_encoder(encoder_state(encoder))
    np.testing.assert_array_equal(again.encode(ROWS), encoder.encode(ROWS))
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        np.testing.assert_array_equal(twin.encode(ROWS), encoder.encode(ROWS))


def test_a_state_keeps_the_settings():
    encoder = NetworkEncoder(net(), (8, 6, 3), layout="HWC", mirrored=True, precision="bfloat16")
    again = make_encoder(encoder_state(encoder))
    assert (again.layout, again.mirrored, again.is_fitted) == ("HWC", True, False)
    assert again.precision == "bfloat16"
    assert again.input_shape == (8, 6, 3)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_hold_the_network(index, protocol):
    pickled = pickle.dumps(index, protocol)
    twin = pickle.loads(pickled)
    assert_same(twin, index)
    assert twin.encoder is not index.encoder
    if not isinstance(index.encoder, Chain):
        assert type(twin.encoder.network) is type(index.encoder.network)
        assert not any(m.training for m in twin.encoder.network.modules())


@pytest.mark.parametrize("route", [copy.copy, copy.deepcopy, deepq.from_faiss])
def test_copies_have_networks_of_their_own(index, route):
    twin, right = route(index), index.search(QUERIES, 5)[0]
    for member in getattr(index.encoder, "members", [index.encoder]):
        if isinstance(member, NetworkEncoder):
            with torch.no_grad():
                for p in member.network.parameters():
                    p.zero_()
    np.testing.assert_array_equal(twin.search(QUERIES, 5)[0], right)
    np.testing.assert_allclose(faiss.downcast_index(twin).search(QUERIES, 5)[0], right, atol=1e-5)


WRITE = {"deepq": deepq.write_index, "faiss": lambda i, p: faiss.write_index(i, str(p))}


@pytest.mark.parametrize("write", WRITE)
def test_files(index, write, tmp_path):
    path = tmp_path / "index"
    WRITE[write](index, path)
    assert b"test_network_encoder" not in path.read_bytes()  # nothing that could be imported
    handed = None if "Embedding" in repr(getattr(index.encoder, "network", "")) else Net()
    if handed is not None:
        with pytest.raises(FormatError, match=r"class of your own, Net: .* encoder="):
            deepq.read_index(path)
    back = deepq.read_index(path, encoder=handed)
    assert_same(back, index)
    assert_same(faiss.downcast_index(back), index, atol=1e-5)
    if handed is None:
        return
    assert handed.training  # it is copied
    assert_same(deepq.read_index(path, encoder=NetworkEncoder(handed, SHAPE)), index)
    for wrong, text in [
        (Line(), "a network Net, and handed back a Line"),
        (Net(16), r"shape \(16"),
        ("Net", "a str handed back"),
    ]:
        with pytest.raises(FormatError, match=text):
            deepq.read_index(path, encoder=wrong)


def test_from_faiss_takes_the_network_back():
    index = filled(chained())
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    with pytest.raises(FormatError, match="encoder="):
        deepq.from_faiss(plain)
    assert_same(deepq.from_faiss(plain, Net()), index)


def test_a_network_that_was_not_needed_is_used_or_ignored(tmp_path):
    index = filled(of_deepq())
    deepq.write_index(index, tmp_path / "a")
    assert_same(deepq.read_index(tmp_path / "a", known()), index)
    plain = filled(Rotation(D))
    deepq.write_index(plain, tmp_path / "b")
    assert_same(deepq.read_index(tmp_path / "b", known()), plain)


def test_files_and_pickles_are_not_much_larger_than_the_weights():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(D, 4000), nn.Linear(4000, 8))
    size = 4 * sum(p.numel() for p in wide.parameters())
    index = filled(wide)
    file = io.BytesIO()
    deepq.write_index(index, file)
    assert len(file.getvalue()) < size * 1.05
    assert len(pickle.dumps(index, 5)) < size * 1.05


def test_a_state_of_faults_is_refused():
    good = encoder_state(of_deepq())
    for fault in (
        {"input_shape": [3, 8]},
        {"input_shape": [3, 6, 8, 1]},
        {"input_shape": [1 << 40]},
        {"layout": "x"},
        {"network": {}},
        {"network": None},
        {"network": {"plan": None, "weights": {}}},
        {"network": {"class": "os.getcwd", "weights": {}}},
        {"network": {**good["network"], "weights": {}}},
    ):
        with pytest.raises(FormatError, match="encoder"):
            make_encoder({**good, **fault})


def test_numbers_that_files_cannot_hold(tmp_path):
    network = net()
    with torch.no_grad():
        network.double().convolution.weight.fill_(1 / 3)

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network

        def forward(self, x):
            return self.inner(x.double())

    index = filled(NetworkEncoder(Wide(), SHAPE))
    with pytest.raises(KindError, match="float64"):
        deepq.write_index(index, tmp_path / "index")
    assert_same(copy.deepcopy(index), index)


@pytest.mark.parametrize("make", [of_user, chained, of_deepq])
def test_a_training_is_resumed_with_the_network_it_was_begun_with(make, tmp_path, caplog):
    config = deepq.TrainConfig(checkpoint=tmp_path / "c", ranking=False)
    encoder = make()
    first = filled(encoder, training=config)
    with caplog.at_level("INFO", "deepq.training"):
        assert_same(first, filled(encoder, training=config))
    assert "going on from the checkpoint" in caplog.text
