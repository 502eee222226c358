"""Training a network with labels, epoch by epoch.

An epoch of the deep quantization network (Cao et al., AAAI 2016) has two halves. The codebooks are
fitted to the embeddings of all training rows, by a few steps of k-means from where they are, and
every row gets its codewords. Then the network takes steps of

    objective(z, labels) + quantization_weight * |z - codewords|^2,

the codewords constant. A network that starts from nothing is trained as a classifier first
(`Objective.warm_up`): the pairwise losses alone hardly begin to fall.

Several workers share every batch (`peers`): each sends its share of the rows through the network.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepq._common.errors import InputError
from deepq._common.types import Floats, Ids
from deepq.encoders.base import Encoder
from deepq.encoders.network import NetworkEncoder
from deepq.labels.supervision import Supervision
from deepq.networks.devices import as_device, computing, seeded, torch_seed
from deepq.networks.heads import DivideAndEncode
from deepq.objectives.base import Batch, Objective
from deepq.objectives.classes import Classification
from deepq.objectives.losses import quantization
from deepq.quantizers.product import ProductQuantizer
from deepq.training.augment import augmented
from deepq.training.checkpoint import Checkpoint
from deepq.training.held_out import HeldOut, Patience
from deepq.training.optimizers import Muon, grouped
from deepq.training.peers import Peers
from deepq.training.rows import Inputs, diverged
from deepq.training.run import Run
from deepq.training.schedule import one_cycle
from deepq.training.settings import TrainConfig
from deepq.training.whole_batch import of_whole_batches

EPOCHS = 60
LEARNING_RATE = 6e-3
WEIGHT_DECAY = 0.6

_REFRESH_ITERATIONS = 3  # of k-means in an epoch, from the codebooks there are
_SAMPLE = 5000  # rows that are looked at before the first epoch
_SAMPLE_NUMBERS = 1 << 27

_log = logging.getLogger("deepq.training")


class NetworkTraining:
    """Trains the network of an encoder in place, epoch by epoch.

    Parameters
    ----------
    encoder : NetworkEncoder
        Its network is trained.
    quantizer : ProductQuantizer
        Its codebooks are trained with it where the objective weighs quantization.
    inputs : Inputs
        Training rows.
    supervision : Supervision
        What is known of these rows.
    objective : Objective
        Copied before it is used.
    run : Run
        Settings, and where progress is told.
    checkpoint : Checkpoint
        Where it is kept.
    after : Encoder, optional
        What embeddings pass through before they are judged.
    peers : Peers, optional
        Workers that share the batches; None for those that there are.

    Raises
    ------
    InputError
        If there is nothing to train in the network, the objective needs classes and has none, or
        batches would be of one row.
    """

    def __init__(
        self,
        encoder: NetworkEncoder,
        quantizer: ProductQuantizer,
        inputs: Inputs,
        supervision: Supervision,
        objective: Objective,
        run: Run,
        checkpoint: Checkpoint,
        after: Encoder | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.encoder, self.quantizer, self.inputs, self.after = encoder, quantizer, inputs, after
        self.checkpoint, self.report, self.metric = checkpoint, run.report, run.metric
        self.config = config = run.config
        _check(encoder, supervision, objective, config)
        rng = np.random.default_rng(config.seed)
        before = encoder.seen if objective.keeps_classes and encoder.seen.get("classes") else {}
        if before:
            supervision = supervision.continuing(before["classes"])
        self.seen = self._look(supervision.columns, objective, before.get("seed", config.seed))
        self.held = HeldOut(supervision, config.validation, quantizer.least_rows, rng)
        self.rows, self.supervision = self.held.learned, self.held.supervision
        if not len(self.held) and config.patience is not None:
            _log.info("no rows are held out to judge by: patience has no effect")
        self.device = as_device(config.device)
        self.peers = Peers(self.device) if peers is None else peers
        self.network = encoder.network.to(self.device)
        self._prepare(rng)
        self.epochs = EPOCHS if config.epochs is None else config.epochs
        self.warm_up = round(objective.warm_up * self.epochs) if supervision.classes else 0
        self.objective, self.classifier = copy.deepcopy(objective), Classification()
        with seeded(before.get("seed", config.seed), self.device):
            self.objective.prepare(encoder.d_out, self.supervision)
            if self.warm_up:
                self.classifier.prepare(encoder.d_out, self.supervision)
        self.objective.to(self.device)
        self.classifier.to(self.device)
        self.peers.begin_alike(*self._modules())
        self.optimizer = self._make_optimizer()
        self.epoch, self.cut, self.best = 0, False, self._copy()
        self.patience = Patience(self.warm_up)

    @property
    def _sample_size(self) -> int:
        """How many rows are looked at before the first epoch, at most."""
        return max(1, min(_SAMPLE, _SAMPLE_NUMBERS // self.encoder.d_in))

    def _look(self, columns: Any, objective: Objective, seed: int) -> dict[str, Any]:
        """Return what the encoder is to remember of this training: see `NetworkEncoder.seen`."""
        n, most = len(self.inputs.x), self._sample_size
        rows = np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most))
        seen: dict[str, Any] = {"most": float(np.abs(self.inputs.take(rows)).max())}
        if objective.keeps_classes:
            seen |= {"classes": columns, "seed": seed}
        return seen

    def _prepare(self, rng: np.random.Generator) -> None:
        """Let the network look at some rows, if it wants to."""
        prepare = getattr(self.network, "prepare", None)
        if prepare is not None and not self.encoder.is_fitted:
            rows = rng.permutation(len(self.rows))[: self._sample_size]
            with torch.no_grad():
                prepare(self._images(np.sort(rows)).to(self.device))

    def _make_optimizer(self) -> Muon:
        """Make it for all that learns, at the rates that the network asks for."""
        named = [
            *self.network.named_parameters(),
            *self.objective.named_parameters("objective"),
            *self.classifier.named_parameters("classifier"),
        ]
        parts = {
            f"{name}.features.weight": module.d_out
            for name, module in self.network.named_modules()
            if isinstance(module, DivideAndEncode)  # a matrix for each bit, made orthogonal alone
        }
        return Muon(grouped(named, getattr(self.network, "rates", {}), WEIGHT_DECAY, parts))

    # ---- the loop ----------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all epochs are done whole, or as many as patience asks for."""
        patience = self.config.patience
        tired = patience is not None and self.patience.since >= patience
        return (self.epoch >= self.epochs or tired) and not self.cut

    def run(self) -> bool:
        """Train; return whether Ctrl-C ended it, with the best network until then in place.

        Raises KeyboardInterrupt if that came in the first epoch.
        """
        done = self.peers.first(lambda: self.checkpoint.get("network"))
        if done is not None:
            self._resume(done)
        self.report.begin("network", self.epochs)
        interrupted = False
        try:
            while not self.complete and self.peers.agree(self.report.elapsed) < 1:
                self._epoch()
        except KeyboardInterrupt:
            if not self.epoch:
                raise
            interrupted = True
        if not self.epoch:
            _log.warning("no time to train the network: it is taken as it is")
        elif self.epoch < self.epochs and self.complete:
            _log.info("no better mAP for %d epochs: the training ends", self.patience.since)
        self.network.load_state_dict(self.best)
        self.peers.begin_alike(self.network)  # their processors may round in other ways
        self.network.eval().to("cpu")
        self.encoder.settle()
        if self.epoch:
            self.encoder.seen = self.seen
        return interrupted

    def _epoch(self) -> None:
        """Go through all rows once, or until the time is over; judge, and keep the state."""
        warm = self.epoch < self.warm_up
        objective: Objective = self.classifier if warm else self.objective
        weight = 0.0 if warm else objective.quantization_weight
        if not warm:
            first = self.warm_up
            objective.begin_epoch(self.epoch - first, self.epochs - first, self._embeddings)
        decoded = self._refresh() if weight else None
        generator = torch.Generator().manual_seed(
            torch_seed(self.config.seed * 100_003 + self.epoch)
        )
        rng = np.random.default_rng([self.config.seed, self.epoch])
        batches = list(self._batches(objective, rng))
        self.network.train()
        losses = []
        with seeded(self.config.seed + self.epoch, self.device):  # for dropout
            for number, rows in enumerate(batches):
                elapsed = self.peers.agree(self.report.elapsed)
                if elapsed >= 1:
                    break
                progress = (self.epoch + (number + 1) / len(batches)) / self.epochs
                self._set_rate(min(1.0, max(progress, elapsed)))
                words = None if decoded is None else torch.from_numpy(decoded[rows])
                losses.append(self._step(rows, objective, weight, words, generator))
        self.network.eval()
        self.cut = len(losses) < len(batches)
        if losses:
            self._close(float(np.mean(losses)), weight > 0)
        if not self.cut:
            self._keep()

    def _batches(self, objective: Objective, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield the rows of the batches of an epoch as the objective wants them."""
        size, rows = self.config.batch_size, objective.rows_per_class
        if rows is None:
            return self.supervision.batches(size, rng)
        return self.supervision.class_batches(size, rng, rows)

    def _close(self, loss: float, quantized: bool) -> None:
        """End an epoch: judge the network, and copy it if it is the best until now."""
        entry: dict[str, Any] = {"stage": "network", "iteration": self.epoch, "loss": loss}
        if len(self.held):
            entry["mAP"] = self._judge(quantized)
        if self.patience.see(self.epoch, entry.get("mAP")):
            self.best = self._copy()
        self.report(entry)
        self.epoch += 1

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
        classes = supervision.targets(rows)
        targets = None if classes is None else torch.from_numpy(classes)
        images = self._images(rows)
        if self.config.augment and images.dim() == 4:
            images, targets = augmented(images, targets, objective.mixes, generator)
        if targets is not None:
            targets = targets.to(self.device)
        n = len(rows)
        share = images[self.peers.share(n)].to(self.device)
        with (
            of_whole_batches(self.network, self.peers, n),
            computing(self.device, self.config.precision),
        ):
            z = self.peers.whole(self.network(share).float(), n)
        numbers = torch.from_numpy(rows).to(self.device)
        loss = objective(z, Batch(numbers, similar, known, targets, supervision.several))
        if words is not None:
            loss = loss + weight * quantization(z, words.to(self.device))
        value = float(loss.detach())
        if not np.isfinite(value):
            raise InputError(diverged("a finite loss", f"{value} in epoch {self.epoch}"))
        self.optimizer.zero_grad()
        loss.backward()
        learned = (*self.objective.parameters(), *self.classifier.parameters())
        self.peers.add_gradients(self.network, learned)
        with computing(self.device, self.config.precision):
            self.optimizer.step()
        return value

    def _set_rate(self, progress: float) -> None:
        rate = self.config.learning_rate
        rate = LEARNING_RATE if rate is None else rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate"] * one_cycle(progress)

    def _images(self, rows: Ids) -> Tensor:
        return self.encoder.images(torch.from_numpy(self.inputs.take(self.rows[rows])))

    # ---- codebooks and judgement ---------------------------------------------------------------

    def _refresh(self) -> Floats:
        """Fit the codebooks to the embeddings; return the codewords (n, d_out) of every row."""
        z = self._embeddings()
        seed = self.config.seed + self.epoch
        self.quantizer.train(z, iterations=_REFRESH_ITERATIONS, seed=seed)
        return self.quantizer.gather(self.quantizer.assign(z))

    def _embeddings(self) -> Floats:
        """Embeddings (n, d_out) of the rows as the steps see them, of single images."""
        single = copy.copy(self.encoder)
        single.mirrored = False
        return self._embedded(single, self.rows)

    def _embedded(self, encoder: NetworkEncoder, rows: Ids) -> Floats:
        return self.peers.embeddings(lambda some: self.inputs.embeddings(encoder, some), rows)

    def _judge(self, quantized: bool) -> float:
        """Return the mAP of held-out rows, each a query among the others."""
        z = self._embedded(self.encoder, self.held.rows)
        base = self.quantizer.gather(self.quantizer.assign(z)) if quantized else z
        if self.after is not None and self.after.is_fitted:
            z, base = self.after.encode(z), self.after.encode(base)
        return self.peers.first(lambda: self.held.mAP(z, base, self.metric))

    # ---- going on ----------------------------------------------------------------------------

    def _copy(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.network.state_dict().items()}

    def _keep(self) -> None:
        """Keep everything that the next epoch follows from."""
        if self.config.checkpoint is None:
            return
        books = self.quantizer.codebooks
        moments = self.optimizer.state_dict()["state"]
        self.checkpoint.put(
            "network",
            {
                "epoch": self.epoch,
                "since": self.patience.since,
                "most": self.patience.most,
                "best": _as_arrays(self.best),
                "modules": [_as_arrays(module.state_dict()) for module in self._modules()],
                "moments": {str(number): _as_arrays(state) for number, state in moments.items()},
                "codebooks": None if books is None else np.array(books),
                "history": list(self.report.history),
            },
        )

    def _resume(self, done: dict[str, Any]) -> None:
        """Take over what was kept."""
        _log.info("going on from the checkpoint %s", self.config.checkpoint)
        for module, arrays in zip(self._modules(), done["modules"], strict=True):
            module.load_state_dict(_as_tensors(arrays))
        state = {int(number): _as_tensors(moments) for number, moments in done["moments"].items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if done["codebooks"] is not None:
            self.quantizer.codebooks = done["codebooks"]
        self.best, self.epoch = _as_tensors(done["best"]), done["epoch"]
        self.patience.most, self.patience.since = done["most"], done["since"]
        self.report.history[:] = done["history"]

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.network, self.objective, self.classifier


def _check(
    encoder: NetworkEncoder, supervision: Supervision, objective: Objective, config: TrainConfig
) -> None:
    """Refuse what cannot be trained."""
    if not any(p.requires_grad for p in encoder.network.parameters()):
        raise InputError("expected a network with parameters to train, got none")
    if objective.needs_classes and not supervision.classes:
        kinds = f"{type(objective).__name__}, got {type(supervision).__name__}"
        raise InputError(f"expected labels of classes, or tags, for the objective {kinds}")
    if config.batch_size < 2:
        raise InputError("expected a batch_size of at least 2 to train a network with, got 1")


def _as_arrays(state: dict[str, Any]) -> dict[str, Any]:
    """Tensors as arrays; other values, an optimizer's counts, as they are."""
    return {
        name: np.array(value.cpu().numpy()) if isinstance(value, Tensor) else value
        for name, value in state.items()
    }


def _as_tensors(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
