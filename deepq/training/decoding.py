"""Learning a decoder, and the sites that its words start from, with torch.

A batch of vectors is coded with the decoder as it is, decoded, and a step of AdamW lowers

    |z - z_hat|^2 + pull * |z - c|^2,

z_hat the decoder's reconstruction and c the sites of the same words, which keeps the words good
for look-up tables as well. In the first third of the way the words are those of the nearest sites;
after it the decoder chooses some of the two nearest, but for the preset "fast". It must also read
the codes that C++ code adds, of the nearest codewords, which have been trained for the order of
neighbours (`ranking`): a quarter of a batch has those. The decoder's tables start as the sites,
each in its own sub-space, and the network starts as zero, so the first reconstruction is that of
the product quantizer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag

from deepq._common.types import Floats, Ids
from deepq.decoders.neural import Decoder
from deepq.decoders.panels import diagonal_blocks
from deepq.networks.devices import as_device
from deepq.training.schedule import one_cycle
from deepq.training.settings import Plan

PULL = 0.2
WARM_UP = 1 / 3  # share of the way with nearest words only
NEAREST = 1 / 4  # share of a batch with the words of the nearest codewords
TRIALS = 4  # changes of a word that are tried for a vector
_NUMBERS = 1 << 20  # of changes that are looked at together
RATES = (1e-3, 1e-3, 2e-3, 2e-3)  # of sites, tables, features, the network
# In the same order. What a single word adds is learned from few rows where words are many: without
# a strong pull to zero, rows that were not learned from are decoded worse.
WEIGHT_DECAYS = (0.0, 5.0, 5.0, 0.01)


class Network(nn.Module):
    """The decoder of `decoders`, as parameters to learn; for vectors of unit scale and mean 0.

    T_m and U_m are sums of a part that follows the sites and a part of their own: codewords that
    move take their neighbourhood with them. `onto` (M, dsub, d) takes sites to whole vectors.
    """

    first: Tensor
    onto: Tensor

    def __init__(
        self,
        sites: Tensor,
        onto: Tensor,
        hidden: int,
        inside: int,
        generator: torch.Generator,
        *,
        knows_cells: bool = False,
    ) -> None:
        super().__init__()
        M, ksub, dsub = sites.shape
        d = M * dsub

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        self.sites = nn.Parameter(sites.clone())
        self.tables = nn.Parameter(torch.zeros(M, ksub, d))
        self.weights = normal(M, dsub, hidden, scale=d**-0.5)
        self.features = nn.Parameter(torch.zeros(M, ksub, hidden))
        self.start = nn.Parameter(torch.zeros(hidden))
        self.inner = normal(hidden, inside, scale=hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(inside))
        self.outer = nn.Parameter(torch.zeros(inside, hidden))
        self.output = nn.Parameter(torch.zeros(hidden, d))
        self.offset = nn.Parameter(torch.zeros(d))
        # At first the hidden layer sees centre and residual alike: a vector as it is.
        start = self.weights.detach().reshape(d, hidden).clone()
        self.cells = nn.Parameter(start) if knows_cells else None
        self.register_buffer("first", torch.arange(M) * ksub, persistent=False)
        self.register_buffer("onto", onto, persistent=False)

    def summands(self) -> tuple[Tensor, Tensor]:
        """Return T (M, ksub, d) and U (M, ksub, h)."""
        tables = torch.baddbmm(self.tables, self.sites, self.onto)
        return tables, torch.baddbmm(self.features, self.sites, self.weights)

    def units(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units inside the residual block and behind it, before they are rectified."""
        inside = hidden @ self.inner + self.bias
        return inside, hidden + torch.relu(inside) @ self.outer

    def head(self, hidden: Tensor) -> Tensor:
        """Return what the network adds to the tables for inputs of its hidden layer."""
        return torch.relu(self.units(hidden)[1]) @ self.output

    def add_up(self, summands: Tensor, words: Tensor) -> Tensor:
        """Sum the rows (n, d) that words (n, M) point to."""
        rows = summands.reshape(-1, summands.shape[2])
        return embedding_bag(words + self.first, rows, mode="sum")

    @torch.no_grad()
    def choose(
        self,
        z: Tensor,
        candidates: Tensor,
        T: Tensor,
        U: Tensor,
        start: Tensor | None = None,
    ) -> Tensor:
        """Words (n, M) that decode to near, of some candidates (n, M, c), the nearest first.

        From the nearest on, the `TRIALS` changes of a word that promise most are tried, one after
        the other, and those stay that lower the error ("iterated conditional modes", Besag 1986).
        `Decoder.choose` tries more. `start` (n, h) is what the hidden layer begins with in the
        cells of the vectors.
        """
        places = candidates + self.first[:, None]
        words, others = places[:, :, 0].contiguous(), places[:, :, 1:]
        rest = z - self.offset - self.add_up(T, candidates[:, :, 0])
        hidden = (self.start if start is None else start) + self.add_up(U, candidates[:, :, 0])
        left = rest - self.head(hidden)
        best = _promising(words, others, left, self._as_sum(T, U, hidden))
        spaces, others = best // others.shape[2], others.flatten(1).gather(1, best)
        T, U, error = T.flatten(0, 1), U.flatten(0, 1), left.square().sum(1)
        rows = torch.arange(len(z), device=z.device)
        for m, other in zip(spaces.T, others.T, strict=True):
            word = words[rows, m]
            moved = rest + embedding(word, T) - embedding(other, T)
            inputs = hidden - embedding(word, U) + embedding(other, U)
            tried = (moved - self.head(inputs)).square().sum(1)
            better = tried < error
            error = torch.where(better, tried, error)
            words[rows, m] = torch.where(better, other, word)
            rest = torch.where(better[:, None], moved, rest)
            hidden = torch.where(better[:, None], inputs, hidden)
        return words - self.first

    def _as_sum(self, T: Tensor, U: Tensor, hidden: Tensor) -> Tensor:
        """Vectors (M * ksub, d), one a word, whose sums are about what is decoded.

        With every unit open as often as for the inputs `hidden` (n, h) of the hidden layer, as in
        `Decoder.summands`.
        """
        open_inside, open_outside = ((x > 0).float().mean(0) for x in self.units(hidden))
        output = open_outside[:, None] * self.output
        output = output + (self.inner * open_inside) @ (self.outer @ output)
        return torch.addmm(T.flatten(0, 1), U.flatten(0, 1), output)


