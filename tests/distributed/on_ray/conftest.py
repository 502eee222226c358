"""One small Ray for all cases of a process."""

from __future__ import annotations

import pytest
import ray

CPUS = 4


@pytest.fixture(scope="session")
def small_ray():
    how = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=CPUS, object_store_memory=80_000_000, **how)
    yield
    ray.shutdown()
