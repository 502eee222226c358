"""The head of a cluster goes and comes back: a clear error in time, then all goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray

from deepq.distributed import Manifest, ShardedIndex, ShardError, encode_dataset
from deepq.distributed import encode as encoding
from tests.distributed.builders import rows, trained

PORT = 6399
RAY = Path(sys.executable).with_name("ray")
QUIET = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SMALL = {"rows_per_shard": 100, "rows_per_block": 5, "cpus": 0.5, "workers": 1}


def begin():
    how = ["--head", f"--port={PORT}", "--num-cpus=2", "--include-dashboard=false"]
    subprocess.run([RAY, "start", *how, "--object-store-memory=80000000"], **QUIET)
    ray.init(address=f"127.0.0.1:{PORT}", log_to_driver=False)


def end():
    subprocess.run([RAY, "stop", "--force"], **QUIET)


def test_the_head_restarts(tmp_path, monkeypatch):
    index, x = trained(), rows(300)
    np.save(tmp_path / "x.npy", x)
    begin()
    try:
        finish = encoding._Writer.finish

        def fails(writer):
            if writer.made:
                end()
                monkeypatch.undo()
            finish(writer)

        monkeypatch.setattr(encoding._Writer, "finish", fails)
        with pytest.raises(Exception, match=r"(?i)actor|worker|node|raylet|ray"):
            encode_dataset(tmp_path / "x.npy", index, tmp_path / "out", **SMALL, timeout=30)
        with pytest.raises(FileNotFoundError):
            Manifest.read(tmp_path / "out")
        ray.shutdown()

        begin()
        manifest = encode_dataset(tmp_path / "x.npy", index, tmp_path / "out", **SMALL)
        index.add(x)
        served = ShardedIndex(manifest, cpus=0.5, timeout=10)
        assert np.array_equal(served.search(x[:5], 4)[1], index.search(x[:5], 4)[1])
        end()
        start = time.monotonic()
        with pytest.raises(ShardError, match=r"none of shard-00000.dpq, shard-00001.dpq"):
            served.search(x[:5], 4)
        assert time.monotonic() - start < 60
        ray.shutdown()

        begin()
        with ShardedIndex(tmp_path / "out", cpus=0.5) as served:
            assert np.array_equal(served.search(x[:5], 4)[1], index.search(x[:5], 4)[1])
    finally:
        end()
