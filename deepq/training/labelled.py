"""A training with labels: the network first, and then what comes after it, and the codebooks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deepq._common.errors import InputError
from deepq._common.types import Floats
from deepq.decoders.plain import AnyDecoder
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Identity
from deepq.encoders.network import NetworkEncoder
from deepq.labels.supervision import as_supervision, query_rows
from deepq.networks.devices import as_device, torch_seed
from deepq.objectives.base import Objective
from deepq.objectives.pairs import PairwiseCosine
from deepq.objectives.plain import objective_state
from deepq.quantizers.product import ProductQuantizer
from deepq.training.augment import augmented
from deepq.training.checkpoint import Checkpoint, training_key
from deepq.training.network import NetworkTraining
from deepq.training.peers import Peers
from deepq.training.rows import Inputs, Rows
from deepq.training.run import Run
from deepq.training.settings import TrainConfig
from deepq.training.stages import Stages

_QUICK = 5  # iterations of what is learned after Ctrl-C
_MOST_COPIES, _MOST_CHANGED = 3, 20_000  # of an image, and in all, that codebooks learn from


class Labelled:
    """A training with labels: first the network in an encoder, then what comes after it.

    Several workers share the batches of the network (`Peers`); the rest is learned by the first.

    Parameters
    ----------
    encoder : Encoder
        With exactly one network, which is trained in place.
    quantizer : ProductQuantizer
        Trained in place.
    x : (n, d_in) array
        Training vectors; they may be mapped from a file.
    y
        Labels: see `as_supervision`.
    objective : Objective, optional
        What the network minimises; None for `PairwiseCosine`.
    run : Run
        Settings, and where progress is told.
    decoder : bool
        Whether to learn a decoder.

    Raises
    ------
    InputError
        If there is not exactly one network, there are too few rows, or another worker has others.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantizer: ProductQuantizer,
        x: NDArray[Any],
        y: Any,
        objective: Objective | None,
        run: Run,
        *,
        decoder: bool,
    ) -> None:
        self.before, self.network, self.after = _around_network(encoder)
        supervision = as_supervision(y, len(x))
        quantizer.require_rows(len(x))
        self.objective = PairwiseCosine() if objective is None else objective
        self.quantizer, self.n, self.run, self.decoder = quantizer, len(x), run, decoder
        self.peers = Peers(as_device(run.config.device))
        key: dict[str, Any] = {}
        if run.config.checkpoint is not None or not self.peers.alone:
            key = training_key(encoder, quantizer, x, run.config, run.metric)
            key |= {"objective": _described(self.objective), "labels": supervision.digest()}
        followed = {name: value for name, value in key.items() if name != "encoder"}
        self.peers.require_same(followed, "rows, labels and settings")
        self.checkpoint = self.peers.first(lambda: Checkpoint(run.config.checkpoint, key))
        if not self.peers.is_first:
            self.checkpoint.path = None  # the first worker writes
            run.report.hide()
        before = Chain.of(self.before, encoder.d_in) if self.before else None
        self.inputs = Inputs(x, query_rows(supervision, encoder.d_in), before)
        self.supervision = supervision

    def learn(self) -> tuple[Encoder, bool]:
        """Return the encoder, and whether Ctrl-C ended the training.

        KeyboardInterrupt is raised if it comes in the first epoch, or twice.
        """
        with self.peers.together():
            interrupted, complete = self._train_network()
            rest = self.peers.first(lambda: self._rest(interrupted, complete))
        if not self.peers.is_first:
            self.run.report.history[:] = rest.history
            if not self.quantizer.is_frozen:
                self.quantizer.codebooks, self.quantizer.decoder = rest.codebooks, rest.decoder
        after = () if rest.last is None else rest.last.members
        return Chain.of((*self.before, self.network, *after), self.network.d_in), rest.interrupted

    def _rest(self, interrupted: bool, complete: bool) -> _Rest:
        """Learn what comes after the network, faster if Ctrl-C ended that."""
        config = self.run.config
        held = config.validation if self.decoder else 0.0
        plain = replace(config, ranking=False, validation=held)
        quick = replace(plain, epochs=_QUICK, validation=0.0)
        nothing = Checkpoint(None, {})
        ready = complete and not interrupted  # else no other training goes on from the rest
        try:
            last, again = self._learn_rest(
                quick if interrupted else plain, self.checkpoint if ready else nothing
            )
            interrupted |= again
        except KeyboardInterrupt:
            if interrupted:
                raise
            (last, _), interrupted = self._learn_rest(quick, nothing), True
        quantizer, history = self.quantizer, self.run.report.history
        return _Rest(last, interrupted, quantizer.codebooks, quantizer.decoder, history)

    def _train_network(self) -> tuple[bool, bool]:
        """Train the network; return whether Ctrl-C ended it, and whether it is complete."""
        with _learning(self.network):
            training = NetworkTraining(
                self.network,
                self.quantizer,
                self.inputs,
                self.supervision,
                self.objective,
                self.run,
                self.checkpoint,
                self._fresh_after(),
                self.peers,
            )
            return training.run(), training.complete

    def _fresh_after(self) -> Encoder | None:
        """Return a copy of what comes after the network, if anything does."""
        if not self.after:
            return None
        return copy.deepcopy(Chain.of(self.after, self.network.d_out))

    def _learn_rest(
        self, config: TrainConfig, checkpoint: Checkpoint
    ) -> tuple[Encoder | None, bool]:
        """Learn what comes after the network, and the codebooks, from all rows' embeddings."""
        last = self._fresh_after()
        if self.quantizer.is_frozen and not (last is not None and last.learns):
            return last, False
        z = self.inputs.embeddings(self.network, np.arange(self.n))
        if config.augment and len(self.network.input_shape) == 3:
            changed = _of_changed_images(self.inputs, self.network, self.n, self.objective, config)
            z = np.concatenate([z, changed])
        stages = Stages(
            Identity(self.network.d_out) if last is None else last,
            self.quantizer,
            Rows(z, self.network.d_out),
            self.run._replace(config=config, checkpoint=checkpoint),
        )
        interrupted = stages.run(decoder=self.decoder)
        return None if last is None else stages.encoder, interrupted


