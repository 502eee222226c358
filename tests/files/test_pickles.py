"""Pickles: plain data of any protocol, in and out of band, and a reader that runs nothing."""

from __future__ import annotations

import copyreg
import io
import json
import multiprocessing
import os
import pickle
import pickletools
import struct
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

import faiss
import joblib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

import deepq
from deepq import networks
from deepq.encoders import Affine, Chain, Normalize
from deepq.index.flat import restore
from deepq.index.state import make_index
from deepq.quantizers import BinaryQuantizer

D = 8
X = np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
OWN = "deepq.index restore"


def filled(**options):
    index = deepq.DeepQuantIndex(D, 4, 2, **options)
    index.train(X)
    index.add(X[:50])
    return index


def with_network():
    torch.manual_seed(0)
    return filled(encoder=deepq.NetworkEncoder(networks.MLP(D, (D,)), D, fitted=True))


KINDS = {
    "rotation": filled,
    "affine, normalized": lambda: filled(encoder=Chain([Affine(np.eye(D), X[0]), Normalize(D)])),
    "binary": lambda: filled(quantizer=BinaryQuantizer(4, 2)),
    "network": with_network,
    "decoder": lambda: filled(rerank=10, training=deepq.TrainConfig(epochs=2)),
    "untrained": lambda: deepq.DeepQuantIndex(D, 4, 2),
}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def index(request):
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def plain():
    return filled()


def content(index):
    """Everything in an index, as bytes."""
    return pickle.dumps(index, 5)


def asked_for(pickled):
    """Name the globals that a pickle refers to."""
    found, strings = set(), []
    for code, value, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL":
            found.add(value)
        elif code.name == "STACK_GLOBAL":
            found.add(" ".join(strings[-2:]))
        elif isinstance(value, str):
            strings.append(value)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_is_plain_data(index, protocol):
    pickled = pickle.dumps(index, protocol)
    assert asked_for(pickled) == {OWN}
    for twin in (pickle.loads(pickled), deepq.load_pickle(io.BytesIO(pickled))):
        assert content(twin) == content(index)


@pytest.mark.parametrize("load", [pickle.loads, lambda p, buffers: from_bytes(p, buffers=buffers)])
def test_out_of_band_no_array_is_in_the_pickle(index, load):
    buffers = []
    pickled = pickle.dumps(index, 5, buffer_callback=buffers.append)
    assert asked_for(pickled) == {OWN}
    sizes = [memoryview(b).nbytes for b in buffers]
    assert sizes[-1] == index.ntotal * index.code_size
    assert len(pickled) < 20_000
    assert content(load(pickled, buffers=buffers)) == content(index)
    shared = [bytearray(buffer) for buffer in buffers]
    twin = load(pickled, buffers=shared)
    for each in shared:
        each[:] = bytes(len(each))
    assert content(twin) == content(index)


def from_bytes(pickled, **options):
    return deepq.load_pickle(io.BytesIO(pickled), **options)


def test_a_pickle_stays_as_it_was_when_the_index_changes():
    index, buffers = filled(), []
    before = content(index)
    pickled = pickle.dumps(index, 5, buffer_callback=buffers.append)
    index.remove_ids(np.arange(30))
    for _ in range(50):
        index.add(X)
    twin = pickle.loads(pickled, buffers=buffers)
    assert content(twin) == before
    twin.add(X[50:])
    np.testing.assert_array_equal(twin.search(X, 1)[1].shape, (600, 1))


def test_codes_are_copied_once_on_the_way_out_and_not_by_the_pickle_on_the_way_in():
    index = filled()
    codes = np.zeros((10**7, index.code_size), np.uint8)
    index.add_sa_codes(codes)
    for options in ({}, {"buffer_callback": lambda _: None}):
        tracemalloc.start()
        with io.FileIO(os.devnull, "w") as file:
            pickle.dump(index, file, 5, **options)
        assert tracemalloc.get_traced_memory()[1] < 1.1 * codes.nbytes
        tracemalloc.stop()
    buffers = []
    pickled = pickle.dumps(index, 5, buffer_callback=buffers.append)
    tracemalloc.start()
    assert pickle.loads(pickled, buffers=buffers).ntotal == index.ntotal
    assert tracemalloc.get_traced_memory()[1] < 0.1 * codes.nbytes
    tracemalloc.stop()


