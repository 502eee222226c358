"""What every test may use: hypothesis profiles, the data folder, faiss's threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Read by faiss and torch when they are loaded. Two processes of tests leave no processor to other
# threads, which would only wait for each other; a test of threads says how many it wants.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import pytest
from hypothesis import HealthCheck, settings

from deepq import datasets

settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=50,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def data_folder() -> Path | None:
    """Return the folder of the big data sets, or None."""
    named = os.environ.get("DEEPQ_DATA")
    return Path(named) if named else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if data_folder() is not None:
        return
    skip = pytest.mark.skip(reason="DEEPQ_DATA names no folder of data sets")
    for item in items:
        if "data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def big_data() -> Path:
    """The folder that DEEPQ_DATA names; for tests marked `data`."""
    folder = data_folder()
    if folder is None:
        pytest.skip("DEEPQ_DATA names no folder of data sets")
    if not folder.is_dir():
        pytest.fail(f"DEEPQ_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def glosses() -> datasets.Dataset:
    """The small data set that ships with the package."""
    return datasets.wordnet_glosses()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """OpenMP with two threads, whatever the environment says."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)
