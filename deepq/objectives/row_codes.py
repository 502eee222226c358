"""Objectives with a code for each training row: for binary hashing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepq._common.checks import as_size
from deepq._common.errors import InputError
from deepq._common.types import Floats
from deepq.labels import triplet_codes
from deepq.labels.similarity_codes import factorized
from deepq.labels.supervision import Supervision
from deepq.objectives.base import Objective, drawn_seed
from deepq.objectives.losses import code_cross_entropy, code_regression

_MARGIN = 0.5  # share of a code that triplets should be apart by


class CodeRegression(Objective):
    """`code_regression` to codes whose inner products are the similarities: CNNH's.

    Xia et al., "Supervised hashing for image retrieval via image representation learning", AAAI
    2014. The codes are those of `labels.similarity_codes.factorized`.

    Parameters
    ----------
    classes : int, optional
        So many last numbers of an embedding stand for the classes, 1 for those of a row and -1 for
        others, as in CNNH+. There are as many fewer bits.
    """

    codes: Tensor

    def __init__(
        self,
        quantization_weight: float = 0.0,
        classes: int | None = None,
        warm_up: float = 0.6,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.classes = None if classes is None else as_size(classes, "classes")
        self.needs_classes = self.keeps_classes = self.classes is not None

    def prepare(self, d: int, supervision: Supervision) -> None:
        classes = self.classes or 0
        bits = d - classes
        if bits < 1:
            raise InputError(f"expected more than {classes} numbers for {classes} classes, got {d}")
        codes = np.full((supervision.n, d), -1, np.float32)
        targets = supervision.targets(np.arange(supervision.n)) if classes else None
        if targets is not None:
            if supervision.classes > classes:
                raise InputError(
                    f"expected labels of at most {classes} classes, got {supervision.classes}"
                )
            codes[:, bits : bits + supervision.classes][targets > 0] = 1
        codes[:, :bits] = factorized(supervision, bits, seed=drawn_seed())
        self.register_buffer("codes", torch.from_numpy(codes))

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        return code_regression(z, self.codes[batch.rows])


class InferredCodes(Objective):
    """`code_cross_entropy` with codes that are inferred from triplets, some bits at a time: FTBE.

    Zhuang, Lin, Shen & Reid, "Fast training of triplet-based deep binary embedding networks", CVPR
    2016. The first half of the epochs is divided among groups of bits. When the turn of a group
    comes, its bits are inferred for all rows of triplets, given those that the network has learned
    by then; from then on it learns them as well.

    Parameters
    ----------
    group : int
        Bits in a group.
    triplets : int
        Triplets of each row that bits are inferred from.
    """

    codes: Tensor

    def __init__(
        self,
        quantization_weight: float = 0.0,
        group: int = 8,
        triplets: int = 20,
        warm_up: float = 0.6,
    ) -> None:
        super().__init__(quantization_weight, warm_up)
        self.group, self.triplets = as_size(group, "group"), as_size(triplets, "triplets")

    def prepare(self, d: int, supervision: Supervision) -> None:
        self._supervision, self._seed = supervision, drawn_seed()
        self.active = 0
        self.register_buffer("codes", torch.zeros(supervision.n, d))

    def begin_epoch(self, epoch: int, epochs: int, embeddings: Callable[[], Floats]) -> None:
        n, bits = self.codes.shape
        first, end = self._groups(epoch, epochs), self._groups(epoch + 1, epochs)
        codes = np.empty((n, 0), np.float32)
        if 0 < first < end:
            learned = embeddings()[:, : self.group * first]
            codes = np.where(learned >= 0, 1, -1).astype(np.float32)
        for number in range(first, end):
            codes = np.concatenate([codes, self._infer(codes, number)], axis=1)
        self.active = min(bits, self.group * end)

    def _groups(self, epoch: int, epochs: int) -> int:
        """How many groups have had their turn when so many epochs are over."""
        groups, turns = -(-self.codes.shape[1] // self.group), -(-epochs // 2)
        return -(-min(epoch, turns) * groups // turns)

    def _infer(self, codes: Floats, number: int) -> Floats:
        """Infer the bits (n, m) of a group, given the codes (n, q) before it, and keep them."""
        rng = np.random.default_rng([self._seed, number])
        triplets = triplet_codes.drawn(self._supervision, self.triplets, rng)
        if not len(triplets):
            raise InputError(
                "expected rows that are similar to one row and not to another, got none"
            )
        known, bits = codes.shape[1], self.codes.shape[1]
        more = min(self.group, bits - known)
        inferred = triplet_codes.inferred(codes, triplets, more, _MARGIN * bits, rng)
        seen = np.unique(triplets)  # bits of other rows are arbitrary; 0 leaves them out
        self.codes[seen, known : known + more] = torch.from_numpy(inferred[seen])
        return inferred

    def forward(self, z: Tensor, batch: Any) -> Tensor:
        codes = self.codes[batch.rows, : self.active]
        return code_cross_entropy(z[:, : self.active], codes)