@pytest.mark.skipif("DEEPQ_BIG" not in os.environ, reason="takes 16 GB of memory and 5 of disk")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("protocol", [4, 5])
def test_codes_above_4_gib(tmp_path, protocol):
    index = deepq.DeepQuantIndex.from_codebooks(np.zeros((1 << 16, 256, 1), np.float32))
    codes = np.zeros((1 << 16, 1 << 16), np.uint8)
    codes[[0, -1], -1] = 1, 2
    index.add_sa_codes(codes)
    index.add_sa_codes(codes[-1:])
    del codes
    with (tmp_path / "big").open("wb") as file:
        pickle.dump(index, file, protocol)
    del index
    twin = deepq.load_pickle(tmp_path / "big")
    assert twin.ntotal * twin.code_size > 1 << 32
    assert faiss.vector_to_array(twin.codes)[[(1 << 16) - 1, -1]].tolist() == [1, 2]


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path):
    index = filled()
    index.history = [{"note": "long" * 10**6}] * 5
    with pytest.raises(ValueError, match="header of up to"):
        deepq.write_index(index, tmp_path / "index")
    assert not list(tmp_path.iterdir())


def test_what_json_does_not_hold_is_refused_before_anything_is_written(tmp_path):
    index = filled()
    for value in ({1: 2}, np.int64(3), {1}, b"bytes", np.zeros(3)):
        index.history = [{"note": value}]
        for write in (pickle.dumps, lambda i: deepq.write_index(i, tmp_path / "index")):
            with pytest.raises(TypeError, match="expected arrays"):
                write(index)
    assert not list(tmp_path.iterdir())


# ---- other processes -----------------------------------------------------------------------------


def nearest(index):
    return index.search(X[:9], 3)[1]


class Codes(Dataset):
    def __init__(self, index):
        self.index = index

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return self.index.search(X[i : i + 1], 1)[1][0, 0]


def test_spawned_processes_get_it(plain):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(nearest, plain).result(60), nearest(plain))


def test_joblib_hands_it_to_its_workers(plain):
    found = joblib.Parallel(n_jobs=2, timeout=600)(joblib.delayed(nearest)(plain) for _ in range(2))
    for each in found:
        np.testing.assert_array_equal(each, nearest(plain))


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_of_a_data_loader_have_it(plain, start):
    loader = DataLoader(Codes(plain), 5, num_workers=1, multiprocessing_context=start, timeout=600)
    found = torch.cat(list(loader)).numpy()
    np.testing.assert_array_equal(found, plain.search(X[:20], 1)[1][:, 0])


# ---- load_pickle ---------------------------------------------------------------------------------


def test_load_pickle_takes_paths_and_files(plain, tmp_path):
    path = tmp_path / "index.pickle"
    path.write_bytes(content(plain))
    joblib.dump(plain, tmp_path / "index.joblib")
    with path.open("rb") as file:
        for source in (path, str(path), file, tmp_path / "index.joblib"):
            assert content(deepq.load_pickle(source)) == content(plain)


