"""Hash tables that need no training, and their rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from deepq import HashTableIndex
from deepq.encoders import Affine, Identity
from deepq.quantizers import ProductQuantizer

D, LEVELS, WIDTH = 8, 2, 5
RNG = np.random.default_rng(7)
XB = RNG.standard_normal((400, D), dtype=np.float32)
XQ = RNG.standard_normal((30, D), dtype=np.float32)
SCORES = RNG.standard_normal((LEVELS * WIDTH, D)).astype(np.float32)
L2, IP = 1, 0


def quantizer() -> ProductQuantizer:
    made = ProductQuantizer(4, 4)
    made.train(XB, seed=1)
    return made


KEPT: dict[str, Any] = {"float32": "float32", "float16": "float16", "codes": quantizer()}


def table(
    kept: str = "float32", *, sparsity: int = 1, metric: int = L2, order="counting", **more
) -> HashTableIndex:
    return HashTableIndex(
        Identity(D),
        Affine(SCORES),
        LEVELS,
        WIDTH,
        sparsity=sparsity,
        kept=KEPT[kept],
        metric=metric,
        order=order,
        **more,
    )


def filled(kept: str = "float32", **how) -> HashTableIndex:
    index = table(kept, **how)
    index.add(XB)
    return index


def stands_for(kept: str) -> np.ndarray:
    """What rows of `XB` are ranked by, float64."""
    if kept == "codes":
        own = KEPT[kept]
        return own.decode(own.encode(XB)).astype(np.float64)
    return XB.astype(kept).astype(np.float64)


def order_of_buckets(x: np.ndarray) -> list[tuple[int, ...]]:
    """All buckets of one vector, as words, in the order of counting, its own first."""
    scores = (SCORES.astype(np.float64) @ x).reshape(LEVELS, WIDTH)
    ranked = np.argsort(-scores, axis=1, kind="stable")
    return [(int(ranked[0, i]), int(ranked[1, j])) for i in range(WIDTH) for j in range(WIDTH)]


@cache
def members_of_buckets(sparsity: int) -> dict[tuple[int, ...], list[int]]:
    members: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(XB):
        for bucket in order_of_buckets(row)[:sparsity]:
            members.setdefault(bucket, []).append(i)
    return members


def plain_search(
    x: np.ndarray, k: int, *, kept: str = "float32", sparsity: int = 1, metric: int = L2, least: int
) -> tuple[list[int], int]:
    """Ids of the best rows of one query, and how many candidates there were, by plain loops."""
    members = members_of_buckets(sparsity)
    candidates: set[int] = set()
    for number, bucket in enumerate(order_of_buckets(x)):
        if number >= sparsity and len(candidates) >= min(max(least, k), len(XB)):
            break
        candidates |= set(members.get(bucket, []))
    rows = stands_for(kept)

    def cost(i: int) -> float:
        if metric == IP:
            return -float(rows[i] @ x.astype(np.float64))
        return float(np.square(rows[i] - x.astype(np.float64)).sum())

    return sorted(candidates, key=lambda i: (cost(i), i))[:k], len(candidates)
