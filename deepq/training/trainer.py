"""The training.

A training has stages, and each later one must show, on rows held out of all learning, that it pays:

1. *rotation* and *codebooks*: the encoder and k-means, for the least squared error;
2. *start*, where results will be re-ranked: the errors that count for a decoder, and *axes*, a
   rotation that is learned for them (`stretching`);
3. *order*: codewords that rank better (`ranking`);
4. *decoder*, in the same case: a network that reads whole codes, and codes chosen under it
   (`decoding`), then the order of tables for these codes;
5. *additive*, in the same case: codes whose codewords add up (`additive`), in place of all that.

With labels the network in the encoder is trained first (`network`). Then the stages work
on its embeddings, without the one for the order of neighbours: labels say what ranks well. Or a
`KernelHash` learns first, and then come all stages.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from deepq._common.errors import InputError
from deepq._common.extras import need_torch
from deepq._common.types import METRIC_L2
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.labels.supervision import as_supervision, query_rows
from deepq.quantizers.product import ProductQuantizer
from deepq.training.cells import Cells
from deepq.training.progress import Report
from deepq.training.rows import Inputs, Rows
from deepq.training.run import Run
from deepq.training.settings import TrainConfig
from deepq.training.stages import Stages
from deepq.training.unseen import Unseen

if TYPE_CHECKING:
    from deepq.objectives.base import Objective

HELD_OUT = "held out"  # the stage of an entry of what codes lose of rows held out

_log = logging.getLogger("deepq.training")


class Outcome(NamedTuple):
    """What came of a training.

    Attributes
    ----------
    encoder : Encoder
        Fitted: the one that was given, or its like from a checkpoint.
    history : list of dict
        Entries with "stage", "iteration" in the stage, and its measures: "error", the mean squared
        distance of an embedding to its reconstruction, in the stage "axes" of a stretched one;
        "loss"; "recall" and "mAP", 10-recall@10 and mean average precision of the held-out rows. An
        index adds one of the stage "held out", with the numbers of `Unseen` and its `fingerprint`,
        which `evaluation.diagnose` compares.
    interrupted : bool
        Whether Ctrl-C ended it after the first stage, or a network's first epoch, with the best
        until then.
    unseen : Unseen or None
        What codes lose of rows that nothing was learned from, but cells; None where there were
        none, or labels.
    """

    encoder: Encoder
    history: list[dict[str, Any]]
    interrupted: bool
    unseen: Unseen | None = None


def fit(
    encoder: Encoder,
    quantizer: ProductQuantizer,
    x: Any,
    config: TrainConfig,
    *,
    y: Any = None,
    objective: Objective | None = None,
    metric: int = METRIC_L2,
    decoder: bool = False,
    verbose: bool = False,
    cells: Cells | None = None,
) -> Outcome:
    """Train `encoder` and `quantizer`, in place and from the beginning.

    Parameters
    ----------
    encoder : Encoder
        Fitted in place.
    quantizer : ProductQuantizer
        Trained in place; codebooks it has are forgotten, unless they are frozen.
    x : (n, d_in) array, or callable
        Training vectors, at least the quantizer's `least_rows`: see `Rows`.
    config : TrainConfig
        Settings.
    y : (n,) int, (n, c) bool, Pairs or Positives, optional
        Labels, to train the network in the encoder by.
    objective : Objective, optional
        What the network minimises.
    metric : int
        METRIC_L2 or METRIC_INNER_PRODUCT: what neighbours are ranked by.
    decoder : bool
        Whether to learn a decoder.
    verbose : bool
        Whether to show progress bars on stderr.
    cells : Cells, optional
        Of a training without labels, the cells that vectors lie in: then all is learned from what
        they have besides the centres, also `encoder`, which comes after the cells' own.

    Raises
    ------
    InputError
        If there are too few rows, NaN or infinity among them, a checkpoint of another training,
        nothing to learn from the labels, a loss that is not finite, or frozen codebooks for an
        encoder that learns some.
    KeyboardInterrupt
        If Ctrl-C came in the first stage, or a network's first epoch, before there was anything to
        keep.
    """
    if quantizer.is_frozen and encoder.learns_codebooks:
        raise InputError(
            f"expected an encoder that learns no codebooks for a {type(quantizer).__name__}, "
            f"got {type(encoder).__name__}"
        )
    if decoder:
        need_torch("learn a decoder, for rerank above 0")
        from deepq.networks.devices import as_device

        as_device(config.device)
    quantizer.codebooks = None
    unseen = None
    with Report(verbose, config.max_seconds) as report:
        run = Run(config, metric, report)
        labels = y
        if y is not None and _fit_labels(encoder, x, y, run):
            y = None
        if y is None:
            first = encoder if cells is None else cells.before
            rows = Rows(x, first.d_in, first.input_shape)
            stages = Stages(encoder, quantizer, rows, run, cells)
            interrupted = stages.run(decoder=decoder, additive=decoder and labels is cells is None)
            encoder = stages.encoder
            unseen = stages.unseen() if labels is None else None
        else:
            need_torch("train a network with labels")
            from deepq.training.labelled import Labelled  # torch, which takes seconds to import

            labelled = Labelled(encoder, quantizer, x, y, objective, run, decoder=decoder)
            encoder, interrupted = labelled.learn()
        if interrupted:
            _log.warning("interrupted: the training keeps the best so far")
    return Outcome(encoder, report.history, interrupted, unseen)


def _fit_labels(encoder: Encoder, x: Any, y: Any, run: Run) -> bool:
    """Let the member of an encoder that learns from labels at once do so, if there is one."""
    members = encoder.members
    place = next((i for i, m in enumerate(members) if m.learns_from == "labels"), None)
    if place is None:
        return False
    learner: Any = members[place]
    before = Chain.of(members[:place], encoder.d_in)
    before.settle()
    supervision = as_supervision(y, len(x))
    queries = query_rows(supervision, encoder.d_in)
    n = len(x) + (0 if queries is None else len(queries))
    z = Inputs(x, queries).embeddings(before, np.arange(n))
    run.report.begin("codes", learner.d_out)
    learner.fit_labels(z, supervision, seed=run.config.seed, progress=run.report)
    return True
