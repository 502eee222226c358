"""Workers that train one network together, each with its share of every batch.

They are the processes of `torch.distributed`, as torchrun or Ray Train start them. All see the same
rows, and draw the same batches. Each sends its share of a batch through the network; the embeddings
are put together, so that every loss sees the whole batch, and what each learns of the network is
added up. That is not `DistributedDataParallel`: there a loss sees the share of one worker, and
pairs and triplets across shares are lost.

A worker alone is the same with nothing to share: every method gives back what it got.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deepq._common.errors import InputError
from deepq._common.types import Floats, Ids

_AT_ONCE = 2.0  # seconds: torchrun passes on a Ctrl-C that its workers have got themselves

T = TypeVar("T")


class Peers:
    """The workers that there are; a process without `torch.distributed` is one alone.

    All of them must call the same methods in the same order.

    Parameters
    ----------
    device : torch.device
        Where tensors are that are sent. With the backend nccl it must be the worker's own GPU.

    Attributes
    ----------
    number, count : int
        Number of this worker, from 0, and how many there are.
    """

    def __init__(self, device: torch.device) -> None:
        there = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.device = device
        self.number = torch.distributed.get_rank() if there else 0
        self.count = torch.distributed.get_world_size() if there else 1
        self._interrupted, self._noted = False, -_AT_ONCE
        self._acts = False  # alone, while others wait

    @property
    def alone(self) -> bool:
        """Whether there is no other worker."""
        return self.count == 1

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that writes and shows what is told."""
        return self.number == 0

    # ---- a batch -----------------------------------------------------------------------------

    def share(self, n: int) -> slice:
        """Return this worker's share of n rows: shares differ by one row at most.

        Raises InputError where there are fewer rows than workers.
        """
        if n < self.count:
            raise InputError(f"expected batches of a row for each of {self.count} workers, got {n}")
        return slice(n * self.number // self.count, n * (self.number + 1) // self.count)

    def whole(self, z: Tensor, n: int) -> Tensor:
        """Put the shares z (m, d) of all workers together, (n, d).

        A gradient of the whole comes back as that of the own share: every worker computes the same
        loss of the whole, so nothing is to be added up here.
        """
        if self.alone:
            return z
        own = self.share(n)
        others = z.new_zeros(n, *z.shape[1:])
        others[own] = z.detach()
        self._add(others)
        return torch.cat([others[: own.start], z, others[own.stop :]])

    def add_gradients(self, network: nn.Module, objective: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of a network, of which each worker has its share's.

        Those of the parameters of an `objective` are of the whole batch already: the first worker's
        count. Where a parameter has a gradient on no worker, it has none afterwards.
        """
        if self.alone:
            return
        parts = [(p, 1.0) for p in network.parameters() if p.requires_grad]
        parts += [(p, float(self.is_first)) for p in objective if p.requires_grad]
        if not parts:
            return
        there = torch.tensor([float(p.grad is not None) for p, _ in parts], device=self.device)
        flat = [
            (torch.zeros_like(p) if p.grad is None else p.grad * weight).flatten()
            for p, weight in parts
        ]
        both = torch.cat([there, *flat])
        self._add(both)
        pieces = torch.split(both[len(parts) :], [p.numel() for p, _ in parts])
        for (p, _), some, piece in zip(parts, both[: len(parts)].tolist(), pieces, strict=True):
            p.grad = piece.view_as(p).to(p.dtype) if some else None

    def embeddings(self, make: Callable[[Ids], Floats], rows: Ids) -> Floats:
        """Embeddings (n, d) of rows (n,), of which each worker makes its share by `make`."""
        if self.alone or len(rows) < self.count:
            return make(rows)
        own = self.share(len(rows))
        made = make(rows[own])
        whole = torch.zeros(len(rows), made.shape[1], device=self.device)
        whole[own] = torch.from_numpy(made).to(self.device)
        self._add(whole)
        found: Floats = whole.cpu().numpy()
        return found

    def _add(self, tensor: Tensor) -> None:
        """Add up a tensor of all workers, in place; all get the same bits."""
        torch.distributed.all_reduce(tensor)

    # ---- what all must know --------------------------------------------------------------------

    def first(self, action: Callable[[], T]) -> T:
        """Let the first worker do something; all return what came of it, or raise its error."""
        if self.alone:
            return action()
        outcome: list[Any] = [None, None]
        self._interrupted = False
        if self.is_first:
            self._acts = True
            try:
                outcome[0] = action()
            except (Exception, KeyboardInterrupt) as error:
                outcome[1] = error
            self._acts = False
        torch.distributed.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def require_same(self, what: Any, name: str) -> None:
        """Raise InputError, on all workers, unless `what` is equal on all of them."""
        if self.alone:
            return
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, what)
        others = [i for i, other in enumerate(found) if other != found[0]]
        if others:
            raise InputError(f"expected the same {name} on all workers, got others on {others}")

    def begin_alike(self, *modules: nn.Module) -> None:
        """Give all workers the numbers of the first one's modules."""
        if self.alone:
            return
        states = self.first(lambda: [_on_cpu(module.state_dict()) for module in modules])
        for module, state in zip(modules, states, strict=True):
            module.load_state_dict(state)

    def agree(self, elapsed: float) -> float:
        """Return the largest of what the workers give.

        Raises KeyboardInterrupt on all of them where one was interrupted `together`.
        """
        if self.alone:
            return elapsed
        both = torch.tensor([elapsed, float(self._interrupted)], device=self.device)
        torch.distributed.all_reduce(both, op=torch.distributed.ReduceOp.MAX)
        most, interrupted = both.tolist()
        if interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        return float(most)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let Ctrl-C wait in here until all workers `agree`; a second one does not wait.

        While the `first` does something by itself, it raises there. In a thread that gets no
        signals there is nothing to wait for.
        """
        if self.alone or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, *_: Any) -> None:
        now = time.monotonic()
        again, self._noted = now - self._noted < _AT_ONCE, now
        if again:
            return
        if self._interrupted or self._acts:
            raise KeyboardInterrupt
        self._interrupted = True


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in state.items()}
