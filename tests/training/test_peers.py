"""Two processes that train one network are as good as one, to the last digits of a float."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as processes
from torch import nn

import deepq
from deepq import NetworkEncoder, objectives
from deepq._common.errors import FormatError, InputError
from deepq.training import network as training
from deepq.training.peers import Peers
from deepq.training.whole_batch import of_whole_batches

from .classes import (
    IMAGES,
    KINDS,
    D,
    X,
    Y,
    convnet,
    untrained,
    weights,
)

pytestmark = pytest.mark.slow

COUNT = 2
CPU = torch.device("cpu")
ROWS = torch.arange(10.0).view(5, 2).sin()


def loss_of_pairs(z: torch.Tensor) -> torch.Tensor:
    return (z @ z.T).exp().sum()


# ---- what is trained, by one process or by two ---------------------------------------------------


def vectors(folder: Path) -> deepq.DeepQuantIndex:
    """Dropout and batch normalization, an odd batch, codebooks that the network is drawn to."""
    index = untrained(batch_size=63, epochs=3, checkpoint=folder / "vectors.checkpoint")
    index.verbose = True
    index.train(X, Y)
    return index


def pictures(folder: Path) -> deepq.DeepQuantIndex:  # noqa: ARG001
    """Pictures that are changed at random and mixed, parameters in the objective, a decoder."""
    index = convnet(epochs=2)
    index.objective, index.rerank = objectives.Classification(), 10
    index.train(IMAGES, KINDS)
    return index


def triplets(folder: Path) -> deepq.DeepQuantIndex:  # noqa: ARG001
    """Batches by class, and a rotation that comes after the network."""
    encoder = deepq.encoders.Chain([NetworkEncoder(Own(), D), deepq.encoders.Rotation(8)])
    index = untrained(objectives.TripletRanking(rows_per_class=8), encoder, epochs=2)
    index.train(X, Y)
    return index


class Own(nn.Module):
    """Layers of all kinds, and a parameter that is not always used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(Peers(CPU).number)  # others on each worker, if nobody sees to it
        self.first = nn.Linear(D, 8, bias=False)  # before a norm, a bias follows rounding alone
        self.norm = nn.BatchNorm1d(8, affine=False, momentum=None)
        self.drop, self.last = nn.Dropout1d(0.2), nn.Linear(8, 8)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(self.norm(self.first(x))[:, :, None])[:, :, 0])


ALIKE = [vectors, pictures, triplets]


# ---- what two workers do, besides ----------------------------------------------------------------


