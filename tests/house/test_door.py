"""What people have in place of arrays comes in by one door, and nothing is lost on the way."""

from __future__ import annotations

import io
import logging
import pickle

import numpy as np
import pytest
import torch

import deepq
from deepq._common.arrays import as_array, as_labels, as_whole
from deepq._common.checks import as_real
from deepq._common.errors import InputError, KindError
from deepq.networks.backbones import Standardize
from deepq.networks.devices import as_device

X = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)


class OnDisk:
    """The face of a data set in a file: a shape, and an array when it is asked for."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, part):
        return self.array[part]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


KINDS = {
    "a data set in a file": OnDisk,
    "a tensor": torch.tensor,
    "a tensor with a gradient": lambda x: torch.tensor(
        x, requires_grad=torch.tensor(x).is_floating_point()
    ),
    "Python's numbers in a table": lambda x: x.astype(object),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def trained():
    index = deepq.DeepQuantIndex(8, 4, 4, training=deepq.TrainConfig(epochs=1, ranking=False))
    index.train(X)
    index.add(X)
    return index


@each_kind
def test_an_index_takes_it(kind):
    index = deepq.DeepQuantIndex(8, 4, 4, training=deepq.TrainConfig(epochs=1, ranking=False))
    index.train(kind(X))
    index.add(kind(X))
    whole = trained()
    np.testing.assert_array_equal(index.search(kind(X[:9]), 3)[1], whole.search(X[:9], 3)[1])
    np.testing.assert_array_equal(index.sa_encode(kind(X)), whole.sa_encode(X))
    ids = kind(np.arange(5))
    found = index.search(X[:9], 3, params=deepq.SearchParameters(sel=ids))[1]
    assert found.max() < 5
    assert index.reconstruct_batch(ids).shape == (5, 8)
    assert index.remove_ids(ids) == 5
    if kind is not KINDS["Python's numbers in a table"]:  # which have no width
        codes = whole.sa_encode(X)
        np.testing.assert_array_equal(index.sa_decode(kind(codes)), whole.sa_decode(codes))


@each_kind
def test_everything_else_takes_it(kind):
    D, I = deepq.datasets.exact_neighbours(kind(X), kind(X[:9]), np.int64(3))
    np.testing.assert_array_equal(I[:, 0], np.arange(9))
    assert deepq.evaluate(trained(), kind(X[:9]), kind(I), ["1-recall@10"])["1-recall@10"] > 0.5
    assert deepq.diagnose(trained(), kind(X)).n == 300
    data = deepq.datasets.Dataset("x", kind(X), kind(X), kind(X[:9]), gt=kind(I))
    assert data.neighbours(np.int64(2)).tolist() == I[:, :2].tolist()
    y = np.arange(300) % 3
    found = deepq.metrics.mean_average_precision(kind(I), kind(y[:9]), kind(y), top=2, D=kind(D))
    assert found == deepq.metrics.mean_average_precision(I, y[:9], y, top=2, D=D)
    assert deepq.Positives(kind(X[:9]), kind(np.arange(9))).queries.dtype.kind in "fiu"


def test_bfloat16_becomes_float32():
    given = torch.tensor([[1.5, 2.0]]).bfloat16()
    assert as_array(given, "x").dtype == np.float32
    assert as_array(torch.conj(torch.tensor([1 + 2j])), "x").tolist() == [1 - 2j]


def test_what_would_lose_something_is_refused():
    for given in (np.ma.masked_array([1]), np.ma.masked, torch.eye(3).to_sparse(), [[1], [2, 3]]):
        with pytest.raises(KindError, match="expected x"):
            as_array(given, "x")
    with pytest.raises(KindError):
        as_real(np.complex128(1 + 2j), "x")
    for given in (np.array([0.5]), np.array([np.nan]), np.array([np.inf]), np.array([1e30])):
        with pytest.raises(InputError, match="whole numbers"):
            as_whole(given, "x")
    with pytest.raises(InputError, match="64 bits"):
        as_whole(np.array([2**64 - 1], np.uint64), "x")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([2, 0], [2, 0]),
        ([2.0, 0.0], [2, 0]),
        ([True, False], [1, 0]),
        (["cat", "dog"], ["cat", "dog"]),
        (np.array([b"cat", b"dog"]), ["cat", "dog"]),
        (np.array(["cat", "dog"], object), ["cat", "dog"]),
        ([[0, 1], [1, 1]], [[False, True], [True, True]]),
        ([[0.0, 1.0]], [[False, True]]),
        ([[True, False]], [[True, False]]),
    ],
)
def test_labels_as_people_have_them(given, expected):
    assert as_labels(given, "y").tolist() == expected
    assert type(as_labels(given, "y").flat[0].item()) is type(np.array(expected).flat[0].item())


def test_names_and_tags_train_as_numbers_do():
    y = np.arange(300) % 3
    x = X + 3 * np.eye(8, dtype=np.float32)[y]

    def codes(y):
        training = deepq.TrainConfig(epochs=2, batch_size=100)
        index = deepq.recipes.dqn(8, 8, nbits=4, training=training)
        index.train(x, y)
        return index.sa_encode(x)

    np.testing.assert_array_equal(codes(np.array(["a", "b", "c"])[y]), codes(y))
    tags = np.eye(3, dtype=np.int64)[y]
    np.testing.assert_array_equal(codes(tags), codes(tags == 1))
    np.testing.assert_array_equal(codes(y == 1), codes((y == 1).astype(int)))


def test_files_of_labels(tmp_path):
    tags, names = (
        np.eye(3, dtype=bool)[np.arange(50) % 3],
        np.array(["b", "a", "c"])[np.arange(50) % 3],
    )
    for saved, read in ((tags, tags), (tags.astype(int), tags), (np.arange(50.0), np.arange(50))):
        np.savez(tmp_path / "x.npz", base=X[:50], query=X[:5], base_label=saved)
        found = deepq.datasets.load(tmp_path / "x.npz").base_labels
        np.testing.assert_array_equal(found, read)
        assert found.dtype == read.dtype
    np.savez(tmp_path / "x.npz", base=X[:50], query=X[:5], base_label=names, query_label=names[:5])
    data = deepq.datasets.load(tmp_path / "x.npz")
    assert data.label_names == ("a", "b", "c")
    assert data.query_labels.tolist() == [1, 0, 2, 1, 0]
    for wrong in (
        {"base_label": np.arange(50) + 0.7},
        {"gt": np.full((5, 2), 1.6)},
        {"base": X + 1j},
    ):
        np.savez(tmp_path / "x.npz", **{"base": X[:50], "query": X[:5], **wrong})
        with pytest.raises((InputError, KindError), match="expected"):
            deepq.datasets.load(tmp_path / "x.npz")


def class_index(classes=4, **settings):
    training = deepq.TrainConfig(epochs=6, batch_size=100, **settings)
    return deepq.recipes.class_codes(8, 8, classes, nbits=4, training=training)


def of_classes(y):
    x = np.random.default_rng(len(y)).standard_normal((len(y), 8)).astype(np.float32)
    return x + 4 * np.eye(8, dtype=np.float32)[y]


def test_going_on_keeps_the_outputs_of_classes():
    y = np.arange(400) % 4
    index = class_index()
    index.train(of_classes(y), y)
    again = pickle.loads(pickle.dumps(index))
    some = np.array([0, 2, 3])[np.arange(300) % 3]
    for one in (index, again):
        one.train(of_classes(some), some)
        z = one.encoder.encode(of_classes(some))
        assert np.mean(z[:, :4].argmax(1) == some) > 0.9
    with pytest.raises(InputError, match="4 classes, as trained before, got 4 tags"):
        index.train(of_classes(y), np.eye(4, dtype=bool)[y])


@pytest.mark.parametrize("recipe", [deepq.recipes.csq, deepq.recipes.orthohash])
def test_going_on_keeps_the_codes_of_classes(recipe):
    y = np.arange(400) % 4
    training = deepq.TrainConfig(epochs=8, batch_size=100)
    index = recipe(8, 12, nbits=4, warm_up=0.0, training=training)
    index.train(of_classes(y), y)
    before = np.array([index.encoder.encode(of_classes(y))[y == c].mean(0) for c in range(4)])
    some = np.array([0, 2, 3])[np.arange(300) % 3]
    index.training = deepq.TrainConfig(epochs=4, batch_size=100, seed=5)
    index.train(of_classes(some), some)
    after = index.encoder.encode(of_classes(some))
    for number in (0, 2, 3):
        assert np.argmax(before @ after[some == number].mean(0)) == number


def test_numbers_of_another_scale_are_told_of_once_a_call(caplog):
    y = np.arange(400) % 4
    x = (60 + 10 * of_classes(y)).clip(0, 255).astype(np.uint8)
    index = class_index()
    index.train(x, y)
    file = io.BytesIO()
    deepq.write_index(index, file)
    file.seek(0)
    for one in (index, deepq.read_index(file)):
        with caplog.at_level(logging.WARNING, "deepq.encoders"):
            caplog.clear()
            one.search(x[:9], 1) if one.ntotal else one.sa_encode(x[:9])
            assert "scale" not in caplog.text
            one.sa_encode(x[:9] / 255)
            assert caplog.text.count("of the scale that the network was trained with") == 1


def test_columns_in_other_units_do_not_hide_the_rest():
    x = torch.randn(500, 12, generator=torch.manual_seed(0))
    plain = Standardize(12)
    plain.prepare(x)
    assert len(set(plain.scale.tolist())) == 1  # columns of one kind share it
    for factor in (1e-4, 100.0, 1e6):
        mixed, y = Standardize(12), x.clone()
        y[:, [3, 7]] *= factor
        mixed.prepare(y)
        deviations = mixed(y).std(0)
        assert 0.5 < deviations.min() <= deviations.max() < 2
    rare = x.clone()
    rare[:, 5] = 0
    rare[7, 5] = 1e-3  # hardly ever another number: no kind of its own
    mixed = Standardize(12)
    mixed.prepare(rare)
    assert len(set(mixed.scale.tolist())) == 1


def test_too_few_rows_say_how_to_do_with_them():
    index = deepq.recipes.dqn(8, 24)
    with pytest.raises(InputError, match=r"256 training vectors .*, got 240: nbits=6 takes 64"):
        index.train(X[:240], np.arange(240) % 3)
    with pytest.raises(InputError, match="nbits=4 takes 16"):
        deepq.DeepQuantIndex(8, 4, 8).train(X[:20])


def test_devices():
    assert as_device("cpu").type == "cpu"
    with pytest.raises(InputError, match='"auto", "cpu" or "cuda", got \'nonsense\''):
        as_device("nonsense")
    if torch.cuda.is_available():
        assert as_device("gpu").type == "cuda"
    else:
        for name in ("gpu", "cuda"):
            with pytest.raises(InputError, match="a device that torch can use here"):
                as_device(name)


def test_a_large_file_is_opened_without_reading_it(tmp_path, monkeypatch):
    from deepq.datasets import vector_files

    rows = np.zeros((5000, 12), np.uint8)
    rows[:, 0] = 8
    rows[:, 4:] = np.arange(5000)[:, None] % 251
    rows.tofile(tmp_path / "x.bvecs")
    small = deepq.datasets.read_vectors(tmp_path / "x.bvecs")
    monkeypatch.setattr(vector_files, "_SMALL", 1000)
    asked = []
    lengths = vector_files._lengths
    monkeypatch.setattr(
        vector_files, "_lengths", lambda path, at: asked.extend(at) or lengths(path, at)
    )
    large = deepq.datasets.read_vectors(tmp_path / "x.bvecs")
    assert isinstance(large.base, np.memmap | np.ndarray)
    np.testing.assert_array_equal(large, small)
    assert len(asked) <= 1001
    rows[-1, 0] = 9
    rows.tofile(tmp_path / "x.bvecs")
    with pytest.raises(ValueError, match="expected 8 numbers in row 4999, got 9"):
        deepq.datasets.read_vectors(tmp_path / "x.bvecs")


def test_names_of_bigann_and_deep1b(tmp_path):
    def write(name, numbers, dtype):
        lengths = np.full((len(numbers), 1), numbers.shape[1], "<i4")
        rows = np.hstack([lengths.view(np.uint8), numbers.astype(dtype).view(np.uint8)])
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        rows.tofile(path)

    ids = np.zeros((4, 2), np.int32)
    for name, rows in (("base", 40), ("learn", 20), ("deep1B_queries", 4)):
        write(f"deep1b/{name}.fvecs", X[:rows], "<f4")
    write("deep1b/deep1B_groundtruth.ivecs", ids, "<i4")
    data = deepq.datasets.load(tmp_path / "deep1b")
    assert (data.name, len(data.base), len(data.train), len(data.query)) == ("deep1b", 40, 20, 4)
    assert data.gt.shape == (4, 2)