def test_a_folder_and_nothing_are_no_pickles(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(OSError, match=r"expected a regular file|No such file"):
            deepq.load_pickle(path)


class Mine(deepq.DeepQuantIndex):
    pass


class Module(torch.nn.Linear):
    pass


class Calls:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


FOREIGN = {
    "posix.mkdir": lambda: Calls(os.mkdir, "made"),
    "eval": lambda: Calls(eval, "__import__('os').mkdir('made')"),
    "deepq.index.state.make_index": lambda: Calls(make_index, {}, None),
    "deepq.files.index_files.read_index": lambda: Calls(deepq.read_index, "made"),
    "Mine": lambda: Mine(D, 4, 2),
    "OwnNetwork|_reconstructor": lambda: filled(
        encoder=deepq.NetworkEncoder(Module(D, D), D, fitted=True)
    ),
    "numpy": lambda: Calls(restore, "{}", [X]),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", FOREIGN)
def test_every_other_global_is_refused_by_name(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(deepq.FormatError, match=rf"expected the pickle .*, got .*({name})"):
        from_bytes(pickle.dumps(FOREIGN[name](), protocol))
    assert not list(tmp_path.iterdir())


def asks_by_extension(_):
    """Make a pickle that names a function by a number that this process knows."""
    copyreg.add_extension("posix", "mkdir", 1)
    pickled = pickle.dumps(os.mkdir, 2)
    try:
        assert b"mkdir" not in pickled
        assert pickle.loads(pickled) is os.mkdir  # and remembers
        with pytest.raises(deepq.FormatError):
            from_bytes(pickled[:-1] + b"\x8c\x04made\x85R.")
    finally:
        copyreg.remove_extension("posix", "mkdir", 1)
    return pickled


def many_lists(levels=20):
    """Nest a list in itself so that it has 2 ** levels members."""
    nested = []
    for _ in range(levels):
        nested = [nested, nested]
    return nested


def with_state(index, state):
    return content(index)[:-1] + pickle.dumps(state, 2)[2:-1] + b"b."


def with_members(index):
    """Use one array for many parts."""
    text, parts = index.__reduce_ex__(4)[1]
    document = json.loads(text)
    member = document["index"]["encoder"]
    document["index"]["encoder"] = {"type": "Chain", "members": [member] * 1000}
    return pickle.dumps(Calls(restore, json.dumps(document), parts), 4)


def with_parts(index):
    """Say that one piece of memory is many."""
    text, parts = index.__reduce_ex__(4)[1]
    document = json.loads(text)
    document["arrays"] += document["arrays"][:1] * 1000
    return pickle.dumps(Calls(restore, json.dumps(document), parts + parts[:1] * 1000), 4)


ATTACKS = {
    "bytes for faiss": lambda i: with_state(i, {"this": faiss.serialize_index(i).tobytes()}),
    "attributes": lambda i: with_state(i, (None, {"history": 5})),
    "attributes of the function": lambda _: (
        pickle.dumps(restore, 2)[:-1] + pickle.dumps((None, {"made": 1}), 2)[2:-1] + b"b."
    ),
    "a function of the function": lambda _: b"cdeepq.index\nrestore.__globals__.copy\n)R.",
    "an extension": asks_by_extension,
    "a far place": lambda _: b"\x80\x02]r\xff\xff\x00\x00.",
    "bytes that are not there": lambda _: b"\x80\x04\x8e\0\0\0\x01\0\0\0\0.",
    "a frame that is not there": lambda _: b"\x80\x04\x95\0\0\0\x01\0\0\0\0.",
    "lists in lists": lambda _: pickle.dumps(Calls(restore, "{}", [], many_lists(), None)),
    "lists for arrays": lambda _: pickle.dumps(Calls(restore, "{}", many_lists())),
    "deep text": lambda _: pickle.dumps(Calls(restore, "[" * 10**4, [])),
    "long text": lambda _: pickle.dumps(Calls(restore, "[" + "0," * 10**7 + "0]", [])),
    "an array of many parts": with_members,
    "memory in many parts": with_parts,
    "equal hashes": lambda _: pickle.dumps({k * (2**61 - 1): 0 for k in range(5)}),
    "a list": lambda _: pickle.dumps([1, 2]),
    "nothing": lambda _: b"",
    "text": lambda _: b"no pickle at all",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_pickles_are_refused(attack, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = ATTACKS[attack](plain)
    with pytest.raises(deepq.FormatError, match=r"expected the pickle of an index in .*, got "):
        from_bytes(pickled)
    assert not hasattr(restore, "made")
    assert not list(tmp_path.iterdir())


def test_a_pickle_makes_one_index(plain):
    """A call takes a few bytes, where it is of what the pickle holds already."""
    arguments = plain.__reduce_ex__(4)[1]
    pickled = pickle.dumps([Calls(restore, *arguments), Calls(restore, *arguments)], 4)
    with pytest.raises(deepq.FormatError, match="one of several indexes"):
        from_bytes(pickled)


@pytest.mark.parametrize("instruction", [pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.FRAME])
def test_memory_is_not_taken_for_bytes_that_are_not_there(instruction, tmp_path):
    path = tmp_path / "index.pickle"
    path.write_bytes(b"\x80\x05" + instruction + struct.pack("<Q", 1 << 24) + b".")
    tracemalloc.start()
    with pytest.raises(deepq.FormatError):
        deepq.load_pickle(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_memory_that_runs_out_is_no_damage(plain, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    monkeypatch.setattr("deepq.index.flat.make_index", out_of_memory)
    with pytest.raises(MemoryError):
        from_bytes(content(plain))


def test_faiss_reads_no_bytes_of_a_pickle_even_where_all_is_allowed(plain):
    state = {"this": faiss.serialize_index(plain).tobytes()}
    with pytest.raises(deepq.FormatError):
        pickle.loads(with_state(plain, state))


def test_every_prefix_is_refused(plain):
    for protocol in (2, 5):
        pickled = pickle.dumps(plain, protocol)
        for length in range(len(pickled)):
            with pytest.raises(deepq.FormatError):
                from_bytes(pickled[:length])


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@given(data=st.data())
def test_a_damaged_pickle_gives_an_index_or_a_format_error(plain, protocol, data):
    pickled = bytearray(pickle.dumps(plain, protocol))
    places = st.integers(0, len(pickled) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        pickled[place] = data.draw(st.integers(0, 255))
    try:
        twin = from_bytes(bytes(pickled))
    except deepq.FormatError:
        return
    assert twin.search(X[: twin.d, : twin.d], 2)[0].shape[1] == 2 if twin.is_trained else True


@given(st.binary(max_size=200))
def test_any_bytes_give_a_format_error(pickled):
    with pytest.raises(deepq.FormatError):
        from_bytes(pickled)
