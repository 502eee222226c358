"""The plug-ins of ann-benchmarks and VIBE, run by a stand-in of these on small HDF5 files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deepq

from .harness import INTEGRATIONS, definitions, module_of, recall, run

h5py = pytest.importorskip("h5py")
N, NQ, D, K = 900, 12, 18, 10
METRICS = {
    "ann_benchmarks": ["euclidean", "angular"],
    "vibe": ["euclidean", "cosine", "normalized", "ip"],
}
CASES = [(folder, metric) for folder, metrics in METRICS.items() for metric in metrics]


def write(path: Path, metric: str, dtype: str = "float32") -> Path:
    """Write a data set of these harnesses: train, test, neighbors, and the distance."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N + NQ, D)) @ rng.standard_normal((D, D))
    if metric == "normalized":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    if dtype != "float32":
        x = (x - x.min()) / (x.max() - x.min()) * 255 - (128 if dtype == "int8" else 0)
    x = x.astype(dtype)
    compared = x.astype(np.float32)
    if metric in ("angular", "cosine"):
        compared /= np.linalg.norm(compared, axis=1, keepdims=True)
    _, gt = deepq.datasets.exact_neighbours(
        compared[NQ:], compared[:NQ], K, 1 if metric == "euclidean" else 0
    )
    with h5py.File(path, "w") as file:
        file.attrs["distance"], file.attrs["dimension"], file.attrs["point_type"] = (
            metric,
            D,
            "float",
        )
        file["train"], file["test"], file["neighbors"] = x[NQ:], x[:NQ], gt
    return path


def read(path: Path):
    with h5py.File(path) as file:
        return file["train"][:], file["test"][:], file["neighbors"][:], file.attrs["distance"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Trainings of a moment."""
    monkeypatch.setattr("deepq.index.training_data.TrainConfig", Quick)


class Quick(deepq.TrainConfig):
    def __init__(self, **settings):
        super().__init__(**{**settings, "epochs": 1, "ranking": False})


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(("folder", "metric"), CASES)
def test_codes_and_vectors_find_neighbours(folder, metric, batch, tmp_path):
    X, Q, gt, distance = read(write(tmp_path / "set.hdf5", metric))
    module = module_of(folder)
    index = module.DeepQ(distance, 4, 8, 0)
    few, all_cells = run(index, X, Q, [[1], [8]], K, batch=batch)
    assert recall(few, gt) <= recall(all_cells, gt)
    assert recall(all_cells, gt) > 0.15
    assert str(index) == "DeepQ(M=4, nlist=8, rerank=0, nprobe=8)"
    assert index.get_additional() == {"bytes_per_vector": 4}
    refined = module.DeepQRefined(distance, 4, 0, 0)
    plain, ranked = run(refined, X, Q, [[1, 0], [1, 40]], K, batch=batch)
    assert recall(ranked, gt) > max(0.9, recall(plain, gt))
    assert str(refined) == "DeepQRefined(M=4, nlist=0, rerank=0, nprobe=1, k_factor=40)"


@pytest.mark.parametrize(("folder", "metric"), CASES)
def test_the_ids_are_those_of_the_index(folder, metric, tmp_path):
    X, Q, _, distance = read(write(tmp_path / "set.hdf5", metric))
    algorithm = module_of(folder).DeepQ(distance, 4, 0, 0)
    (found,) = run(algorithm, X, Q, [[1]], K, batch=False)
    np.testing.assert_array_equal(found, algorithm.index.search(Q, K)[1])


@pytest.mark.parametrize("folder", METRICS)
def test_missing_results_are_left_out(folder, tmp_path):
    X, Q, _, distance = read(write(tmp_path / "set.hdf5", "euclidean"))
    for batch in (False, True):
        algorithm = module_of(folder).DeepQ(distance, 3, 300, 0)
        (found,) = run(algorithm, X, Q, [[1]], K, batch=batch)
        assert min(map(len, found)) < K
        assert (algorithm.index.search(Q, K)[1] == -1).any()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16"])
def test_rows_of_other_dtypes(dtype, tmp_path):
    X, Q, gt, distance = read(write(tmp_path / "set.hdf5", "euclidean", dtype))
    algorithm = module_of("vibe").DeepQRefined(distance, 4, 0, 0)
    (found,) = run(algorithm, X, Q, [[1, 40]], K, batch=False)
    assert recall(found, gt) > 0.9


@pytest.mark.parametrize("folder", METRICS)
def test_another_metric_is_refused(folder):
    with pytest.raises(ValueError, match=r"expected a metric of euclidean, .*got hamming"):
        module_of(folder).DeepQ("hamming", 4, 0, 0)


@pytest.mark.parametrize("folder", METRICS)
def test_what_config_yml_asks_for_can_be_made(folder):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((INTEGRATIONS / folder / "config.yml").read_text())
    module = module_of(folder)
    assert set(config) == ({"float"} if folder == "ann_benchmarks" else {"float", "uint8", "int8"})
    for kind in config:
        found = definitions(config, kind, "euclidean")
        assert len(found) > 10
        for constructor, arguments, queries in found:
            algorithm = getattr(module, constructor)(*arguments)
            assert algorithm.M in (16, 32, 64)
            assert queries
            for group in queries:
                assert len(group) == (2 if constructor == "DeepQRefined" else 1)
    entries = config["float"]["any"]
    assert {entry["module"] for entry in entries} == {f"{folder}.algorithms.deepq"}
    assert len({entry["name"] for entry in entries}) == len(entries)


def test_an_image_is_made_of_a_package_beside_the_module():
    for name in ("ann_benchmarks/Dockerfile", "vibe/image.def"):
        text = (INTEGRATIONS / name).read_text()
        assert "algorithms/deepq/deepq-*" in text
        assert "pip install" in text
