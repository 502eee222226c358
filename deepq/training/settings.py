"""The settings of a training, and what its presets mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from deepq._common.checks import as_flag, as_integer, as_precision, as_real, as_share, as_size
from deepq._common.errors import InputError, KindError

PRESETS = ("default", "fast", "best")

_EPOCHS = 10  # passes over the rows, to learn a decoder
_MOST_VISITS = 2_000_000  # rows seen in them, where one pass is not more
_TRIES = 128  # words tried for a vector in all


class Plan(NamedTuple):
    """Size of a decoder, and how its words are chosen.

    Attributes
    ----------
    hidden, inside : int
        Numbers in the hidden layer, and inside its residual block.
    tried : int
        Nearest words of every sub-space to choose from while learning; 1 keeps to the nearest.
    candidates, sweeps : int
        The same for vectors that are stored, and how often around.
    visits : int
        Rows seen in learning.
    """

    hidden: int
    inside: int
    tried: int
    candidates: int
    sweeps: int
    visits: int


def plan(preset: str, d: int, M: int, rows: int, epochs: int | None) -> Plan:
    """Lay out the learning of a decoder for M words and vectors of d numbers, from some rows."""
    hidden, inside = 256 if d <= 256 else 128, 64
    visits = rows * (epochs or _EPOCHS)
    if epochs is None:
        visits = max(rows, min(visits, _MOST_VISITS))
    if preset == "fast":
        return Plan(hidden, inside, 1, 1, 1, visits)
    if preset == "best":
        return Plan(3 * hidden, 3 * inside, 2, 16, 3, visits if epochs else 3 * visits)
    tries = _TRIES // M
    candidates, sweeps = min(8, max(2, tries)), min(2, max(1, tries // 8))
    return Plan(2 * hidden, 2 * inside, 2, candidates, sweeps, visits)


_BATCH = 512


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training.

    Attributes
    ----------
    seed : int
        Seed of everything random; two trainings with one seed are equal.
    preset : str
        How much is spent on a decoder, where results are re-ranked. "fast": codes are those of the
        nearest codewords, so adding vectors stays fast. "default". "best": a larger decoder, three
        times the passes, and more tries for every vector that is added.
    epochs : int, optional
        Iterations over the training rows of each stage; None for the default of the stage
        (60 for a network, 50 for a rotation learned with codebooks, 25 for codebooks, 4 for their
        order, 10 for a decoder, or fewer where there are more than 200,000 rows).
    batch_size : int
        Rows in a step of learning a decoder or a network; about as many, for the latter. Where
        several workers share a training, those of all of them together.
    max_points : int, optional
        Most rows that all stages but the decoder and a network learn from, drawn without
        replacement; None for 100,000, or 64 per codeword where that is more. Those learn from all.
    max_seconds : float, optional
        After this time no new stage is begun, and the learning of a network or decoder comes to its
        end: their rates fall so that they are done by then. Codebooks are learned in any case.
    validation : float
        Share of the rows that nothing is learned from, at most 10,000 rows. They decide what is
        kept. 0 leaves out all stages that need them: plain product quantization after a rotation.
        Of a training with classes or tags it is at most 2,000 rows, which choose the best epoch by
        mAP; fewer than 50 are not held out, nor rows of pairs and search logs.
    ranking : bool
        Whether codewords and decoders are trained for the order of neighbours. False leaves them
        the means of their cells, which reconstruct with the least squared error.
    additive : bool
        Whether the codes of a re-ranked index may become additive, of up to 32 words, where that
        finds more: see `deepq.decoders.additive`. Vectors that plain faiss adds to such an index
        are stored worse than it would with a product quantizer; False keeps to that.
    device : str
        Where a decoder or network is learned: "auto" takes a GPU if there is one; or "cpu", "cuda",
        which "gpu" stands for, too.
    learning_rate : float, optional
        Highest rate of the steps of a network; None for 0.006.
    augment : bool
        Whether networks see images mirrored, moved and with squares cut out while they are trained.
    precision : str
        Kind of the numbers inside a network while it is trained: "float32", or "bfloat16", which
        takes half the time where the processor has it.
    patience : int, optional
        Epochs without a better validation mAP after which the training of a network ends; those
        that it is trained as a classifier first do not count.
    checkpoint : str or path, optional
        File (safetensors) that holds what has been reached, after every stage, every epoch of a
        network, and every minute of a decoder. A training with the same settings, rows and labels
        goes on from it.

    Raises
    ------
    InputError, KindError
        If a setting is out of range, or of the wrong kind.
    """

    seed: int = 1234
    preset: str = "default"
    epochs: int | None = None
    batch_size: int = _BATCH
    max_points: int | None = None
    max_seconds: float | None = None
    validation: float = 0.1
    ranking: bool = True
    additive: bool = True
    device: str = "auto"
    learning_rate: float | None = None
    augment: bool = True
    precision: str = "float32"
    patience: int | None = None
    checkpoint: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "max_points", "batch_size", "patience"):
            if getattr(self, name) is not None or name == "batch_size":
                object.__setattr__(self, name, as_size(getattr(self, name), name))
        object.__setattr__(self, "seed", as_integer(self.seed, "seed"))
        if self.seed < 0:
            raise InputError(f"expected seed of at least 0, got {self.seed}")
        if not (isinstance(self.preset, str) and self.preset in PRESETS):
            raise InputError(f"expected a preset of {', '.join(PRESETS)}, got {self.preset!r}")
        object.__setattr__(self, "validation", as_share(self.validation, "validation", 0.5))
        for name in ("max_seconds", "learning_rate"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_real(getattr(self, name), name))
                if getattr(self, name) < 0:
                    raise InputError(f"expected {name} of at least 0, got {getattr(self, name)}")
        for name in ("ranking", "additive", "augment"):
            object.__setattr__(self, name, as_flag(getattr(self, name), name))
        as_precision(self.precision)
        if not isinstance(self.device, str):
            raise KindError(f"expected device to be a str, got {type(self.device).__name__}")
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", os.fspath(self.checkpoint))
