"""Training a network with labels, and codebooks with it.

An epoch of the deep quantization network (Cao et al., AAAI 2016) has two halves. The codebooks are
fitted to the embeddings of all training rows, by a few steps of k-means from where they are, and
every row gets its codewords. Then the network takes steps of

    objective(z, labels) + quantization_weight * |z - codewords|^2,

the codewords constant. A network that starts from nothing is trained as a classifier first
(`Objective.warm_up`): the pairwise losses alone hardly begin to fall.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepq import _augment
from deepq._checkpoint import Checkpoint
from deepq._checks import Floats, Ids, InputError, as_vectors
from deepq._device import as_device
from deepq._optimizers import Muon
from deepq._report import Report
from deepq._rows import Rows
from deepq._schedule import one_cycle
from deepq._stages import Stages, training_key
from deepq.encoders import Chain, Encoder, Identity
from deepq.metrics import mean_average_precision
from deepq.network_encoder import NetworkEncoder
from deepq.objectives import Classification, Objective, PairwiseCosine, quantization
from deepq.quantizers import METRIC_L2, ProductQuantizer
from deepq.supervision import Positives, Supervision, as_supervision

if TYPE_CHECKING:
    from deepq.trainer import TrainConfig

EPOCHS = 60
LEARNING_RATE = 6e-3
WEIGHT_DECAY = 0.1

_REFRESH_ITERATIONS = 3  # of k-means in an epoch, from the codebooks there are
_MOST_HELD = 2000
_FEWEST_HELD = 50
_SAMPLE = 5000  # rows that a network is prepared with
_MATRIX = 128  # rows and columns from which a matrix counts as one for the optimizer
_SHIFT, _CUT = 1 / 8, 1 / 4  # of an image's height: moved at most, side of the square cut out
_MIXED = 0.5  # part of the batches of a classifier with rectangles of other images

_log = logging.getLogger("deepq.trainer")


def learn(
    encoder: Encoder,
    quantizer: ProductQuantizer,
    x: NDArray[Any],
    y: Any,
    objective: Objective | None,
    config: TrainConfig,
    metric: int,
    report: Report,
    *,
    decoder: bool,
) -> tuple[Encoder, bool]:
    """Train the network in an encoder by labels, then what comes after it, and the codebooks.

    Returns the encoder, and whether Ctrl-C ended the training.
    """
    before, network, after = _parts(encoder)
    supervision = as_supervision(y, len(x))
    objective = PairwiseCosine() if objective is None else objective
    key = training_key(encoder, quantizer, x, config, metric)
    if key:
        key |= {"objective": repr(objective), "labels": supervision.digest()}
    checkpoint = Checkpoint(config.checkpoint, key)
    rows = before.encode(x) if before else x
    if isinstance(supervision, Positives):
        queries = as_vectors(supervision.queries.reshape(len(supervision.rows), -1), encoder.d_in)
        rows = np.concatenate([rows, before.encode(queries) if before else queries])
    training = NetworkTraining(
        network, quantizer, rows, supervision, objective, config, metric, report, checkpoint
    )
    interrupted = training.run()
    z = network.encode(rows[: len(x)])
    plain = replace(config, ranking=False, validation=config.validation if decoder else 0.0)
    stages = Stages(
        after or Identity(network.d_out),
        quantizer,
        Rows(z, network.d_out),
        plain,
        metric,
        report,
        checkpoint,
    )
    interrupted |= stages.run(decoder=decoder and not interrupted)
    members = [part for part in (before, network, after and stages.encoder) if part is not None]
    return (Chain(members) if len(members) > 1 else network), interrupted


def _parts(encoder: Encoder) -> tuple[Encoder | None, NetworkEncoder, Encoder | None]:
    """Return the network in an encoder, and what stands before and after it.

    Raises InputError where there is not exactly one network.
    """
    members = encoder.members if isinstance(encoder, Chain) else (encoder,)
    places = [i for i, member in enumerate(members) if isinstance(member, NetworkEncoder)]
    if len(places) != 1:
        raise InputError(
            "expected an index with one network to train with labels, got "
            f"{len(places)}: deepq.recipes.dqn(d, bits) makes one, for example"
        )
    network = members[places[0]]
    assert isinstance(network, NetworkEncoder)
    return _chained(members[: places[0]]), network, _chained(members[places[0] + 1 :])


def _chained(members: tuple[Encoder, ...]) -> Encoder | None:
    return None if not members else members[0] if len(members) == 1 else Chain(members)


class Batch(NamedTuple):
    """What an objective sees of some rows.

    Attributes
    ----------
    similar, known : (n, n) bool
        See `supervision`.
    targets : (n, c) float32 or None
        Classes; rows sum to 1.
    several : bool
        Whether rows have several classes.
    """

    similar: Tensor
    known: Tensor
    targets: Tensor | None
    several: bool


class NetworkTraining:
    """Trains the network of an encoder in place, epoch by epoch.

    Parameters
    ----------
    encoder : NetworkEncoder
        Its network is trained.
    quantizer : ProductQuantizer
        Its codebooks are trained with it where the objective weighs quantization.
    x : (n, d_in) float32 or uint8
        Training rows.
    supervision : Supervision
        Of these rows.
    objective : Objective
        Copied before it is used.
    config : TrainConfig
        Settings.
    metric : int
        What the index searches by.
    report, checkpoint
        Where progress is told and kept.
    """

    def __init__(
        self,
        encoder: NetworkEncoder,
        quantizer: ProductQuantizer,
        x: NDArray[Any],
        supervision: Supervision,
        objective: Objective,
        config: TrainConfig,
        metric: int,
        report: Report,
        checkpoint: Checkpoint,
    ) -> None:
        self.encoder, self.quantizer, self.config = encoder, quantizer, config
        self.metric, self.report, self.checkpoint = metric, report, checkpoint
        rng = np.random.default_rng(config.seed)
        self.x, self.supervision = x, supervision
        self.held: Supervision | None = None
        kept, held = _split(supervision, config.validation, rng)
        if len(held):
            self.x, self.supervision = x[kept], supervision.part(kept)
            self.held_x, self.held = x[held], supervision.part(held)
        self.device = as_device(config.device)
        self.network = encoder.network.to(self.device)
        self._prepare(rng)
        classes = 0 if supervision.targets is None else supervision.targets.shape[1]
        self.objective, self.classifier = copy.deepcopy(objective), Classification()
        with _seeded(config.seed):
            for part in (self.objective, self.classifier):
                part.prepare(encoder.d_out, classes)
                part.to(self.device)
        self.epochs = EPOCHS if config.epochs is None else config.epochs
        self.warm_up = round(objective.warm_up * self.epochs) if classes else 0
        self.optimizer = self._make_optimizer()
        self.best, self.most = self._copy(), -1.0

    def _prepare(self, rng: np.random.Generator) -> None:
        """Let the network look at some rows, if it wants to."""
        prepare = getattr(self.network, "prepare", None)
        if prepare is not None and not self.encoder.is_fitted:
            rows = rng.permutation(len(self.x))[:_SAMPLE]
            with torch.no_grad():
                prepare(self._images(np.sort(rows)))

    def _make_optimizer(self) -> Muon:
        """Matrices apart from other numbers, and each with the rate its network asks for."""
        rates = dict(getattr(self.network, "rates", {}))
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        named = [
            *self.network.named_parameters(),
            *self.objective.named_parameters("objective"),
            *self.classifier.named_parameters("classifier"),
        ]
        for name, p in named:
            if p.requires_grad:
                prefixes = [prefix for prefix in rates if name.startswith(prefix)]
                rate = rates[max(prefixes, key=len)] if prefixes else 1.0
                matrix = p.dim() == 4 or (p.dim() == 2 and min(p.shape) >= _MATRIX)
                groups.setdefault((matrix, rate), []).append(p)
        return Muon(
            {
                "params": group,
                "muon": matrix,
                "rate": rate,
                "weight_decay": WEIGHT_DECAY if matrix else 0.0,
            }
            for (matrix, rate), group in groups.items()
        )

    # ---- the loop ----------------------------------------------------------------------------

    def run(self) -> bool:
        """Train; return whether Ctrl-C ended it, with the best network until then in place."""
        done = self.checkpoint.get("network")
        first, since = (0, 0) if done is None else self._resume(done)
        self.report.begin("network", self.epochs)
        interrupted = False
        try:
            for epoch in range(first, self.epochs):
                if self.report.elapsed >= 1:
                    break
                since = 0 if self._epoch(epoch) else since + 1
                self._keep(epoch + 1, since)
                if self.config.patience is not None and since >= self.config.patience:
                    _log.info("no better mAP for %d epochs: the training ends", since)
                    break
        except KeyboardInterrupt:
            if not self.report.history:
                raise
            interrupted = True
        self.network.load_state_dict(self.best)
        self.network.eval().to("cpu")
        self.encoder.settle()
        return interrupted

    def _epoch(self, epoch: int) -> bool:
        """Go through all rows once; return whether the network is the best until now."""
        warm = epoch < self.warm_up
        objective: Objective = self.classifier if warm else self.objective
        weight = 0.0 if warm else objective.quantization_weight
        decoded = self._refresh(epoch) if weight else None
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + epoch)
        rng = np.random.default_rng([self.config.seed, epoch])
        batches = list(self.supervision.batches(self.config.batch_size, rng))
        self.network.train()
        losses = []
        with _seeded(self.config.seed + epoch):  # for dropout
            for number, rows in enumerate(batches):
                progress = (epoch + (number + 1) / len(batches)) / self.epochs
                self._set_rate(min(1.0, max(progress, self.report.elapsed)))
                words = None if decoded is None else torch.from_numpy(decoded[rows])
                losses.append(self._step(rows, objective, weight, words, generator))
        self.network.eval()
        entry: dict[str, Any] = {"iteration": epoch, "loss": float(np.mean(losses))}
        if self.held is not None:
            entry["mAP"] = self._judge(weight > 0)
        self.report({"stage": "network", **entry})
        better = self.held is None or entry["mAP"] > self.most
        if better:
            self.best, self.most = self._copy(), entry.get("mAP", -1.0)
        return better

    def _step(
        self,
        rows: Ids,
        objective: Objective,
        weight: float,
        words: Tensor | None,
        generator: torch.Generator,
    ) -> float:
        supervision = self.supervision
        similar, known = (torch.from_numpy(m).to(self.device) for m in supervision.similar(rows))
        targets = (
            None if supervision.targets is None else torch.from_numpy(supervision.targets[rows])
        )
        images = self._images(rows)
        if self.config.augment and images.dim() == 4:
            images, targets = _augmented(images, targets, objective.mixes, generator)
        if targets is not None:
            targets = targets.to(self.device)
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            z = self.network(images.to(self.device)).float()
        loss = objective(z, Batch(similar, known, targets, supervision.several))
        if words is not None:
            loss = loss + weight * quantization(z, words.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _set_rate(self, progress: float) -> None:
        rate = self.config.learning_rate or LEARNING_RATE
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"] * one_cycle(progress)

    def _images(self, rows: Ids) -> Tensor:
        return self.encoder.images(torch.from_numpy(self.x[rows]))

    # ---- codebooks and judgement ---------------------------------------------------------------

    def _refresh(self, epoch: int) -> Floats:
        """Fit the codebooks to the embeddings; return the codewords (n, d_out) of every row."""
        z = self.encoder.encode(self.x)
        self.quantizer.train(z, iterations=_REFRESH_ITERATIONS, seed=self.config.seed + epoch)
        return self.quantizer.gather(self.quantizer.assign(z))

    def _judge(self, quantized: bool) -> float:
        """Return the mAP of held-out rows, each a query among the others."""
        assert self.held is not None
        z = self.encoder.encode(self.held_x)
        base = self.quantizer.gather(self.quantizer.assign(z)) if quantized else z
        scores = z @ base.T
        if self.metric == METRIC_L2:
            scores = 2 * scores - np.square(base).sum(axis=1)
        np.fill_diagonal(scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
        y: Any = self.held.y
        return mean_average_precision(order, y, y)

    # ---- going on ----------------------------------------------------------------------------

    def _copy(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def _keep(self, epochs: int, since: int) -> None:
        """Keep everything that the next epoch follows from."""
        if self.config.checkpoint is None:
            return
        books = self.quantizer.codebooks
        self.checkpoint.put(
            "network",
            {
                "epochs": epochs,
                "since": since,
                "most": self.most,
                "best": _as_arrays(self.best),
                "modules": [_as_arrays(module.state_dict()) for module in self._modules()],
                "moments": {
                    str(number): _as_arrays(moments)
                    for number, moments in self.optimizer.state_dict()["state"].items()
                },
                "codebooks": None if books is None else np.array(books),
                "history": list(self.report.history),
            },
        )

    def _resume(self, done: dict[str, Any]) -> tuple[int, int]:
        """Take over what was kept; return the epochs done, and those since the best."""
        _log.info("going on from the checkpoint %s", self.config.checkpoint)
        for module, arrays in zip(self._modules(), done["modules"], strict=True):
            module.load_state_dict(_as_tensors(arrays))
        state = {int(number): _as_tensors(moments) for number, moments in done["moments"].items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if done["codebooks"] is not None:
            self.quantizer.codebooks = done["codebooks"]
        self.best, self.most = _as_tensors(done["best"]), done["most"]
        self.report.history[:] = done["history"]
        return done["epochs"], done["since"]

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.network, self.objective, self.classifier


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Give torch's generators this seed for a while; afterwards they are as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _split(supervision: Supervision, part: float, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Draw the rows that are held out, if they can be judged, and return (learned from, held)."""
    count = min(int(supervision.n * part), _MOST_HELD)
    order = rng.permutation(supervision.n)
    if supervision.targets is None or count < _FEWEST_HELD:
        return np.sort(order), order[:0]
    return np.sort(order[count:]), np.sort(order[:count])


def _augmented(
    images: Tensor, targets: Tensor | None, mixes: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Change images (n, C, H, W) at random, and their targets where two are mixed."""
    height = images.shape[2]
    images = _augment.shifted(images, round(_SHIFT * height), generator)
    if mixes and targets is not None and torch.rand(1, generator=generator) < _MIXED:
        images, other, part = _augment.cut_mix(images, generator)
        return images, part * targets + (1 - part) * targets[other]
    return _augment.cut_out(images, round(_CUT * height), generator), targets


def _as_arrays(tensors: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.array(torch.as_tensor(t).cpu().numpy()) for name, t in tensors.items()}


def _as_tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
