"""The stages of a training without labels, each later one judged by rows held out of all learning.

See `trainer` for what they are.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from deepq._common.types import METRIC_INNER_PRODUCT, Floats, Ids, InCells
from deepq.encoders.base import Encoder, embed
from deepq.encoders.chain import with_spread
from deepq.encoders.plain import encoder_state, make_encoder, with_network
from deepq.encoders.rotation import Rotation
from deepq.quantizers.judging import Judge, Neighbours, pays
from deepq.quantizers.numbering import numbered
from deepq.quantizers.product import ProductQuantizer
from deepq.training import additive, fitting, ranking, stretching
from deepq.training.cells import Cells
from deepq.training.checkpoint import Checkpoint, training_key
from deepq.training.embedded import MOST_CHOSEN, Embedded, Places
from deepq.training.rows import Rows
from deepq.training.run import Run
from deepq.training.settings import Plan, plan
from deepq.training.structure import warn
from deepq.training.unseen import Unseen, draw

DEFAULT_EPOCHS = 25
_EPOCHS_AFTER = 5  # where the encoder has learned codebooks, too
DEFAULT_MAX_POINTS = 100_000
_MOST_PER_CODEWORD = 64
_STEPS_PER_ENTRY = 50
_SECONDS_PER_CHECKPOINT = 60.0

_log = logging.getLogger("deepq.training")


class Stages:
    """Each stage leaves encoder and quantizer usable, or raises before it begins.

    With `cells`, all is learned from the residuals of vectors, and judged by searches in cells.
    """

    def __init__(
        self,
        encoder: Encoder,
        quantizer: ProductQuantizer,
        rows: Rows,
        run: Run,
        cells: Cells | None = None,
    ) -> None:
        self.encoder, self.quantizer, self.rows, self.cells = encoder, quantizer, rows, cells
        config, metric, self.report, checkpoint = run
        self.config, self.metric = config, metric
        rng = np.random.default_rng(config.seed)
        ksub = quantizer.ksub
        most = config.max_points or max(DEFAULT_MAX_POINTS, _MOST_PER_CODEWORD * ksub)
        positions, x = rows.sample(most, rng)
        quantizer.require_rows(len(x))
        if not quantizer.is_frozen:
            warn(x, ksub, config.seed)
        held = draw(len(x), config.validation, quantizer, rng)
        x, own = self._split(x)
        self.held_positions, self.held, self.held_own = positions[held], x[held], own[held]
        self.x, self.own = np.delete(x, held, axis=0), np.delete(own, held)
        if checkpoint is None:
            keeps = config.checkpoint is not None
            key = training_key(encoder, quantizer, x, config, metric) if keeps else {}
            checkpoint = Checkpoint(config.checkpoint, key)
        self.checkpoint = checkpoint
        self.stretch: Floats | None = None

    def _split(self, x: Floats) -> tuple[Floats, Ids]:
        """Return what is learned from, of vectors (n, d): themselves, or residuals; and cells."""
        return (x, np.zeros(len(x), np.int64)) if self.cells is None else self.cells.split(x)

    # ---- stages ------------------------------------------------------------------------------

    def run(self, *, decoder: bool, additive: bool = False) -> bool:
        """Go through the stages; return whether Ctrl-C ended them after the first.

        With `additive` codes may become additive, which makes embeddings wide.
        """
        self.learn_codebooks()
        try:
            self.move_cells()
            if decoder:
                self.find_start()
            self.learn_order("order" if decoder else "order, no decoder")
            if decoder:
                self.learn_decoder()
            if additive:
                self.learn_additive()
        except KeyboardInterrupt:
            return True
        return False

    def learn_codebooks(self) -> None:
        """Fit the encoder and the codebooks, for the least squared error."""
        config, quantizer = self.config, self.quantizer
        if quantizer.is_frozen and not self.encoder.learns:
            return
        done = self.checkpoint.get("codebooks")
        if done is None:
            self.encoder.unlabelled()
            self.encoder.fit(
                self.x, quantizer, iterations=config.epochs, seed=config.seed, progress=self.report
            )
            epochs = _EPOCHS_AFTER if self.encoder.learns_codebooks else DEFAULT_EPOCHS
            epochs = epochs if config.epochs is None else config.epochs
            z = embed(self.encoder, self.x)
            quantizer.train(z, iterations=epochs, seed=config.seed, progress=self.report)
            if config.checkpoint is not None:  # without one, the encoder needs no state
                self._keep(
                    "codebooks", encoder=encoder_state(self.encoder), codebooks=quantizer.trained()
                )
        else:
            self._resume(done)
            self.encoder, quantizer.codebooks = (
                make_encoder(with_network(done["encoder"], self.encoder)),
                done["codebooks"],
            )
            z = embed(self.encoder, self.x)
        if not quantizer.is_frozen:
            quantizer.codebooks = numbered(quantizer.trained())
        self.sites = quantizer.trained()
        del self.x  # not needed any more, and as large as all that follows
        held = embed(self.encoder, self.held) if len(self.held) else z[:0]
        cells = self.cells
        places = None if cells is None else self._places(cells, self.own, self.held_own)
        self.embedded = Embedded(z, held, self.metric, config.seed, places)

    def _places(self, cells: Cells, own: Ids, held: Ids) -> Places:
        """Where rows lie that are in some cells (n,), and held-out ones in others (m,)."""

        def nearest(z: Floats, count: int) -> Ids:
            return cells.nearest(self.encoder.decode(z), count)

        return Places(embed(self.encoder, cells.centres), own, held, nearest)

    def move_cells(self) -> None:
        """Let centres and codewords move by turns, and keep that if the error gets less."""
        cells, quantizer, config = self.cells, self.quantizer, self.config
        if cells is None or not cells.can_move or not self._goes_on("cells and codebooks"):
            return
        rows = self.embedded
        places: Any = rows.places  # there are some, as there are cells
        done = self.checkpoint.get("cells and codebooks")
        whole = rows.z + places.centres[places.own]
        held = rows.held + places.centres[places.held]
        if done is None:
            moved = cells.by_turns(self.encoder, quantizer, whole, held, config.seed, self.report)
            self._keep("cells and codebooks", moved=moved)
        else:
            self._resume(done)
            moved = done["moved"]
        if moved is None:
            _log.info("cells stay where they are: to move them brings held-out rows no less error")
            return
        books, quantizer.codebooks = moved
        self.sites = quantizer.trained()
        cells.move(books)
        own, held_own = (
            cells.nearest(self.encoder.decode(part), 1)[:, 0] for part in (whole, held)
        )
        places = self._places(cells, own, held_own)
        z, held = whole - places.centres[own], held - places.centres[held_own]
        self.embedded = Embedded(z, held, self.metric, config.seed, places)

    def find_start(self) -> None:
        """Find where a decoder starts from: sites, the errors that count, and along which axes."""
        if not (self.config.ranking and self._goes_on("start")):
            return
        done, rows = self.checkpoint.get("start"), self.embedded
        if done is None:
            done, rows = self._found()
            if self.report.elapsed < 1:  # else there may have been no time for axes
                self._keep("start", **done)
        else:
            self._resume(done)
            rows = rows if done["axes"] is None else rows.turned(done["axes"])
        if done["axes"] is not None:
            rotation: Any = self.encoder.members[-1]
            rotation.turn(done["axes"])
            self.embedded, self.quantizer.codebooks = rows, done["codebooks"]
        self.sites, self.stretch = done["sites"], done["stretch"]

    def _found(self) -> tuple[dict[str, Any], Embedded]:
        """Find a start, maybe along other axes (d, d) with codebooks for them, and rows there.

        Axes are learned for stretched vectors, and taken if nearest words find more along them.
        """
        quantizer, rows, config = self.quantizer, self.embedded, self.config
        start = stretching.start_of(quantizer, rows, config.seed)
        there: dict[str, Any] = {"axes": None, "codebooks": None}
        turns = self.cells is None and isinstance(self.encoder.members[-1], Rotation)
        if start.stretch is not None and turns and self._goes_on("axes"):
            turned = stretching.along_learned_axes(
                quantizer, start.stretch, rows, config.epochs, config.seed, self.report
            )
            if turned.finds_more_than(start):
                start, rows = turned.start, turned.rows
                there = {"axes": turned.axes, "codebooks": turned.codebooks}
        return {"sites": start.sites, "stretch": start.stretch, **there}, rows

    def learn_order(self, kept_as: str) -> None:
        """Move the codewords so that they rank better.

        A start of a decoder may have turned the axes, so an order without one is kept apart.
        """
        if not (self.config.ranking and self._goes_on("order")):
            return
        done = self.checkpoint.get(kept_as)
        if done is None:
            start = self.quantizer.trained()
            self._rank(self.quantizer, self.embedded.known(), self.embedded.among_few)
            if self.cells is not None and not self._pays_apart(start):
                self.quantizer.codebooks = start
            self._keep(kept_as, codebooks=self.quantizer.trained())
        else:
            self._resume(done)
            self.quantizer.codebooks = done["codebooks"]

    def _pays_apart(self, start: Floats) -> bool:
        """Whether the codewords rank held-out rows alone better than others did, too.

        Among rows that they were learned from they look too good in cells.
        """
        judge, trial = self.embedded.apart, self.quantizer.fresh()
        trial.codebooks = start
        return pays(judge.by_tables(self.quantizer), judge.by_tables(trial))

    def learn_decoder(self) -> None:
        """Learn a decoder and codes for it, and keep them if their re-ranked results are better."""
        if not self._goes_on("decoder"):
            return
        from deepq.training.decoding import Learner  # torch, which takes seconds to import

        config, quantizer, rows = self.config, self.quantizer, self.embedded
        learner = Learner(
            self.sites,
            quantizer.trained(),
            rows.z,
            self._plan(),
            config.seed,
            config.device,
            None if rows.places is None else rows.places.centres,
            self.stretch,
        )
        interrupted = self._run(learner)
        trial = quantizer.fresh()
        trial.codebooks, trial.decoder = quantizer.trained(), learner.result()
        if config.ranking and not interrupted:
            known = rows.known(MOST_CHOSEN)
            if self.cells is not None or self.stretch is not None:
                self._follow(trial, known)
            self._rank(trial, known, rows.among)
            fitting.draw(trial, self.metric, rows.among, rows.apart)
            if self.cells is None:
                fitting.spare(trial, rows.among)
        if fitting.is_worth(trial, quantizer, rows, self.report):
            quantizer.take(trial)
        if interrupted:
            raise KeyboardInterrupt

    def learn_additive(self) -> None:
        """Learn additive codes, and keep them if they find more than all that there was before."""
        quantizer, config, rows = self.quantizer, self.config, self.embedded
        may_be = fitting.may_be_additive(quantizer, rows.z.shape[1], config)
        if not may_be or not self._goes_on("additive"):
            return
        centre = np.zeros(rows.z.shape[1], np.float32)
        if self.metric != METRIC_INNER_PRODUCT:
            centre = rows.z.mean(axis=0, dtype=np.float64).astype(np.float32)
        done = self.checkpoint.get("additive")
        if done is None:
            decoder = additive.learn_additive(
                rows.z,
                centre,
                quantizer.M,
                quantizer.ksub,
                rounds=config.epochs or additive.ROUNDS,
                seed=config.seed,
                num_threads=quantizer.num_threads,
                progress=self.report,
                goes_on=lambda early: fitting.is_hopeful(early, quantizer, self.metric, rows),
            )
            if decoder is None:
                return
            self._keep("additive", tables=decoder.arrays["tables"])
        else:
            self._resume(done)
            decoder = additive.decoder_of(done["tables"], centre)
        trial = quantizer.fresh()
        fitting.fit_tables(trial, decoder, rows.first, self.metric, rows.among)
        fitting.spare(trial, rows.among)
        if fitting.is_worth(trial, quantizer, rows, self.report):
            quantizer.take(trial)
            self.encoder = with_spread(self.encoder, decoder)

    def unseen(self) -> Unseen | None:
        """Measure what codes lose of the held-out rows, if there are any."""
        if not len(self.held):
            return None
        rows = self.embedded
        known = None if rows.places is None else InCells(rows.places.centres, rows.places.held)
        return Unseen.of(self.quantizer, rows.held, known)

    def _follow(self, quantizer: ProductQuantizer, known: Neighbours) -> None:
        """Move the codewords to the means of the vectors that the decoder chooses them for."""
        words = quantizer.choose(known.coded, known.cells)
        quantizer.update(known.coded, words, np.random.default_rng(self.config.seed))

    def _plan(self) -> Plan:
        config, count = self.config, self.rows.count - len(self.held)
        d = self.embedded.z.shape[1]
        return plan(config.preset, d, self.quantizer.M, count, config.epochs)

    def _run(self, learner: Any) -> bool:
        """Go through the batches; return whether Ctrl-C ended it."""
        size = min(self.config.batch_size, self.rows.count - len(self.held))
        steps = max(1, learner.plan.visits // size)
        done = self.checkpoint.get("learner")
        if done is not None:
            self._resume(done)
            learner.load(done["state"])
        first = 0 if done is None else done["step"]
        batches = self.rows.batches(size, self.held_positions, self.config.seed)
        self.report.begin("decoder", steps)
        kept, errors = time.monotonic(), []
        try:
            for step, x in zip(range(steps), batches, strict=False):
                if step < first:
                    continue
                progress = max((step + 1) / steps, self.report.elapsed)
                x, own = self._split(x)
                known = () if self.cells is None else (own,)
                errors.append(learner.step(embed(self.encoder, x), min(1.0, progress), *known))
                if len(errors) == _STEPS_PER_ENTRY or step + 1 == steps:
                    entry = {"stage": "decoder", "iteration": step, "error": float(np.mean(errors))}
                    self.report(entry)
                    errors.clear()
                if progress >= 1:
                    break
                if time.monotonic() - kept > _SECONDS_PER_CHECKPOINT:
                    self._keep("learner", step=step + 1, state=learner.state())
                    kept = time.monotonic()
        except KeyboardInterrupt:
            return True
        return False

    def _rank(self, quantizer: ProductQuantizer, known: Neighbours, judge: Judge) -> None:
        """Learn codewords that rank better, from some rows and their neighbours."""
        config = self.config
        epochs = ranking.EPOCHS if config.epochs is None else config.epochs
        moved = ranking.learn_order(
            quantizer, known, judge, epochs=epochs, seed=config.seed, progress=self.report
        )
        if not moved:
            _log.info("codewords stay the means of their cells: nothing else ranks better")

    # ---- going on ----------------------------------------------------------------------------

    def _goes_on(self, stage: str) -> bool:
        """Whether there are rows to judge a stage by, and time for it."""
        if self.report.elapsed >= 1:
            _log.info("no time left for the stage %r", stage)
        return len(self.held) > 0 and self.report.elapsed < 1

    def _keep(self, stage: str, **state: Any) -> None:
        self.checkpoint.put(stage, {**state, "history": list(self.report.history)})

    def _resume(self, done: dict[str, Any]) -> None:
        _log.info("going on from the checkpoint %s", self.config.checkpoint)
        self.report.history[:] = done["history"]
