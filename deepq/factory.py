"""An untrained index of a line of text, as ``faiss.index_factory`` makes one."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import faiss
import numpy as np

from deepq._common.checks import as_metric, as_size
from deepq._common.errors import InputError, KindError
from deepq._common.types import METRIC_INNER_PRODUCT, METRIC_L2
from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Normalize
from deepq.encoders.rotation import Rotation
from deepq.index.flat import DeepQuantIndex
from deepq.index.ivf import DeepQuantIVFIndex

_PATTERN = re.compile(
    r"(?:(?P<unit>L2norm),)?"
    r"(?:Pad(?P<width>[1-9]\d*),)?"
    r"(?:OPQ(?P<turned>[1-9]\d*),)?"
    r"(?:(?:IVF(?P<cells>[1-9]\d*)(?:_HNSW(?P<links>[1-9]\d*))?|IMI2x(?P<halves>[1-9]\d*)),)?"
    r"PQ(?P<M>[1-9]\d*)(?:x(?P<nbits>[1-9]\d*))?(?:np)?"
    r"(?:,Rerank(?P<rerank>[1-9]\d*))?"
)
_RECIPES = {
    "DQN": "dqn",
    "DQNIP": "dqn_ip",
    "KSH": "ksh",
    "CNNH": "cnnh",
    "DNNH": "dnnh",
    "DSH": "dsh",
    "FTBE": "ftbe",
    "OrthoHash": "orthohash",
    "CSQ": "csq",
}
_RECIPE = re.compile(rf"({'|'.join(_RECIPES)})([1-9]\d*)(?:x([1-9]\d*))?")
_MOST_HALVES = 12  # bits of the cells of a half: 16 million cells
_EXAMPLES = '"OPQ16,PQ16", "PQ16x4", "IVF1024,PQ16", "PQ16,Rerank100" or "DQN24"'


def index_factory(
    d: int | tuple[int, ...], description: str, metric: int | str = METRIC_L2
) -> DeepQuantIndex | DeepQuantIVFIndex:
    """Make an untrained index of a description, whose parts stand in this order, with commas.

    =====================  =====================================================================
    part                   meaning
    =====================  =====================================================================
    ``L2norm``             vectors are scaled to length 1
    ``Pad400``             zeros behind vectors, so that they have 400 numbers and M divides them
    ``OPQ16``              a rotation is learned, of as many sub-spaces as the PQ has
    ``IVF1024``,           codes in cells of k-means, with all centres compared or a graph of them;
    ``IVF1024_HNSW32``,    or in those of an inverted multi-index: `DeepQuantIVFIndex`
    ``IMI2x8``
    ``PQ16``, ``PQ16x8``   M, and bits of a word (8): without OPQ vectors are not rotated. ``np``
                           may follow, as in faiss: codewords are never put into an order for
                           polysemous search unless `do_polysemous_training` is set
    ``Rerank100``          so many results are ranked anew by a decoder; not faiss's
    =====================  =====================================================================

    Or it is a recipe and its number of bits, to be trained with labels, with the bits of a word
    behind an x, if wanted: ``DQN24``, ``DQNIP24``, ``KSH32``, ``CNNH32``, ``DNNH32``, ``DSH32``,
    ``FTBE32``, ``OrthoHash32``, ``CSQ32``; see `recipes`.

    Parameters
    ----------
    d : int or (C, H, W)
        Length of the vectors; for recipes of images their shape.
    description : str
        As above. What faiss's own factory makes of the strings that it knows, too, is the same kind
        of index: ``"OPQ16,PQ16"`` is a product quantizer behind a rotation there and here.
    metric : int or "cosine"
        ``faiss.METRIC_L2`` or ``faiss.METRIC_INNER_PRODUCT``.

    Raises
    ------
    InputError
        If the description is none of these, or a number in it is out of range or does not divide.
    KindError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> index_factory(64, "OPQ16,PQ16x4,Rerank100")
    DeepQuantIndex(d=64, M=16, nbits=4, metric=L2, encoder=Rotation, is_trained=False, ntotal=0)
    """
    if not isinstance(description, str):
        raise KindError(f"expected a description, got {type(description).__name__}")
    recipe = _RECIPE.fullmatch(description)
    if recipe is not None:
        name, bits, nbits = recipe.groups()
        return _of_recipe(d, name, bits, nbits, metric)
    found = _PATTERN.fullmatch(description)
    if found is None:
        raise InputError(
            f"expected a description such as {_EXAMPLES}, got {description!r}: faiss.index_factory "
            "makes faiss's other indexes"
        )
    parts = found.groupdict()
    numbers = {name: int(text) for name, text in parts.items() if text and text.isdecimal()}
    M, word, rerank = numbers["M"], numbers.get("nbits", 8), numbers.get("rerank", 0)
    if numbers.get("turned", M) != M:
        raise InputError(f"expected OPQ{M} before PQ{M}, got {description!r}")
    if isinstance(metric, str) and metric != "cosine":
        raise InputError(f'expected a metric of faiss, or "cosine", got {metric!r}')
    d = as_size(d, "d")
    encoder = _encoder(
        d, numbers.get("width"), unit=bool(parts["unit"]), turned="turned" in numbers
    )
    if "cells" not in numbers and "halves" not in numbers:
        return DeepQuantIndex(d, M, word, metric, encoder=encoder, rerank=rerank)
    halves = numbers.get("halves", 1)
    if halves > _MOST_HALVES:
        raise InputError(f"expected IMI2x{_MOST_HALVES} at most, got {description!r}")
    nlist = numbers.get("cells", 1 << 2 * halves)
    coarse: tuple[Any, ...] = ()
    if "links" in numbers:
        by = METRIC_INNER_PRODUCT if isinstance(metric, str) else as_metric(metric)
        coarse = (faiss.IndexHNSWFlat(encoder.d_out, numbers["links"], by),)
    kind = "imi" if "halves" in numbers else "kmeans"
    arguments = (*coarse, d, nlist, M, word, metric)
    return DeepQuantIVFIndex(*arguments, coarse=kind, encoder=encoder, rerank=rerank)


def _encoder(d: int, width: int | None, *, unit: bool, turned: bool) -> Encoder:
    members: list[Encoder] = [Normalize(d)] if unit else []
    if width is not None:
        if width < d:
            raise InputError(f"expected Pad of at least d = {d}, got {width}")
        members.append(Affine(np.eye(width, d)))
    if turned:
        members.append(Rotation(width or d))
    return Chain.of(members, d)


def _of_recipe(
    shape: Any, name: str, bits: str, nbits: str | None, metric: int | str
) -> DeepQuantIndex:
    recipes = import_module("deepq.recipes")  # torch, which takes seconds to import
    arguments: dict[str, Any] = {} if nbits is None else {"nbits": int(nbits)}
    if metric != METRIC_L2:
        if name not in ("DQN", "DQNIP") or isinstance(metric, str):
            raise InputError(f"expected metric L2 with {name}{bits}, got {metric!r}")
        arguments["metric"] = metric
    made: DeepQuantIndex = getattr(recipes, _RECIPES[name])(shape, int(bits), **arguments)
    return made
