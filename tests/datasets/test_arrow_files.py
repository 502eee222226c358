"""Parquet, Arrow, Feather, tables, Hugging Face's data sets: what is read is what was written."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from deepq import DeepQuantIndex, TrainConfig
from deepq.datasets import load, read_vectors

from .builders import vectors

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

X = (20 * vectors(1000, 6)).round()


def fixed(x, kind=None):
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel(), kind), x.shape[1])


def lists(x, cls=pa.ListArray, offset_type=np.int32):
    offsets = np.arange(0, x.size + 1, x.shape[1], dtype=offset_type)
    return cls.from_arrays(pa.array(offsets), pa.array(x.ravel()))


COLUMNS = {
    "fixed": fixed,
    "lists": lists,
    "large lists": lambda x: lists(x, pa.LargeListArray, np.int64),
    "a tensor": lambda x: pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.from_numpy_dtype(x.dtype), (x.shape[1],)), fixed(x)
    ),
}
each_column = pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)


def parquet(path, table):
    pq.write_table(table, path, row_group_size=300)


def stream(path, table):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=150)


def feather_file(path, table):
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_file(path, table.schema, options=packed) as writer:
        writer.write_table(table, max_chunksize=170)


WRITERS = {"x.parquet": parquet, "x.arrow": stream, "x.feather": feather_file}
each_file = pytest.mark.parametrize("name", WRITERS)


def table(array, **others):
    return pa.table({"id": np.arange(len(array)), "emb": array, **others})


@each_file
@each_column
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.uint8])
def test_every_kind_of_column_in_every_file(tmp_path, name, column, dtype):
    x = np.abs(X).astype(dtype)
    WRITERS[name](tmp_path / name, table(column(x)))
    found = read_vectors(tmp_path / name)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    np.testing.assert_array_equal(np.asarray(found), x)
    np.testing.assert_array_equal(np.concatenate(list(found.blocks(64))), x)
    some = np.array([999, 0, 300, 299, 1])
    np.testing.assert_array_equal(found[some], x[some])


@each_column
def test_slices_and_chunks_of_tables(column):
    whole = pa.chunked_array([column(X[:400])[100:], column(X[400:])[:0], column(X[400:])[7:503]])
    right = np.concatenate([X[100:400], X[407:903]])
    for source in (whole, pa.table({"emb": whole}), pa.table({"emb": whole})[0:]):
        np.testing.assert_array_equal(np.asarray(read_vectors(source)), right)
    part = pa.table({"emb": whole})[290:310]
    np.testing.assert_array_equal(np.asarray(read_vectors(part)), right[290:310])
    np.testing.assert_array_equal(np.asarray(read_vectors(column(X)[3:9])), X[3:9])


def test_bytes_of_one_width():
    codes = np.random.default_rng(0).integers(0, 256, (50, 4), np.uint8)
    column = pa.array([row.tobytes() for row in codes], pa.binary(4))
    found = read_vectors(pa.table({"code": column})[5:])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(found), codes[5:])


def holed(rows, kind, where=17):
    """Return rows of which one is null, over numbers that are still there."""
    values = X[:rows].tolist()
    values[where] = None
    return pa.array(values, kind)


KINDS = {
    "fixed": pa.list_(pa.float32(), 6),
    "lists": pa.list_(pa.float32()),
    "large lists": pa.large_list(pa.float32()),
}


@each_file
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_null_row_is_refused_by_its_number(tmp_path, name, kind):
    WRITERS[name](tmp_path / name, table(holed(400, kind, 317)))
    ours = "expected no nulls, got one in row 317"
    its = "all lists to be of size=6"  # what pyarrow before 26 says of such lists in Parquet
    with pytest.raises(ValueError, match=f"{ours}|{its}"):
        np.asarray(read_vectors(tmp_path / name))


def test_a_tensor_that_is_null():
    """pyarrow itself makes no array of such a column."""
    storage = holed(40, KINDS["fixed"])
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (6,)), storage)
    np.testing.assert_array_equal(np.asarray(read_vectors(column[18:])), X[18:40])
    with pytest.raises(ValueError, match="no nulls, got one in row 17"):
        np.asarray(read_vectors(column))


def test_nan_in_the_place_of_a_null(tmp_path):
    """As polars writes, of columns of bytes too: the row is named when it is used."""
    x = X[:700].copy()
    x[433] = np.nan
    parquet(tmp_path / "x.parquet", table(fixed(x)))
    index = DeepQuantIndex(6, 3, 4, training=TrainConfig(epochs=1))
    index.train(X)
    with pytest.raises(ValueError, match="NaN or infinity in row 433"):
        index.add(read_vectors(tmp_path / "x.parquet"))
    assert index.ntotal == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nulls_in_slices(kind):
    column = holed(40, kind)
    np.testing.assert_array_equal(np.asarray(read_vectors(column[18:])), X[18:40])
    with pytest.raises(ValueError, match="row 12"):
        np.asarray(read_vectors(column[5:]))
    values = X[:40].tolist()
    values[9][2] = None
    with pytest.raises(ValueError, match="row 9"):
        np.asarray(read_vectors(pa.array(values, kind)))


def test_nulls_are_looked_for_in_the_bits():
    """A writer may say that there are none."""
    honest = holed(40, KINDS["fixed"])
    lying = pa.Array.from_buffers(honest.type, 40, honest.buffers()[:1], 0, 0, [honest.values])
    assert lying.null_count == 0
    with pytest.raises(ValueError, match="no nulls, got one in row 17"):
        np.asarray(read_vectors(lying))


def test_what_hands_out_a_stream():
    class Relation:
        """As those of DuckDB, and data frames."""

        def __arrow_c_stream__(self, requested_schema=None):
            return table(lists(X)).__arrow_c_stream__(requested_schema)

    np.testing.assert_array_equal(np.asarray(read_vectors(Relation(), "emb")), X)


def test_a_first_row_that_is_null():
    found = read_vectors(holed(40, KINDS["lists"], 0))
    assert found.shape == (40, 6)
    with pytest.raises(ValueError, match="no nulls, got one in row 0"):
        np.asarray(found)
    with pytest.raises(ValueError, match="at least one number, got none"):
        read_vectors(pa.array([None] * 9, KINDS["lists"]))


def test_ragged_lists_are_refused_by_row(tmp_path):
    values = X[:400].tolist()
    values[333] = values[333][:4]
    parquet(tmp_path / "x.parquet", table(pa.array(values, pa.list_(pa.float32()))))
    with pytest.raises(ValueError, match="lists of 6 numbers, got 4 in row 333"):
        np.asarray(read_vectors(tmp_path / "x.parquet"))


def test_columns_by_name(tmp_path):
    both = table(fixed(X), other=lists(X + 1), name=pa.array(["x"] * len(X)))
    parquet(tmp_path / "x.parquet", both)
    np.testing.assert_array_equal(np.asarray(read_vectors(tmp_path / "x.parquet", "other")), X + 1)
    with pytest.raises(ValueError, match="or the name of one, got 2: 'emb', 'other'"):
        read_vectors(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"'emb', 'id', 'name', 'other', got 'embedding'"):
        read_vectors(tmp_path / "x.parquet", "embedding")
    for name in ("id", "name"):
        with pytest.raises(ValueError, match="expected lists of numbers, got the type"):
            read_vectors(both, name)


def test_names_with_dots(tmp_path):
    parquet(tmp_path / "x.parquet", pa.table({"a.b": fixed(X), "a": lists(X + 1)}))
    np.testing.assert_array_equal(np.asarray(read_vectors(tmp_path / "x.parquet", "a.b")), X)
    np.testing.assert_array_equal(np.asarray(read_vectors(tmp_path / "x.parquet", "a")), X + 1)


@pytest.mark.parametrize(
    "column",
    [[["a"]], [[[1.0]]], [[None]]],
)
def test_lists_of_what_is_no_number(column):
    with pytest.raises(ValueError, match="expected one column of vectors"):
        read_vectors(pa.table({"emb": pa.array(column)}))


@pytest.mark.parametrize("column", [pa.array([], pa.list_(pa.int8())), pa.array([[]] * 3)])
def test_vectors_of_nothing(column):
    with pytest.raises(ValueError, match="expected"):
        np.asarray(read_vectors(column.cast(pa.list_(pa.int8()))))


class TestFolders:
    def test_files_in_order(self, tmp_path):
        for i, (a, b) in enumerate(((0, 400), (400, 401), (401, 1000))):
            parquet(tmp_path / f"part-{i}.parquet", table(fixed(X[a:b])))
        (tmp_path / "_SUCCESS").touch()
        for source in (tmp_path, sorted(tmp_path.glob("*.parquet"))):
            np.testing.assert_array_equal(np.asarray(read_vectors(source)), X)
        found = load(tmp_path)
        assert (found.base.shape, found.query.shape) == ((900, 6), (100, 6))

    @pytest.mark.parametrize(
        ("second", "text"),
        [
            (fixed(X[:, :5].copy()), "as before"),
            (fixed(X.astype(np.float16)), "as before"),
            (lists(X[:, :5].copy()), "as before"),
        ],
    )
    def test_mixed_widths(self, tmp_path, second, text):
        parquet(tmp_path / "a.parquet", table(fixed(X)))
        parquet(tmp_path / "b.parquet", table(second))
        with pytest.raises(ValueError, match=rf"b\.parquet: expected .*{text}"):
            read_vectors(tmp_path)

    def test_lists_of_other_lengths_in_a_later_file(self, tmp_path):
        parquet(tmp_path / "a.parquet", table(lists(X)))
        parquet(tmp_path / "b.parquet", table(lists(X[:, :5].copy())))
        with pytest.raises(ValueError, match=r"b\.parquet: expected lists of 6 .* 5 in row 0"):
            np.asarray(read_vectors(tmp_path))

    def test_a_column_that_a_later_file_lacks(self, tmp_path):
        parquet(tmp_path / "a.parquet", table(fixed(X)))
        parquet(tmp_path / "b.parquet", pa.table({"x": fixed(X)}))
        with pytest.raises(ValueError, match=r"b\.parquet: expected the column 'emb'"):
            read_vectors(tmp_path)

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"expected files of \.parquet"):
            read_vectors(tmp_path)


@each_file
def test_truncated_files(tmp_path, name):
    WRITERS[name](tmp_path / name, table(fixed(X)))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=f"{name}.*: expected"):
        np.asarray(read_vectors(tmp_path / name))
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name}: expected a file that pyarrow reads"):
        read_vectors(tmp_path / name)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    parquet(tmp_path / "x.parquet", table(fixed(X)))
    found = read_vectors(tmp_path / "x.parquet")
    parquet(tmp_path / "x.parquet", table(fixed(X[:700])))
    with pytest.raises(ValueError, match=r"as when it was opened, got others|pyarrow reads"):
        np.asarray(found)


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"expected pyarrow.*pip install 'deepq\[formats\]'"):
        read_vectors(tmp_path / "x.parquet")


def test_other_objects():
    for source in (3, None, np.zeros((3, 2))):
        with pytest.raises(TypeError, match="expected a path or a table"):
            read_vectors(source)


class TestHuggingFace:
    @pytest.fixture
    def data(self):
        hf = pytest.importorskip("datasets")
        codes = np.abs(X).astype(np.uint8)
        features = hf.Features(
            {
                "text": hf.Value("string"),
                "emb": hf.List(hf.Value("float32"), length=6),
                "code": hf.List(hf.Value("uint8"), length=6),
            }
        )
        columns = {"text": ["x"] * 1000, "emb": X.tolist(), "code": codes.tolist()}
        return hf.Dataset.from_dict(columns, features=features)

    def test_kinds_stay(self, data):
        codes = read_vectors(data, "code")
        assert codes.dtype == np.uint8
        np.testing.assert_array_equal(np.asarray(codes), np.abs(X).astype(np.uint8))
        np.testing.assert_array_equal(np.asarray(read_vectors(data.with_format("numpy"), "emb")), X)

    def test_what_its_numpy_format_would_have_changed(self):
        hf = pytest.importorskip("datasets")
        features = hf.Features(
            {
                "code": hf.List(hf.Value("uint8"), length=6),
                "exact": hf.List(hf.Value("float64"), length=6),
            }
        )
        columns = {"code": np.abs(X).astype(np.uint8).tolist(), "exact": (X + 1e-9).tolist()}
        data = hf.Dataset.from_dict(columns, features=features).with_format("numpy")
        changed = {name: data[:2][name].dtype for name in columns}
        assert changed == {"code": np.int64, "exact": np.float32}
        kept = {name: read_vectors(data, name).dtype for name in columns}
        assert kept == {"code": np.uint8, "exact": np.float64}
        np.testing.assert_array_equal(np.asarray(read_vectors(data, "exact")), X + 1e-9)

    def test_shuffled_and_filtered(self, data):
        order = np.random.default_rng(0).permutation(1000)[:500]
        np.testing.assert_array_equal(np.asarray(read_vectors(data.select(order), "emb")), X[order])

    def test_saved(self, data, tmp_path):
        data.save_to_disk(tmp_path / "saved", num_shards=3)
        found = read_vectors(tmp_path / "saved", "emb")
        np.testing.assert_array_equal(np.asarray(found), X)
        np.testing.assert_array_equal(found[np.array([900, 3])], X[[900, 3]])

    def test_splits_are_named(self, data, tmp_path):
        hf = pytest.importorskip("datasets")
        both = hf.DatasetDict(train=data, test=data)
        both.save_to_disk(tmp_path / "saved")
        with pytest.raises(ValueError, match="the splits test, train: name one"):
            read_vectors(tmp_path / "saved", "emb")
        with pytest.raises((ValueError, TypeError), match="expected"):
            read_vectors(both, "emb")