def ctrl_c() -> None:
    """As torchrun passes it on: twice."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)


def interrupted(folder: Path) -> deepq.DeepQuantIndex:  # noqa: ARG001
    """Ctrl-C comes to one of them, in the middle of the second epoch."""
    index, steps, real = untrained(epochs=40), [0], training.NetworkTraining._step

    def step(self: Any, *args: Any) -> float:
        steps[0] += 1
        if steps[0] == 12 and torch.distributed.get_rank() == 1:
            ctrl_c()
        return real(self, *args)

    training.NetworkTraining._step = step  # type: ignore[method-assign]
    try:
        index.train(X, Y)
    except KeyboardInterrupt:
        return index
    finally:
        training.NetworkTraining._step = real  # type: ignore[method-assign]
    raise AssertionError("not interrupted")


def short(folder: Path) -> deepq.DeepQuantIndex:  # noqa: ARG001
    """The time is over, which each of them sees at another moment."""
    index = untrained(epochs=10_000, max_seconds=0.4 + 0.2 * torch.distributed.get_rank())
    index.train(X, Y)
    return index


def resumed(folder: Path) -> deepq.DeepQuantIndex:
    """The first worker alone has the file that is gone on from."""
    own = folder if torch.distributed.get_rank() == 0 else folder / "nowhere"
    index = untrained(batch_size=63, epochs=3, checkpoint=own / "vectors.checkpoint")
    index.train(X, Y)
    return index


TOGETHER = [interrupted, short, resumed]


def refused(kind: type[BaseException], call: Callable[[], Any]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    return "nothing was refused"


def refusals(folder: Path) -> dict[str, str]:
    rank = torch.distributed.get_rank()
    peers = Peers(CPU)
    bad = folder / "bad.checkpoint"
    if rank == 0:
        bad.write_bytes(b"no checkpoint")

    with peers.together():
        interrupted = refused(KeyboardInterrupt, lambda: peers.first(ctrl_c))

    def fail() -> None:
        raise FormatError(f"of {rank}")

    return {
        "rows": refused(InputError, lambda: untrained().train(X[rank:], Y[rank:])),
        "seed": refused(InputError, lambda: untrained(seed=rank).train(X, Y)),
        "share": refused(InputError, lambda: peers.share(1)),
        "first": refused(FormatError, lambda: peers.first(fail)),
        "ctrl-c": interrupted,
        "checkpoint": refused(FormatError, lambda: untrained(checkpoint=bad).train(X, Y)),
    }


def pieces() -> dict[str, torch.Tensor]:
    """Make the parts of a step: sums of shares."""
    peers = Peers(CPU)
    x = ROWS[peers.share(5)].clone().requires_grad_()
    z = peers.whole(x, 5)
    loss_of_pairs(z).backward()
    idle = nn.Parameter(torch.ones(2))
    net = nn.ParameterList([nn.Parameter(torch.ones(2)), idle])
    net[0].grad = torch.tensor([1.0, peers.number])
    scale = nn.Parameter(torch.ones(1))
    scale.grad = torch.tensor([5.0])
    peers.add_gradients(net, [scale])
    assert idle.grad is None
    rows = peers.embeddings(lambda some: np.float32(some[:, None] * [1, 10]), np.arange(7))
    return {
        "whole": z.detach(),
        "back": x.grad,
        "network": net[0].grad,
        "objective": scale.grad,
        "embeddings": torch.from_numpy(rows),
        "agreed": torch.tensor(peers.agree(float(peers.number))),
    }


def outcome(index: deepq.DeepQuantIndex) -> dict[str, Any]:
    return {
        "weights": weights(index),
        "codebooks": np.array(index.codebooks),
        "decoder": index.quantizer.decoder is not None,
        "codes": index.sa_encode(X if index.d == D else IMAGES),
        "history": index.history,
    }


def work(rank: int, folder: Path) -> None:
    """Be one of two workers; what comes of it is in a file."""
    torch.set_num_threads(1)
    os.dup2(os.open(folder / f"stderr.{rank}", os.O_CREAT | os.O_WRONLY), 2)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # nobody else can connect
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=COUNT,
        timeout=timedelta(seconds=120),
    )
    found: dict[str, Any] = {"pieces": pieces()}
    for case in (*ALIKE, *TOGETHER):
        found[case.__name__] = outcome(case(folder))
    found["refusals"] = refusals(folder)
    torch.save(found, folder / f"found.{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("workers")
    processes.start_processes(work, (made,), nprocs=COUNT, start_method="spawn")
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"found.{rank}", weights_only=False) for rank in range(COUNT)]


# ---- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALIKE)
def test_two_workers_learn_what_one_learns(found, case, tmp_path) -> None:
    one, two = outcome(case(tmp_path)), found[0][case.__name__]
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(two["codebooks"], one["codebooks"], rtol=1e-3, atol=1e-4)
    assert two["decoder"] == one["decoder"]
    assert len(two["history"]) == len(one["history"])
    for a, b in zip(two["history"], one["history"], strict=True):
        if a["stage"] == "network":
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


@pytest.mark.parametrize("case", [*ALIKE, *TOGETHER])
def test_both_end_with_the_same_bits(found, case) -> None:
    a, b = (some[case.__name__] for some in found)
    assert a["weights"].keys() == b["weights"].keys()
    assert all(torch.equal(t, b["weights"][name]) for name, t in a["weights"].items())
    np.testing.assert_array_equal(a["codebooks"], b["codebooks"])
    np.testing.assert_array_equal(a["codes"], b["codes"])
    assert a["history"] == b["history"]


def test_ctrl_c_to_one_ends_both_with_the_best_until_then(found) -> None:
    epochs = [e for e in found[0]["interrupted"]["history"] if e["stage"] == "network"]
    assert len(epochs) == 1


def test_they_go_on_from_the_file_of_the_first(found) -> None:
    again, before = found[1]["resumed"], found[1]["vectors"]
    assert all(torch.equal(t, before["weights"][name]) for name, t in again["weights"].items())


def test_the_first_alone_shows_progress(folder) -> None:
    assert "network" in (folder / "stderr.0").read_text()
    assert "network" not in (folder / "stderr.1").read_text()


def test_what_is_not_the_same_for_all_is_refused_by_all(found) -> None:
    for some in found:
        told = some["refusals"]
        for name in ("rows", "seed"):
            assert "expected the same rows, labels and settings on all workers" in told[name]
            assert told[name].endswith("got others on [1]")
        assert "a row for each of 2 workers, got 1" in told["share"]
        assert told["first"] == "of 0"
        assert told["ctrl-c"] == ""
        assert "expected a checkpoint in" in told["checkpoint"]


def test_sums_of_shares(found) -> None:
    x = ROWS.clone().requires_grad_()
    loss_of_pairs(x).backward()
    for rank, some in enumerate(found):
        sums = some["pieces"]
        torch.testing.assert_close(sums["whole"], x.detach())
        torch.testing.assert_close(sums["network"], torch.tensor([2.0, 1.0]))
        torch.testing.assert_close(sums["objective"], torch.tensor([5.0]))
        np.testing.assert_array_equal(sums["embeddings"], np.arange(7)[:, None] * [1, 10])
        assert sums["agreed"] == 1
        torch.testing.assert_close(sums["back"], x.grad[[slice(2), slice(2, 5)][rank]])


def test_one_alone_has_nothing_to_share() -> None:
    peers, net = Peers(CPU), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    z = torch.ones(3, 2)
    assert peers.alone
    assert peers.is_first
    assert peers.whole(z, 3) is z
    assert peers.share(3) == slice(0, 3)
    assert peers.first(lambda: 7) == 7
    assert peers.agree(0.5) == 0.5
    with of_whole_batches(net, peers, 3), peers.together():
        assert all("forward" not in vars(module) for module in net)
