"""Objective with a sparse code of several levels for each class: for hash tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from deepq._common.checks import as_size, as_weight
from deepq._common.errors import DimensionError, InputError
from deepq._common.types import Floats
from deepq.labels.compound_codes import compound_codes
from deepq.labels.supervision import Supervision
from deepq.objectives.base import Objective, as_rows_per_class
from deepq.objectives.losses import cross_entropy, n_pair, squared_length, triplet

_CLASSES = 64  # of a batch in the paper, which `crowding` is meant for


class CompoundCodes(Objective):
    """Buckets of a hash table for classes, and a network whose scores lead to them.

    Jeong, Kim & Song, "End-to-end efficient representation learning via cascading combinatorial
    optimization", CVPR 2019; with one level Jeong & Song, "Efficient end-to-end learning for
    quantizable representations", ICML 2018. An embedding has `width` scores for the words of each
    level. Classes get words by their mean scores (`labels.compound_codes`), and classes with the
    same words count as one. On each level two rows are compared by the words that either has: by
    the other numbers they may be alike or not.

    Parameters
    ----------
    levels, width : int
        There are width**levels buckets.
    sparsity : int
        Words of a class on the last level, and so buckets of a row.
    loss : "softmax", "npair" or "triplet"
        `cross_entropy` of the buckets of all classes, each with the sum of its words' scores, which
        is ours; `n_pair` of inner products, or `triplet` of L1 distances of scores of unit length,
        level by level.
    regularization : float
        For "npair", weight of half the mean squared length of a level's scores.
    margin : float
        For "triplet".
    crowding : float
        Cost of two classes with one word in common, of 64 classes. Of more it is less by as much.
        With "softmax" it has to be so large that all words have as many: classes with one bucket
        are not told apart, and there would be ever more of them.
    codes : "epoch" or "batch"
        When classes get their words: at the beginning of an epoch, from all rows, which is ours; or
        in every batch, of its classes from its rows, as in the papers.
    rows_per_class : int, optional
        See `Objective`.
    """

    needs_classes = True
    codes_of_classes: Tensor

    def __init__(
        self,
        levels: int = 2,
        width: int = 32,
        sparsity: int = 1,
        loss: str = "softmax",
        regularization: float = 0.03,
        margin: float = 0.5,
        crowding: float = 1000.0,
        codes: str = "epoch",
        rows_per_class: int | None = 2,
        quantization_weight: float = 0.0,
        warm_up: float = 0.0,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.levels, self.width = as_size(levels, "levels"), as_size(width, "width")
        self.sparsity = as_size(sparsity, "sparsity")
        if self.sparsity > self.width:
            raise InputError(f"expected sparsity of at most {width} words, got {sparsity}")
        if loss not in ("npair", "triplet", "softmax"):
            raise InputError(f"expected a loss npair, triplet or softmax, got {loss!r}")
        if codes not in ("epoch", "batch"):
            raise InputError(f"expected codes each epoch or batch, got {codes!r}")
        self.loss, self.codes = loss, codes
        self.regularization = as_weight(regularization, "regularization")
        self.margin, self.crowding = as_weight(margin, "margin"), as_weight(crowding, "crowding")
        self.rows_per_class = as_rows_per_class(rows_per_class)

    def prepare(self, d: int, supervision: Supervision) -> None:
        if d != self.levels * self.width:
            raise DimensionError(
                f"expected embeddings of {self.levels} x {self.width} scores, got {d}"
            )
        if supervision.several:
            raise InputError("expected labels of one class a row for CompoundCodes, got tags")
        shape = supervision.classes, self.levels, self.width
        self.register_buffer("codes_of_classes", torch.zeros(shape))
        self._distinct: tuple[Tensor, Tensor] | None = None  # different codes, and a class's number
        targets = supervision.targets(np.arange(supervision.n))
        self._classes = np.zeros(0, np.int64) if targets is None else targets.argmax(axis=1)

    def begin_epoch(
        self,
        epoch: int,  # noqa: ARG002
        epochs: int,  # noqa: ARG002
        embeddings: Callable[[], Floats],
    ) -> None:
        if self.codes == "epoch":
            scores = self._levels(torch.from_numpy(embeddings()))
            self._assign(scores, torch.from_numpy(self._classes))

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        classes = batch.targets.argmax(1)
        scores = self._levels(z)
        if self.codes == "batch":
            self._assign(scores.detach(), classes)
        if self.loss == "softmax":
            return self._softmax(scores, classes)
        h = self.codes_of_classes[classes]
        parts = [self._compare(scores[:, at], h[:, at], batch.known) for at in range(self.levels)]
        return torch.stack(parts).sum()

    def _levels(self, z: Tensor) -> Tensor:
        """Scores (n, levels, width), of unit length on a level where the loss wants that."""
        scores = z.reshape(len(z), self.levels, self.width)
        return normalize(scores, dim=2) if self.loss == "triplet" else scores

    def _assign(self, scores: Tensor, classes: Tensor) -> None:
        """Give the classes (n,) of rows new words by their mean scores (n, levels, width)."""
        codes = self.codes_of_classes
        sums = torch.zeros_like(codes, device=scores.device)
        sums.index_add_(0, classes, scores.float())
        counts = torch.bincount(classes, minlength=len(codes))
        present = counts.nonzero().flatten()
        means = (sums[present] / counts[present, None, None]).double().cpu().numpy()
        crowding = self.crowding * min(1.0, _CLASSES / max(1, len(means)))
        found = compound_codes(means, self.sparsity, crowding)
        codes[present.to(codes.device)] = torch.from_numpy(found).to(codes)
        self._distinct = None

    def _softmax(self, scores: Tensor, classes: Tensor) -> Tensor:
        """Cross-entropy of the buckets of classes, whose scores are the sums of their words'."""
        if self._distinct is None:
            codes, number = torch.unique(self.codes_of_classes, dim=0, return_inverse=True)
            has_words = codes.any(2).all(1)  # classes that no batch has had so far have none
            number = (has_words.cumsum(0) - 1)[number]
            self._distinct = codes[has_words] / codes[has_words].sum(2, keepdim=True), number
        shares, number = self._distinct
        right = torch.eye(len(shares), device=scores.device)[number[classes]]
        return cross_entropy(scores.flatten(1) @ shares.flatten(1).T, right)

    def _compare(self, f: Tensor, h: Tensor, known: Tensor) -> Tensor:
        """Loss of one level: scores f (n, width), words h (n, width) of 0 and 1."""
        same = h @ h.T == h.sum(1)
        rest = 1 - h
        if self.loss == "npair":
            inside = f * rest
            loss = n_pair(f @ f.T - inside @ inside.T, same, known)
            return loss + self.regularization * squared_length(f) / 2
        either = 1 - rest[:, None] * rest
        distances = (either * (f[:, None] - f).abs()).sum(2)
        return triplet(distances, same, known, self.margin)
