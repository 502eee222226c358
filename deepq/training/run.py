"""What all stages of one training share."""

from __future__ import annotations

from typing import NamedTuple

from deepq.training.checkpoint import Checkpoint
from deepq.training.progress import Report
from deepq.training.settings import TrainConfig


class Run(NamedTuple):
    """One training.

    Attributes
    ----------
    config : TrainConfig
        Settings.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT: what neighbours are ranked by.
    report : Report
        Where progress is told.
    checkpoint : Checkpoint, optional
        Where it is kept; None until it is known what the training follows from.
    """

    config: TrainConfig
    metric: int
    report: Report
    checkpoint: Checkpoint | None = None