class _Rest(NamedTuple):
    """What was learned after the network, for other workers to take over."""

    last: Encoder | None
    interrupted: bool
    codebooks: Floats | None
    decoder: AnyDecoder | None
    history: list[dict[str, Any]]


def _around_network(
    encoder: Encoder,
) -> tuple[tuple[Encoder, ...], NetworkEncoder, tuple[Encoder, ...]]:
    """Return the network in an encoder, between what stands before and after it.

    Raises InputError where there is not exactly one network.
    """
    members = encoder.members
    networks = [(i, m) for i, m in enumerate(members) if isinstance(m, NetworkEncoder)]
    if len(networks) != 1:
        raise InputError(
            "expected an index with one network to train with labels, got "
            f"{len(networks)}: deepq.recipes.dqn(d, bits) makes one, for example"
        )
    place, network = networks[0]
    return members[:place], network, members[place + 1 :]


def _of_changed_images(
    inputs: Inputs, network: NetworkEncoder, n: int, objective: Objective, config: TrainConfig
) -> Floats:
    """Embeddings of training images that were changed as in the training.

    What will be stored was not trained on, and its embeddings are not as sure as those of images
    that were: codebooks should know others as well.
    """
    rng = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(torch_seed(config.seed))
    rows = rng.permutation(np.resize(np.arange(n), min(_MOST_COPIES * n, _MOST_CHANGED)))
    parts = []
    for some in np.array_split(rows, -(-len(rows) // config.batch_size)):
        images = network.images(torch.from_numpy(inputs.take(some)))
        images, _ = augmented(images, torch.zeros(len(some), 1), objective.mixes, generator)
        parts.append(network.of_images(images))
    return np.concatenate(parts)


def _described(objective: Objective) -> dict[str, Any]:
    """Name an objective and its settings; those of a foreign class are its plain attributes."""
    state = objective_state(objective)
    if state is not None:
        return state
    plain = {n: v for n, v in vars(objective).items() if isinstance(v, int | float | str)}
    return {"type": type(objective).__qualname__, **plain}


@contextmanager
def _learning(encoder: NetworkEncoder) -> Iterator[None]:
    """Take gradients in here, whatever torch's modes are; tensors that cannot are copied."""
    with torch.inference_mode(False), torch.enable_grad():
        if any(t.is_inference() for t in encoder.network.state_dict().values()):
            encoder.network = copy.deepcopy(encoder.network)
        yield
