"""Encoders that faiss cannot express: called by its C++ code, carried in its files."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import platform
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import deepq
from deepq import encoders
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.types import Floats
from deepq.encoders import Affine, Chain, Encoder, Normalize
from deepq.index.native import _bridge, bridge, known_faiss

D_IN, D_OUT, M, NBITS = 12, 8, 4, 4
PLAIN = deepq.TrainConfig(ranking=False, epochs=3)


def normal(n: int, d: int = D_IN, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)


XT, XB, XQ = normal(400, seed=1), normal(300, seed=2), normal(9, seed=3)


class Waved(Encoder):
    """z = tanh(W x), reversed as well as can be."""

    def __init__(self, W: Any) -> None:
        self.W = np.asarray(W, np.float32)
        super().__init__(self.W.shape[1], self.W.shape[0])

    def encode(self, x: Floats) -> Floats:
        return np.tanh(x @ self.W.T)

    def decode(self, z: Floats) -> Floats:
        return np.arctanh(np.clip(z, -0.999, 0.999)) @ np.linalg.pinv(self.W).T

    def state(self) -> dict[str, Any]:
        return {"W": self.W}


class Scaled(Encoder):
    """tanh(x / s), s the learned root mean square."""

    def __init__(self, d: int, s: float | None = None) -> None:
        super().__init__(d, d)
        self.s = s

    @property
    def is_fitted(self) -> bool:
        return self.s is not None

    def fit(self, x: Floats, quantizer: Any, **_: Any) -> None:  # noqa: ARG002
        self.s = float(np.sqrt(np.square(x).mean()))

    def encode(self, x: Floats) -> Floats:
        if self.s is None:
            raise RuntimeError("not fitted")
        return np.tanh(x / np.float32(self.s))

    def state(self) -> dict[str, Any]:
        return {"d": self.d_in, "s": self.s}


class Unnamed(Waved):
    """One that no file can hold."""


class Failing(Encoder):
    """An identity that raises whatever it is told to."""

    fault: BaseException | None = None
    answer: Any = None

    def encode(self, x: Floats) -> Any:
        if Failing.fault is not None:
            raise Failing.fault
        return x if Failing.answer is None else Failing.answer

    decode = encode


for each in (Waved, Scaled):
    encoders.TYPES[each.__name__] = f"{each.__module__}:{each.__name__}"


def waved(seed: int = 0, cls: type[Waved] = Waved) -> Waved:
    return cls(normal(D_OUT, D_IN, seed=10 + seed) / 3)


def chained() -> Chain:
    return Chain([Normalize(D_IN), waved(), Affine(normal(D_OUT, D_OUT, seed=5), np.ones(D_OUT))])


def trained(encoder: Encoder, **options: Any) -> deepq.DeepQuantIndex:
    index = deepq.DeepQuantIndex(encoder.d_in, M, NBITS, encoder=encoder, training=PLAIN, **options)
    index.train(XT[:, : encoder.d_in])
    return index


def filled(encoder: Encoder | None = None) -> deepq.DeepQuantIndex:
    index = trained(encoder or waved())
    index.add(XB[:, : index.d])
    return index


@pytest.fixture(params=[waved, chained], ids=["alone", "chained"])
def index(request: pytest.FixtureRequest) -> deepq.DeepQuantIndex:
    return filled(request.param())


@pytest.fixture
def failing() -> Any:
    yield filled(Failing(D_OUT, D_OUT))
    Failing.fault = Failing.answer = None


@pytest.fixture
def unbridged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A faiss that the bridge is not known to fit."""
    monkeypatch.setattr(faiss, "__version__", "1.16.0")
    bridge.is_available.cache_clear()
    yield
    bridge.is_available.cache_clear()


def native(index: deepq.DeepQuantIndex) -> faiss.IndexPreTransform:
    return faiss.downcast_index(index)


