"""Encoding on Ray: the same shards whoever encodes, whatever dies."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data
from PIL import Image

import deepq
from deepq import datasets
from deepq.distributed import Manifest, encode_dataset, engine
from deepq.distributed import encode as encoding
from tests.distributed.builders import D, rows, trained
from tests.distributed.on_ray.faults import Rows

pytestmark = pytest.mark.usefixtures("small_ray")

N = 1030
SMALL = {"rows_per_shard": 300, "rows_per_block": 70, "cpus": 0.5, "workers": 2}


@pytest.fixture(scope="module")
def index():
    return trained()


@pytest.fixture(scope="module")
def x():
    return rows(N, 7)


@pytest.fixture
def npy(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


def codes_of(manifest: Manifest):
    shards = [deepq.read_index(manifest.folder / s.name) for s in manifest.shards]
    return np.concatenate([c for shard in shards for c in shard.code_blocks()])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_hold_the_codes_of_all_rows_in_order(index, x, npy, tmp_path):
    manifest = encode_dataset(npy, index, tmp_path / "out", **SMALL)
    assert [shard.rows for shard in manifest.shards] == [300, 300, 300, 130]
    assert [shard.least for shard in manifest.shards] == [0, 300, 600, 900]
    assert np.array_equal(codes_of(manifest), index.sa_encode(x))
    assert Manifest.read(tmp_path / "out") == manifest
    one = encode_dataset(npy, index, tmp_path / "one", **{**SMALL, "workers": 1})
    assert files(tmp_path / "one") == files(tmp_path / "out")
    assert one.fingerprint == index.fingerprint
    again = encode_dataset(npy, index, tmp_path / "out", **{**SMALL, "workers": 1})
    assert again == manifest
    (tmp_path / "out" / "shard-00002.dpq").write_bytes(b"damaged")
    again = encode_dataset(npy, index, tmp_path / "out", **{**SMALL, "workers": 1})
    assert again == manifest
    assert files(tmp_path / "one") == files(tmp_path / "out")


def test_a_run_that_was_stopped_goes_on_after_its_last_whole_shard(
    index, x, npy, tmp_path, monkeypatch
):
    whole = encode_dataset(npy, index, tmp_path / "whole", **SMALL)
    finish = encoding._Writer.finish

    def stopped(writer):
        if len(writer.made) == 2:
            raise KeyboardInterrupt
        finish(writer)

    monkeypatch.setattr(encoding._Writer, "finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(npy, index, tmp_path / "out", **SMALL)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        Manifest.read(tmp_path / "out")
    first = tmp_path / "out" / "shard-00000.dpq"
    written = first.stat().st_mtime_ns
    damaged = tmp_path / "out" / "shard-00001.dpq"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    manifest = encode_dataset(npy, index, tmp_path / "out", **SMALL)
    assert first.stat().st_mtime_ns == written
    assert manifest.shards == whole.shards
    assert np.array_equal(codes_of(manifest), index.sa_encode(x))


def test_a_worker_that_is_killed_loses_nothing(index, x, tmp_path):
    source = Rows(x, "die", tmp_path / "died")
    manifest = encode_dataset(source, index, tmp_path / "out", **SMALL)
    assert (tmp_path / "died").exists()
    assert np.array_equal(codes_of(manifest), index.sa_encode(x))


def test_a_worker_that_hangs_is_an_error_in_time(index, x, tmp_path, monkeypatch):
    """Workers may take longer to start than a block may take, where a machine is busy."""
    start, source = engine.started, Rows(x, "hang")
    monkeypatch.setattr(engine, "started", lambda pool, _, *needs: start(pool, 300, *needs))
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"expected a block of 70 rows within 25 s"):
        encode_dataset(source, index, tmp_path / "out", **SMALL, timeout=25)
    assert time.monotonic() - begin < 400
    assert (tmp_path / "out" / "shard-00000.dpq").exists()


def test_files_that_only_this_process_sees_are_refused(index, x, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data that every worker sees, got on .*rows.npy"):
        encode_dataset(Rows(x, "unseen"), index, tmp_path / "out", **SMALL)


def test_workers_that_the_cluster_has_no_room_for_are_an_error(index, npy, tmp_path):
    with pytest.raises(TimeoutError, match=r"1 workers of 64 CPUs .* the cluster has 4 CPUs"):
        encode_dataset(npy, index, tmp_path / "out", workers=1, cpus=64, timeout=2)


def test_tables_pictures_and_ids(index, x, tmp_path):
    flat = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), D)
    for part in range(2):
        table = pa.table({"v": flat, "n": pa.array(np.arange(N))})
        pq.write_table(table.slice(part * 600, 600), tmp_path / f"{part}.parquet")
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    ids = np.random.default_rng(1).permutation(5000)[:N]
    manifest = encode_dataset(paths, index, tmp_path / "out", column="v", ids=ids, **SMALL)
    by_id = np.concatenate([shard.ids_in(manifest.folder) for shard in manifest.shards])
    assert sorted(by_id.tolist()) == sorted(ids.tolist())
    row_of = {number: row for row, number in enumerate(ids.tolist())}
    rows_ = [row_of[number] for number in by_id.tolist()]
    assert np.array_equal(codes_of(manifest), index.sa_encode(x[rows_]))

    for kind in ("a", "b"):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(40):
        pixels = rng.integers(255, size=(2, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / "ab"[n % 2] / f"{n}.png")
    pictures = datasets.read_images(datasets.image_folder(tmp_path / "pictures"), gray=True)
    manifest = encode_dataset(pictures, index, tmp_path / "of_pictures", **SMALL)
    assert np.array_equal(codes_of(manifest), index.sa_encode(pictures[:]))


def test_a_ray_dataset_comes_in_its_order_into_cells_too(x, tmp_path):
    index = trained("cells")
    lists = [{"v": row.tolist(), "key": 3 * i} for i, row in enumerate(x[:450])]
    data = ray.data.from_items(lists, override_num_blocks=7)
    manifest = encode_dataset(data, index, tmp_path / "out", column="v", ids="key", **SMALL)
    index.add_with_ids(x[:450], 3 * np.arange(450))
    merged = index.copy_empty()
    for shard in manifest.shards:
        merged.merge_from(deepq.read_index(manifest.folder / shard.name), add_id=0)
    assert np.array_equal(merged.search(x[:50], 9)[1], index.search(x[:50], 9)[1])
    with pytest.raises(deepq.InputError, match=r"expected the columns .*w.*, got \['key', 'v'\]"):
        encode_dataset(data, index, tmp_path / "other", column="w", **SMALL)


def test_a_folder_of_something_else_is_left_alone(index, x, npy, tmp_path):
    out = tmp_path / "out"
    encode_dataset(npy, index, out, **SMALL)
    before = files(out)
    with pytest.raises(deepq.InputError, match="got another rows_per_shard"):
        encode_dataset(npy, index, out, **{**SMALL, "rows_per_shard": 200})
    np.save(npy, x)
    with pytest.raises(deepq.InputError, match="got another source"):
        encode_dataset(npy, index, out, **SMALL)
    assert files(out) == before
    with pytest.raises(deepq.InputError, match="got another fingerprint"):
        encode_dataset(npy, trained(metric=0), out, **SMALL)
    assert files(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(deepq.InputError, match="expected an empty folder"):
        encode_dataset(npy, index, tmp_path / "mine", **SMALL)
    assert json.loads((out / "manifest.json").read_text())["version"] == 1