def _promising(words: Tensor, others: Tensor, left: Tensor, vectors: Tensor) -> Tensor:
    """Choose the changes (n, `TRIALS`) of words (n, M) to others (n, M, c) that promise most.

    `left` (n, d) is what is not decoded yet, `vectors` (M * ksub, d) are what words add to it.
    Returned are numbers from 0 to M * c, in that order.
    """
    count, best = min(TRIALS, others[0].numel()), []
    size = max(1, _NUMBERS // (others[0].numel() * vectors.shape[1]))  # rows at a time
    for own, new, z in zip(*(torch.split(x, size) for x in (words, others, left)), strict=True):
        changes = embedding(new, vectors) - embedding(own, vectors)[:, :, None]
        gains = 2 * torch.einsum("nmcd,nd->nmc", changes, z) - changes.square().sum(3)
        best.append(gains.flatten(1).topk(count, 1).indices)
    return torch.cat(best)


class Learner:
    """Learns a decoder, a batch at a time.

    Parameters
    ----------
    sites, codebooks : (M, ksub, dsub) float32
        Where the sites start; codewords, whose nearest are what C++ code adds. They are moved once
        more afterwards, for the words that the decoder chooses.
    z : (n, d) float32
        Some vectors, for their mean and scale.
    plan : Plan
        Size of the decoder.
    seed : int
        Seed of the weights.
    device : str
        "auto", "cpu", "cuda" and the like.
    centres : (nlist, d) float32, optional
        Centres of the cells that vectors lie in, which the decoder will know.
    stretch : (d, d) float32, optional
        What vectors are multiplied by where errors count alike: see `stretching`.
    """

    def __init__(
        self,
        sites: Floats,
        codebooks: Floats,
        z: Floats,
        plan: Plan,
        seed: int,
        device: str,
        centres: Floats | None = None,
        stretch: Floats | None = None,
    ) -> None:
        self.plan, self.mean = plan, z.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.scale = float(np.sqrt(z.var(axis=0, dtype=np.float64).mean())) or 1.0
        self.device = as_device(device)
        M, _, dsub = sites.shape
        middle = self.mean.reshape(M, 1, -1)
        start, fixed = ((books - middle) / np.float32(self.scale) for books in (sites, codebooks))
        self.stretch = stretch
        forth = np.eye(M * dsub, dtype=np.float32) if stretch is None else stretch
        back = np.linalg.inv(forth.astype(np.float64)).astype(np.float32)
        self.codebooks, self.forth, self.back, self.blocks = (
            torch.from_numpy(numbers).to(self.device)
            for numbers in (fixed, forth, back, diagonal_blocks(forth, M))
        )
        if centres is not None:
            given = torch.from_numpy(centres).to(self.device)
            self.middle = given.mean(0)
            self.centres = (given - self.middle) / self.scale
        self.network = Network(
            torch.from_numpy(start),
            torch.from_numpy(forth.reshape(M, dsub, -1)),
            plan.hidden,
            plan.inside,
            torch.Generator().manual_seed(seed),
            knows_cells=centres is not None,
        ).to(self.device)
        others = dict(self.network.named_parameters())
        first = [[others.pop(name)] for name in ("sites", "tables", "features")]
        groups = [
            {"params": part, "weight_decay": decay}
            for part, decay in zip([*first, list(others.values())], WEIGHT_DECAYS, strict=True)
        ]
        fused = self.device.type == "cpu"  # one pass over the numbers instead of ten
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=fused)

    def step(self, z: Floats, progress: float, cells: Ids | None = None) -> float:
        """Learn from the rows of `z` (n, d), in `cells` (n,), at a part of the way from 0 to 1.

        Returns the mean squared error of their reconstructions before the step.
        """
        network = self.network
        plain = torch.from_numpy((z - self.mean) / np.float32(self.scale)).to(self.device)
        x = plain @ self.forth
        for group, rate in zip(self.optimizer.param_groups, RATES, strict=True):
            group["lr"] = rate * one_cycle(progress)
        T, U = network.summands()
        start = network.start.expand(len(x), -1) if cells is None else self._in_cells(cells)
        words = self._words(plain, x, progress, T.detach(), U.detach(), start.detach())
        hidden = start + network.add_up(U, words)
        error = x - network.offset - network.add_up(T, words) - network.head(hidden)
        chosen = embedding(words + network.first, network.sites.flatten(0, 1)).flatten(1)
        loss = error.square().sum(1).mean() + PULL * (plain - chosen).square().sum(1).mean()
        self.optimizer.zero_grad()
        (loss / z.shape[1]).backward()
        self.optimizer.step()
        return float((error.detach() @ self.back).square().sum(1).mean()) * self.scale**2

    def _in_cells(self, cells: Ids) -> Tensor:
        """Return what the hidden layer begins with (n, h) in the cells of vectors (n,)."""
        network = self.network
        assert network.cells is not None
        return network.start + self.centres[torch.from_numpy(cells)] @ network.cells

    def _words(
        self, plain: Tensor, x: Tensor, progress: float, T: Tensor, U: Tensor, start: Tensor
    ) -> Tensor:
        """Words (n, M) of vectors, plain ones and as they are stretched."""
        network, kept = self.network, round(NEAREST * len(x))
        parts = plain.reshape(len(x), len(T), -1).transpose(0, 1)
        plainly = nearest(parts[:, :kept], self.codebooks, 1)[:, :, 0]
        tried = 1 if progress < WARM_UP else min(self.plan.tried, T.shape[1])
        chosen = torch.bmm(parts[:, kept:], self.blocks)
        near = nearest(chosen, torch.bmm(network.sites, self.blocks), tried)
        words = near[:, :, 0]
        if tried > 1:
            words = network.choose(x[kept:], near, T, U, start[kept:])
        return torch.cat([plainly, words])

    def result(self) -> Decoder:
        """Return the decoder, in the units of the vectors."""
        network, scale = self.network, self.scale
        mean = torch.from_numpy(self.mean).to(self.device)
        with torch.no_grad():
            T, U = network.summands()
            T, offset, output = (
                given @ self.back for given in (T, network.offset, network.output.data)
            )
            T, U = T * scale, U.clone()
            T[0] += offset * scale + mean
            U[0] += network.start
            numbers = {
                "sites": network.sites * scale + mean.reshape(len(T), 1, -1),
                "tables": T,
                "features": U,
                "inner": network.inner,
                "bias": network.bias,
                "outer": network.outer,
                "output": output * scale,
                "centre": mean,
            }
            if network.cells is not None:
                numbers["cells"] = network.cells / scale
                U[0] -= self.middle @ numbers["cells"]
            arrays = {name: tensor.cpu().numpy() for name, tensor in numbers.items()}
        if self.stretch is not None:
            arrays["stretch"] = self.stretch
        return Decoder(arrays, candidates=self.plan.candidates, sweeps=self.plan.sweeps)

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy everything that learning goes on from, as arrays."""
        parameters = dict(self.network.named_parameters())
        state = {name: p.detach().cpu().numpy().copy() for name, p in parameters.items()}
        for name, p in parameters.items():
            for key, value in self.optimizer.state[p].items():
                state[f"{name}.{key}"] = value.cpu().numpy().copy()
        return state

    def load(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over a state of a learner of the same settings."""
        with torch.no_grad():
            for name, p in self.network.named_parameters():
                p.copy_(torch.from_numpy(state[name]))
                kept = {key for key in state if key.startswith(f"{name}.")}
                self.optimizer.state[p] = {
                    key.removeprefix(f"{name}."): _tensor(state[key], p) for key in kept
                }


@torch.no_grad()
def nearest(parts: Tensor, books: Tensor, count: int) -> Tensor:
    """Words (n, M, count) of the books (M, ksub, dsub) nearest to sub-vectors (M, n, dsub)."""
    halves = books.square().sum(2)[:, None] / 2
    far = halves - torch.bmm(parts, books.transpose(1, 2))
    return far.topk(count, 2, largest=False).indices.transpose(0, 1).contiguous()


def _tensor(numbers: NDArray[Any], like: Tensor) -> Tensor:
    """Return a tensor on the device of its parameter; a count of steps stays on the CPU."""
    tensor = torch.from_numpy(numbers.copy())
    return tensor.to(like.device) if tensor.ndim else tensor
