"""Learned vector quantization behind the interface of ``faiss.IndexPQ``.

Public names are imported when they are first used, so that ``import deepq`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepq import (
        datasets,
        decoders,
        encoders,
        metrics,
        networks,
        objectives,
        quantizers,
        recipes,
    )
    from deepq._common.errors import FormatError
    from deepq.encoders.network import NetworkEncoder
    from deepq.evaluation import Diagnosis, diagnose, evaluate
    from deepq.index import DeepQuantIndex
    from deepq.interop import from_faiss, to_faiss
    from deepq.io import load_pickle, read_index, write_index
    from deepq.labels.supervision import Pairs, Positives
    from deepq.search_parameters import SearchParameters
    from deepq.suggestion import Suggestion, suggest
    from deepq.training.settings import TrainConfig

__version__ = "0.1.0.dev0"

__all__ = [
    "DeepQuantIndex",
    "Diagnosis",
    "FormatError",
    "NetworkEncoder",
    "Pairs",
    "Positives",
    "SearchParameters",
    "Suggestion",
    "TrainConfig",
    "datasets",
    "decoders",
    "diagnose",
    "encoders",
    "evaluate",
    "from_faiss",
    "load_pickle",
    "metrics",
    "networks",
    "objectives",
    "quantizers",
    "read_index",
    "recipes",
    "suggest",
    "to_faiss",
    "write_index",
]

_HOME = {
    "DeepQuantIndex": "index",
    "Diagnosis": "evaluation",
    "FormatError": "_common.errors",
    "NetworkEncoder": "encoders.network",
    "Pairs": "labels.supervision",
    "Positives": "labels.supervision",
    "SearchParameters": "search_parameters",
    "Suggestion": "suggestion",
    "TrainConfig": "training.settings",
    "diagnose": "evaluation",
    "evaluate": "evaluation",
    "from_faiss": "interop",
    "load_pickle": "io",
    "read_index": "io",
    "suggest": "suggestion",
    "to_faiss": "interop",
    "write_index": "io",
}
_MODULES = frozenset(__all__) - frozenset(_HOME)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
