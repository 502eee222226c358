"""A training with labels: the network first, and then what comes after it, and the codebooks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepq._common.errors import InputError
from deepq._common.types import Floats
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Identity
from deepq.encoders.network import NetworkEncoder
from deepq.labels.supervision import as_supervision, query_rows
from deepq.networks.devices import torch_seed
from deepq.objectives.base import Objective
from deepq.objectives.pairs import PairwiseCosine
from deepq.objectives.plain import objective_state
from deepq.quantizers.product import ProductQuantizer
from deepq.training.augment import augmented
from deepq.training.checkpoint import Checkpoint, training_key
from deepq.training.network import NetworkTraining
from deepq.training.progress import Report
from deepq.training.rows import Inputs, Rows
from deepq.training.settings import TrainConfig
from deepq.training.stages import Stages

_QUICK = 5  # iterations of what is learned after Ctrl-C
_MOST_COPIES, _MOST_CHANGED = 3, 20_000  # of an image, and in all, that codebooks learn from


def learn_from_labels(
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

    Returns the encoder, and whether Ctrl-C ended the training. That is raised if it comes in the
    first epoch, or twice.
    """
    before, network, after = _parts(encoder)
    supervision = as_supervision(y, len(x))
    if len(x) < quantizer.least_rows:
        least = quantizer.least_rows
        raise InputError(f"expected at least {least} training vectors, got {len(x)}")
    objective = PairwiseCosine() if objective is None else objective
    key = training_key(encoder, quantizer, x, config, metric)
    if key:
        key |= {"objective": _described(objective), "labels": supervision.digest()}
    checkpoint = Checkpoint(config.checkpoint, key)
    inputs = Inputs(x, query_rows(supervision, encoder.d_in), before)
    with _learning(network):
        training = NetworkTraining(
            *(network, quantizer, inputs, supervision, objective),
            *(config, metric, report, checkpoint, after),
        )
        interrupted = training.run()

    def finish(config: TrainConfig, checkpoint: Checkpoint) -> tuple[Encoder, bool]:
        """Learn the rest, if there is any, from the embeddings of all training vectors."""
        last = Identity(network.d_out) if after is None else copy.deepcopy(after)
        if quantizer.is_frozen and not last.learns:
            return last, False
        z = inputs.embeddings(network, np.arange(len(x)))
        if config.augment and len(network.input_shape) == 3:
            z = np.concatenate([z, _of_changed_images(inputs, network, len(x), objective, config)])
        rows = Rows(z, network.d_out)
        stages = Stages(last, quantizer, rows, config, metric, report, checkpoint)
        interrupted = stages.run(decoder=decoder)
        return stages.encoder, interrupted

    nothing = Checkpoint(None, {})
    plain = replace(config, ranking=False, validation=config.validation if decoder else 0.0)
    quick = replace(plain, epochs=_QUICK, validation=0.0)
    ready = training.complete and not interrupted  # else no other training goes on from the rest
    try:
        last, again = finish(quick if interrupted else plain, checkpoint if ready else nothing)
        interrupted |= again
    except KeyboardInterrupt:
        if interrupted:
            raise
        (last, _), interrupted = finish(quick, nothing), True
    members = [part for part in (before, network, after and last) if part is not None]
    return (Chain(members) if len(members) > 1 else network), interrupted


def _parts(encoder: Encoder) -> tuple[Encoder | None, NetworkEncoder, Encoder | None]:
    """Return the network in an encoder, and what stands before and after it.

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
    return _chained(members[:place]), network, _chained(members[place + 1 :])


def _chained(members: tuple[Encoder, ...]) -> Encoder | None:
    return None if not members else members[0] if len(members) == 1 else Chain(members)


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