def assert_same(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Compare results; faiss adds scores up in another order."""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    assert (found[1] == expected[1]).mean() > 0.95  # near-ties may change places


def run(script: str, *args: Any, path: Path | None = None) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(path), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- answers -------------------------------------------------------------------------------------


def test_the_bridge_fits_this_faiss():
    assert bridge.is_available()


def test_the_index_gives_what_its_parts_give(index):
    z, zq = index.encoder.encode(XB), index.encoder.encode(XQ)
    bare = deepq.DeepQuantIndex.from_codebooks(index.codebooks)
    bare.add(z)
    np.testing.assert_array_equal(index.search(XQ, 5), bare.search(zq, 5))
    decoded = index.encoder.decode(bare.reconstruct_n())
    np.testing.assert_allclose(index.reconstruct_n(), decoded, rtol=1e-4, atol=1e-5)


def test_the_native_object_gives_the_same(index):
    chain = native(index)
    assert type(chain) is faiss.IndexPreTransform
    assert_same(chain.search(XQ, 5), index.search(XQ, 5))
    np.testing.assert_allclose(chain.sa_encode(XB), index.sa_encode(XB))
    if isinstance(index.encoder, Waved):  # faiss cannot reverse the affine map
        np.testing.assert_allclose(chain.reconstruct_n(), index.reconstruct_n(), atol=1e-5)
    lims, D, _ = chain.range_search(XQ, 1.0)
    bare = index.range_search(XQ, 1.0)
    np.testing.assert_array_equal(lims, bare[0])
    np.testing.assert_allclose(np.sort(D), np.sort(bare[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", [faiss.IndexIDMap, faiss.IndexIDMap2])
def test_in_an_id_map(index, composite):
    inside = copy.deepcopy(index)
    inside.reset()
    mapped = composite(inside)
    mapped.add_with_ids(XB, np.arange(len(XB)) + 1000)
    D, I = index.search(XQ, 5)
    assert_same(mapped.search(XQ, 5), (D, I + 1000))
    assert_same(inside.search(XQ, 5), (D, I))


@pytest.mark.parametrize("threaded", [False, True])
def test_in_shards_and_replicas(index, threaded):
    shards = faiss.IndexShards(D_IN, threaded, True)
    replicas = faiss.IndexReplicas(D_IN, threaded)
    twins: dict[int, Any] = {}  # which faiss does not keep alive
    for part in (XB[:100], XB[100:]):
        shard = copy.deepcopy(index)
        shard.reset()
        shard.add(part)
        shards.add_shard(shard)
        replicas.add_replica(twins.setdefault(len(twins), copy.deepcopy(index)))
    assert_same(shards.search(XQ, 5), index.search(XQ, 5))
    assert_same(replicas.search(XQ, 5), index.search(XQ, 5))
    replicas.add(XQ)
    index.add(XQ)
    assert_same(replicas.search(XQ, 5), index.search(XQ, 5))


def test_behind_a_transform_and_before_a_refinement(index):
    turn = faiss.RandomRotationMatrix(D_IN, D_IN)
    turn.init(5)
    inside = copy.deepcopy(index)
    inside.reset()
    outer = faiss.IndexPreTransform(turn, inside)
    outer.add(turn.reverse_transform(XB))
    assert_same(outer.search(turn.reverse_transform(XQ), 5), index.search(XQ, 5))

    inside.reset()
    refined = faiss.IndexRefineFlat(inside)
    refined.k_factor = 60
    refined.add(XB)
    exact = faiss.IndexFlatL2(D_IN)
    exact.add(XB)
    np.testing.assert_array_equal(refined.search(XQ, 5)[1], exact.search(XQ, 5)[1])


def test_as_the_refinement_itself(index):
    base = faiss.IndexFlatL2(D_IN)
    base.add(XB)
    refined = faiss.IndexRefine(base, index)  # queries reach the encoder from parallel loops
    refined.k_factor = 60
    assert_same(refined.search(XQ, 5), index.search(XQ, 5))


def test_threads_get_the_same_answers(index):
    chain, right = native(index), native(index).search(XQ, 5)
    with ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(f.search, XQ, 5) for f in [chain, index] * 20]
        for task in tasks:
            assert_same(task.result(timeout=600), right)


def test_many_rows_are_encoded_in_blocks():
    index, sizes = filled(Unnamed(np.eye(D_OUT, D_IN))), []
    index.encoder.encode = lambda x: sizes.append(len(x)) or x[:, :D_OUT]
    native(index).sa_encode(np.zeros((70000, D_IN), np.float32))
    assert sizes == [1 << 16, 70000 - (1 << 16)]


def test_no_rows_call_nothing(failing):
    Failing.fault = ValueError("called")
    assert native(failing).search(np.empty((0, D_OUT), np.float32), 3)[1].shape == (0, 3)


def test_what_an_encoder_is_given_is_its_own():
    kept = []

    class Keeping(Encoder):
        def encode(self, x):
            kept.append(x)
            z = x + 1
            x[:] = 7
            return z

    index, queries = filled(Keeping(D_OUT, D_OUT)), XQ[:, :D_OUT].copy()
    native(index).search(queries, 3)
    np.testing.assert_array_equal(queries, XQ[:, :D_OUT])
    gc.collect()
    assert (kept[-1] == 7).all()


def test_an_encoder_may_answer_in_another_layout_but_not_in_another_shape():
    class Loose(Encoder):
        answer = staticmethod(lambda x: np.asfortranarray(x.astype(np.float64)))

        def encode(self, x):
            return Loose.answer(x)

    index = filled(Loose(D_OUT, D_OUT))
    right = filled(encoders.Identity(D_OUT)).search(XQ[:, :D_OUT], 3)
    np.testing.assert_array_equal(index.search(XQ[:, :D_OUT], 3), right)
    for wrong in (lambda x: x[:1], lambda x: x[:, 1:], lambda x: np.hstack([x, x])):
        Loose.answer = wrong
        for use in (index.add, lambda x: index.search(x, 3), copy_of(index).add):
            with pytest.raises(ValueError, match=r"embeddings of shape \(9, 8\) from Loose, got"):
                use(XQ[:, :D_OUT])
        with pytest.raises(ValueError, match="from Loose"):
            trained(Loose(D_OUT, D_OUT))
    Loose.answer = lambda x: x.astype(complex)
    with pytest.raises(TypeError, match="complex"):
        index.add(XQ[:, :D_OUT])


# ---- training ------------------------------------------------------------------------------------


def test_c_plus_plus_cannot_train_an_encoder_and_says_who_can():
    inside = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN), training=PLAIN)
    mapped = faiss.IndexIDMap(inside)
    with pytest.raises(RuntimeError, match=r"call train\(\) of the DeepQuantIndex itself"):
        mapped.train(XT)
    assert not inside.is_trained
    inside.train(XT)
    mapped.train(XT)  # finds nothing to do
    outside = faiss.IndexIDMap(inside)
    outside.add_with_ids(XB, np.arange(300))
    assert_same(outside.search(XQ, 5), inside.search(XQ, 5))


def test_c_plus_plus_trains_codebooks_behind_an_encoder_that_is_fitted():
    inside = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=waved())
    mapped = faiss.IndexIDMap(inside)
    mapped.train(np.tile(XT, (2, 1)))
    mapped.add_with_ids(XB, np.arange(300))
    assert inside.is_trained
    assert_same(mapped.search(XQ, 5), inside.search(XQ, 5))


def test_training_again_replaces_the_encoder():
    index = trained(Scaled(D_IN))
    first, s = weakref.ref(index.encoder), index.encoder.s
    index.train(XT * 4)
    gc.collect()
    assert index.encoder.s == pytest.approx(4 * s)
    assert first() is None
    index.add(XB)
    assert_same(native(index).search(XQ, 5), index.search(XQ, 5))


def test_codebooks_do_not_complete_an_encoder_that_learns():
    index = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN))
    with pytest.raises(RuntimeError, match="fitted encoder"):
        index.codebooks = np.zeros((M, 16, D_IN // M), np.float32)
    assert not index.is_trained


# ---- files and copies ----------------------------------------------------------------------------

ROUTES = {
    "bytes": lambda index, _: faiss.deserialize_index(faiss.serialize_index(index)),
    "clone": lambda index, _: faiss.clone_index(index),
    "file": lambda index, path: (faiss.write_index(index, path), faiss.read_index(path))[1],
}


@pytest.mark.parametrize("route", ROUTES)
def test_what_faiss_copies_is_refused_and_restored(route, tmp_path):
    index = filled(Chain([waved(), Affine(normal(D_OUT, D_OUT, seed=5))]))
    plain = ROUTES[route](index, str(tmp_path / "index"))
    for use in (
        plain.add,
        lambda x: plain.search(x, 5),
        plain.sa_encode,
        lambda x: plain.assign(x, 1),
    ):
        with pytest.raises(RuntimeError, match="not initialized"):
            use(XQ)
    back = deepq.from_faiss(plain)
    assert type(back.encoder) is Chain
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))
    np.testing.assert_array_equal(back.reconstruct_n(), index.reconstruct_n())
    back.add(XQ)
    index.add(XQ)
    assert_same(native(back).search(XQ, 5), index.search(XQ, 5))


@pytest.mark.parametrize("convert", [str, Path, lambda path: io.BytesIO(Path(path).read_bytes())])
def test_read_index_takes_a_file_of_faiss(index, tmp_path, convert):
    faiss.write_index(index, str(tmp_path / "index"))
    back = deepq.read_index(convert(str(tmp_path / "index")))
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))


def test_read_index_takes_a_plain_product_quantizer(tmp_path):
    plain = faiss.IndexPQ(D_IN, M, NBITS)
    plain.train(np.tile(XT, (2, 1)))
    plain.add(XB)
    faiss.write_index(plain, str(tmp_path / "index"))
    assert_same(deepq.read_index(tmp_path / "index").search(XQ, 5), plain.search(XQ, 5))


def test_an_encoder_not_fitted_yet_is_restored_as_that():
    index = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN), training=PLAIN)
    back = deepq.from_faiss(faiss.deserialize_index(faiss.serialize_index(index)))
    assert not back.is_trained
    assert not back.encoder.is_fitted
    back.train(XT)


def test_a_file_of_faiss_cut_off_or_damaged_is_refused():
    index = filled()
    good = faiss.serialize_index(index).tobytes()
    state = good.index(b"deepq\r\nE")
    for end in [5, 60, state, state + 30, len(good) // 2, len(good) - 1]:
        with pytest.raises(FormatError):
            deepq.read_index(io.BytesIO(good[:end]))
    for at in range(state, state + 24 + 4 * D_IN * D_OUT, 7):
        bad = bytearray(good)
        bad[at] ^= 0x10
        with pytest.raises(FormatError):
            deepq.read_index(io.BytesIO(bytes(bad)))
    flat = faiss.IndexPreTransform(faiss.LinearTransform(2, 2), faiss.IndexFlatL2(2))
    with pytest.raises(FormatError, match="IndexPQ"):
        deepq.read_index(io.BytesIO(faiss.serialize_index(flat).tobytes()))


REFUSE = """
import sys
import faiss
import numpy as np
index = faiss.read_index(sys.argv[1])
x = np.ones((100, index.d), np.float32)
for use in (index.add, lambda x: index.search(x, 3), lambda x: index.range_search(x, 1.0),
            lambda x: index.assign(x, 1),
            lambda x: index.search_and_reconstruct(x, 3), index.sa_encode,
            lambda x: index.get_distance_computer().set_query(faiss.swig_ptr(x))):
    for _ in range(2):  # before training, and after
        try:
            use(x)
        except RuntimeError as error:
            assert "not initialized" in str(error)
        else:
            raise SystemExit(f"{use} gave an answer")
        index.train(x)
for found in (index.reconstruct(0), index.reconstruct_n(0, 9),
              index.sa_decode(np.zeros((2, index.sa_code_size()), np.uint8))):
    assert np.isnan(found).all()
untrained = faiss.read_index(sys.argv[2])
try:
    untrained.train(x)
except RuntimeError as error:
    assert "not trained" in str(error) or "not initialized" in str(error)
else:
    raise SystemExit("trained")
assert "deepq" not in sys.modules
"""


def test_faiss_without_deepq_opens_the_file_and_refuses(index, tmp_path):
    faiss.write_index(index, str(tmp_path / "trained"))
    untrained = deepq.DeepQuantIndex(D_IN, M, NBITS, encoder=Scaled(D_IN))
    faiss.write_index(untrained, str(tmp_path / "untrained"))
    run(REFUSE, tmp_path / "trained", tmp_path / "untrained")


@pytest.mark.parametrize("size", [(2, 200), (200, 2), (1, 8)])
def test_no_state_passes_for_a_matrix(size):
    """However long the state is beside the matrix."""
    transform = faiss.LinearTransform(size[1], size[0])
    bridge.write(transform, Waved(np.ones(size)))
    A = faiss.vector_to_array(transform.A)
    count = size[0] * size[1]
    assert len(A) > count
    assert np.isnan(A[:count]).all()
    np.testing.assert_array_equal(bridge.read(transform).W, np.ones(size))


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "from_faiss": deepq.from_faiss,
}


@pytest.mark.parametrize("route", COPIES)
def test_copies_stand_on_their_own(index, route):
    right = index.search(XQ, 5)
    twin = COPIES[route](index)
    del index
    gc.collect()
    np.testing.assert_array_equal(twin.search(XQ, 5), right)
    assert_same(native(twin).search(XQ, 5), right)


def test_a_file_of_ours_restores_it(index, tmp_path):
    deepq.write_index(index, tmp_path / "index")
    back = deepq.read_index(tmp_path / "index")
    np.testing.assert_array_equal(back.search(XQ, 5), index.search(XQ, 5))


def test_types_are_imported_when_a_file_names_them(tmp_path):
    index = filled()
    index.encoder.state()
    deepq.write_index(index, tmp_path / "index.dpq")
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    np.save(tmp_path / "D.npy", index.search(XQ, 5)[0])
    (tmp_path / "wavy.py").write_text(
        "import deepq, numpy as np\n"
        "class Waved(deepq.encoders.Encoder):\n"
        "    def __init__(self, W):\n"
        "        super().__init__(W.shape[1], W.shape[0])\n"
        "        self.W = W\n"
        "    def encode(self, x):\n"
        "        return np.tanh(x @ self.W.T)\n"
    )
    script = f"""
import sys, numpy as np, deepq
where = sys.argv[1]
deepq.encoders.TYPES["Waved"] = "wavy:Waved"
for name in ("dpq", "faiss"):
    index = deepq.read_index(f"{{where}}/index.{{name}}")
    x = np.random.default_rng(3).standard_normal((9, {D_IN}), dtype=np.float32)
    np.testing.assert_array_equal(index.search(x, 5)[0], np.load(where + "/D.npy"))
assert "wavy" in sys.modules
"""
    run(script, tmp_path, path=tmp_path)


def test_a_type_that_is_not_registered_is_refused(monkeypatch):
    saved = faiss.serialize_index(filled())
    monkeypatch.delitem(encoders.TYPES, "Waved")
    with pytest.raises(FormatError, match="'Waved'"):
        deepq.from_faiss(faiss.deserialize_index(saved))


def test_without_a_state_it_works_in_memory_only(tmp_path):
    index = filled(waved(cls=Unnamed))
    assert_same(native(index).search(XQ, 5), filled().search(XQ, 5))
    for write in (pickle.dumps, copy.copy, lambda i: deepq.write_index(i, tmp_path / "index")):
        with pytest.raises(KindError, match="Unnamed"):
            write(index)
    assert not list(tmp_path.iterdir())
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    with pytest.raises(RuntimeError):
        plain.search(XQ, 5)
    with pytest.raises(KindError, match=r"state\(\)"):
        deepq.from_faiss(plain)
    with pytest.raises(KindError, match=r"state\(\), got Failing"):
        Failing(3, 3).state()


def test_arrays_that_files_cannot_hold_are_refused_when_writing():
    index = filled()
    index.encoder.state = lambda: {"W": index.encoder.W.astype(np.float64)}
    with pytest.raises(KindError, match="float64"):
        deepq.write_index(index, io.BytesIO())


def test_a_decoder_goes_along():
    index = filled()
    value = {"crc": index._native.codebooks_crc(), "numbers": np.arange(5, dtype=np.float32)}
    index._native.carry(value)
    assert_same(native(index).search(XQ, 5), index.search(XQ, 5))
    plain = faiss.deserialize_index(faiss.serialize_index(index))
    carried = type(index._native)(plain).carried()
    np.testing.assert_array_equal(carried["numbers"], value["numbers"])


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda i, x: i.search(x, 3),
        lambda i, x: i.add(x),
        lambda i, x: i.sa_encode(x),
        lambda i, _: i.reconstruct(0),
        lambda i, x: i.get_distance_computer().set_query(faiss.swig_ptr(x)),
    ],
)
@pytest.mark.parametrize("fault", [ValueError("no luck"), KeyboardInterrupt("no luck")], ids=repr)
def test_an_error_of_the_encoder_comes_out_with_its_text(failing, use, fault):
    Failing.fault = fault
    with pytest.raises(RuntimeError, match=f"{type(fault).__name__}: no luck"):
        use(native(failing), XQ[:, :D_OUT].copy())
    Failing.fault = None
    use(native(failing), XQ[:, :D_OUT].copy())
    assert failing.ntotal in (300, 309)


@pytest.mark.parametrize("threaded", [False, True])
def test_errors_come_out_of_other_threads(failing, threaded):
    shards = faiss.IndexShards(D_OUT, threaded)
    shards.add_shard(failing)
    shards.add_shard(copy_of(failing))
    Failing.fault = ValueError("no luck")
    with pytest.raises(RuntimeError, match="no luck"):
        shards.search(XQ[:, :D_OUT].copy(), 3)
    found: list[str] = []

    def search() -> None:
        try:
            native(failing).search(XQ[:, :D_OUT].copy(), 3)
        except RuntimeError as error:
            found.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert "no luck" in found[0]


def copy_of(index: deepq.DeepQuantIndex) -> deepq.DeepQuantIndex:
    """Build the index again: an encoder without a state cannot be copied."""
    return deepq.DeepQuantIndex.from_codebooks(index.codebooks, index.encoder)


def test_an_error_that_cannot_be_told_is_an_error_still(failing):
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("nested")

    for fault in (MuteError(), UnicodeError("\udcff"), type("Ü", (Exception,), {})("ß")):
        Failing.fault = fault
        with pytest.raises(RuntimeError, match=type(fault).__name__):
            native(failing).search(XQ[:, :D_OUT].copy(), 3)


def test_an_encoder_may_search_and_fail_there():
    """Errors pass through two layers of C++."""
    inner = filled()

    class Nested(Encoder):
        def encode(self, x):
            return native(inner).search(x, D_OUT)[0]

    outer = filled(Nested(D_IN, D_OUT))
    expected = deepq.DeepQuantIndex.from_codebooks(outer.codebooks)
    expected.add(native(inner).search(XB, D_OUT)[0])
    queries = native(inner).search(XQ, D_OUT)[0]
    assert_same(native(outer).search(XQ, 3), expected.search(queries, 3))
    inner.encoder.encode = lambda _: 1 / 0
    with pytest.raises(RuntimeError, match=r"RuntimeError: .*ZeroDivisionError: division by zero"):
        native(outer).search(XQ, 3)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (np.zeros((9, 3)), r"expected an array \(9, 8\) of the encoder, got \(9, 3\)"),
        (np.zeros((1, D_OUT)), r"got \(1, 8\)"),
        (0.0, r"got \(\)"),
        (np.zeros((9, D_OUT), complex), "complex128"),
        (np.full((9, D_OUT), "z"), "<U1"),
    ],
    ids=["wide", "one row", "number", "complex", "text"],
)
def test_an_answer_of_the_wrong_kind_is_refused(failing, answer, text):
    Failing.answer = answer
    with pytest.raises(RuntimeError, match=text):
        native(failing).search(XQ[:, :D_OUT].copy(), 3)


def test_an_answer_in_double_precision_will_do(failing):
    right = native(failing).search(XQ[:, :D_OUT].copy(), 3)
    Failing.answer = np.asfortranarray(XQ[:, :D_OUT].astype(np.float64))
    assert_same(native(failing).search(XQ[:, :D_OUT].copy(), 3), right)


# ---- merging -------------------------------------------------------------------------------------


def merge_in_python(a, b):
    a.merge_from(b)


def merge_in_c_plus_plus(a, b):
    native(a).merge_from(native(b))


@pytest.mark.parametrize("merge", [merge_in_python, merge_in_c_plus_plus])
def test_merging_compares_encoders(merge):
    index, books = filled(), filled().codebooks

    def other(encoder: Encoder) -> deepq.DeepQuantIndex:
        made = deepq.DeepQuantIndex.from_codebooks(books, encoder)
        made.add(XQ)
        return made

    for encoder in (waved(1), waved(cls=Unnamed), Affine(waved().W)):
        with pytest.raises(RuntimeError):
            merge(index, other(encoder))
    merge(index, other(waved()))
    assert index._native.pq_index.ntotal == 309


def test_merging_without_states_is_refused():
    index, other = filled(waved(cls=Unnamed)), filled(waved(cls=Unnamed))
    with pytest.raises(InputError, match="same encoder"):
        index.merge_from(other)
    with pytest.raises(RuntimeError, match="same encoder"):
        native(index).merge_from(native(other))


# ---- lives ---------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_encoder_lives_as_long_as_the_index():
    index = filled()
    encoder, twin = weakref.ref(index.encoder), copy.copy(index)
    del index
    gc.collect()
    assert encoder() is None
    assert twin.encoder.is_fitted


def test_a_composite_keeps_an_encoder_and_frees_it():
    inside = trained(waved())
    encoder = weakref.ref(inside.encoder)
    mapped = faiss.IndexIDMap(inside)
    del inside
    gc.collect()
    assert encoder() is not None
    mapped.add_with_ids(XB, np.arange(300))
    del mapped
    gc.collect()
    assert encoder() is None


def test_encoders_are_freed_in_another_thread():
    held = [filled()]
    encoder = weakref.ref(held[0].encoder)
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert encoder() is None


def test_making_and_deleting_leaves_nothing_behind():
    W, books = np.ones((D_OUT, 1 << 14), np.float32), np.zeros((M, 16, D_OUT // M), np.float32)
    living, base = weakref.WeakSet(), 0
    for i in range(300):
        index = deepq.DeepQuantIndex.from_codebooks(books, Waved(W))
        living.add(index.encoder)
        faiss.IndexIDMap(index).search(W[:1], 1)
        index._native.write_encoder(Waved(W))
        del index
        if i == 30:
            gc.collect()
            base = resident()
    gc.collect()
    assert not living
    assert resident() - base < 20 * W.nbytes  # of 270, each with several copies


EXIT = """
import sys, threading, time
import faiss, numpy as np, deepq
class Waved(deepq.encoders.Encoder):
    def encode(self, x):
        return np.tanh(x)
x = np.random.default_rng(0).standard_normal((64, 8), dtype=np.float32)
index = deepq.DeepQuantIndex.from_codebooks(x[:16, :8].reshape(4, 16, 2), Waved(8, 8))
mapped = faiss.IndexIDMap2(index)
mapped.add_with_ids(x, np.arange(64))
chain = faiss.downcast_index(index)
sys.held = Waved.held = [index, mapped, chain]
def search():
    while True:
        mapped.search(x, 3)
if len(sys.argv) > 1:
    threading.Thread(target=search, daemon=True).start()
    time.sleep(0.1)
print(mapped.search(x, 1)[1].shape)
"""


def test_the_interpreter_ends_with_living_objects():
    assert run(EXIT) == "(64, 1)\n"


# ---- where it does not fit -----------------------------------------------------------------------


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
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
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
