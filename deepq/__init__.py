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
        distributed,
        encoders,
        metrics,
        networks,
        objectives,
        plots,
        quantizers,
        recipes,
        sklearn,
    )
    from deepq._common.errors import (
        DimensionError,
        FormatError,
        InputError,
        KindError,
        StateError,
    )
    from deepq.encoders.network import NetworkEncoder
    from deepq.evaluation.diagnosis import Diagnosis, diagnose
    from deepq.evaluation.measures import evaluate
    from deepq.evaluation.suggestion import Suggestion, suggest
    from deepq.factory import index_factory
    from deepq.files.faiss_patch import patch_faiss, patched_faiss, unpatch_faiss
    from deepq.files.index_files import read_index, write_index
    from deepq.files.lance_files import write_lance
    from deepq.files.pickles import load_pickle
    from deepq.hash_table.index import HashTableIndex
    from deepq.index.flat import DeepQuantIndex
    from deepq.index.interop import from_faiss, to_faiss
    from deepq.index.ivf import DeepQuantIVFIndex
    from deepq.index.search_parameters import SearchParameters
    from deepq.labels.buckets import assign_buckets
    from deepq.labels.supervision import Pairs, Positives
    from deepq.training.settings import TrainConfig

__version__ = "0.1.0"

__all__ = [
    "DeepQuantIVFIndex",
    "DeepQuantIndex",
    "Diagnosis",
    "DimensionError",
    "FormatError",
    "HashTableIndex",
    "InputError",
    "KindError",
    "NetworkEncoder",
    "Pairs",
    "Positives",
    "SearchParameters",
    "StateError",
    "Suggestion",
    "TrainConfig",
    "assign_buckets",
    "datasets",
    "decoders",
    "diagnose",
    "distributed",
    "encoders",
    "evaluate",
    "from_faiss",
    "index_factory",
    "load_pickle",
    "metrics",
    "networks",
    "objectives",
    "patch_faiss",
    "patched_faiss",
    "plots",
    "quantizers",
    "read_index",
    "recipes",
    "sklearn",
    "suggest",
    "to_faiss",
    "unpatch_faiss",
    "write_index",
    "write_lance",
]

_HOME = {
    "DeepQuantIVFIndex": "index",
    "DeepQuantIndex": "index",
    "Diagnosis": "evaluation.diagnosis",
    "DimensionError": "_common.errors",
    "FormatError": "_common.errors",
    "HashTableIndex": "hash_table",
    "InputError": "_common.errors",
    "KindError": "_common.errors",
    "StateError": "_common.errors",
    "NetworkEncoder": "encoders.network",
    "Pairs": "labels.supervision",
    "Positives": "labels.supervision",
    "SearchParameters": "index.search_parameters",
    "Suggestion": "evaluation.suggestion",
    "TrainConfig": "training.settings",
    "assign_buckets": "labels.buckets",
    "diagnose": "evaluation.diagnosis",
    "evaluate": "evaluation.measures",
    "from_faiss": "index.interop",
    "index_factory": "factory",
    "load_pickle": "files.pickles",
    "patch_faiss": "files.faiss_patch",
    "patched_faiss": "files.faiss_patch",
    "read_index": "files.index_files",
    "suggest": "evaluation.suggestion",
    "to_faiss": "index.interop",
    "unpatch_faiss": "files.faiss_patch",
    "write_index": "files.index_files",
    "write_lance": "files.lance_files",
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
