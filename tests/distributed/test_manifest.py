"""Manifests: whole, of one codec, of distinct ids, and of one folder."""

from __future__ import annotations

import json

import numpy as np
import pytest

import deepq
from deepq.distributed import Manifest
from tests.distributed.builders import in_shards, rows, trained


@pytest.fixture(scope="module")
def index():
    return trained()


def changed(path, **fields):
    content = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(content | fields))


def test_it_is_read_as_it_was_written(index, tmp_path):
    manifest = in_shards(index, tmp_path, [rows(30), rows(20), rows(5)])
    assert Manifest.read(tmp_path) == Manifest.read(tmp_path / "manifest.json") == manifest
    assert manifest.ntotal == 55
    assert [(s.least, s.largest) for s in manifest.shards] == [(0, 29), (30, 49), (50, 54)]
    assert manifest.without("part-1.dpq").ntotal == 35


def test_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest.*got none"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"format": "another"},
        {"shards": [{"name": "a"}]},
        {"shards": 3},
        {"codec": "../codec.dpq"},
        {"codec": None},
    ],
)
def test_other_manifests_are_refused(index, tmp_path, fields):
    in_shards(index, tmp_path, [rows(30)])
    changed(tmp_path, **fields)
    with pytest.raises(deepq.FormatError, match="expected a manifest of shards, version 1"):
        Manifest.read(tmp_path)


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("shards")
    with pytest.raises(deepq.FormatError, match="expected a manifest"):
        Manifest.read(tmp_path)


def test_a_shard_of_another_training_is_refused(index, tmp_path):
    manifest = in_shards(index, tmp_path, [rows(30)])
    other = trained(metric=0)
    deepq.write_index(other, tmp_path / "other.dpq")
    with pytest.raises(deepq.InputError, match=f"fingerprint {index.fingerprint}"):
        manifest.including("other.dpq")


def test_names_are_of_files_in_the_folder_and_each_comes_once(index, tmp_path):
    manifest = in_shards(index, tmp_path, [rows(30)])
    with pytest.raises(deepq.InputError, match="not there yet"):
        manifest.including("part-0.dpq")
    with pytest.raises(deepq.InputError, match="name of a file"):
        manifest.including("../part-0.dpq")
    with pytest.raises(deepq.InputError, match=r"expected names of shards, part-0.dpq"):
        manifest.without("part-7.dpq")


def test_an_id_in_two_shards_is_refused(tmp_path):
    index = trained("cells")
    in_shards(index, tmp_path, [rows(30)])
    twice = index.copy_empty()
    twice.add_with_ids(rows(3), np.array([40, 29, 50]))
    deepq.write_index(twice, tmp_path / "twice.dpq")
    with pytest.raises(deepq.InputError, match=r"every id in one shard, .*part-0.dpq and twice"):
        Manifest.read(tmp_path).including("twice.dpq")


def test_ids_may_lie_between_those_of_another_shard(tmp_path):
    index = trained("cells")
    manifest = in_shards(index, tmp_path, [])
    for name, first in (("even", 0), ("odd", 1)):
        part = index.copy_empty()
        part.add_with_ids(rows(10), np.arange(first, 20, 2))
        deepq.write_index(part, tmp_path / f"{name}.dpq")
    assert manifest.including("even.dpq", "odd.dpq").ntotal == 20
