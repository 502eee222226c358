"""What a training has reached, in a file: safetensors with JSON as metadata, no pickles."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from deepq._common.errors import FormatError, InputError
from deepq._common.plain_data import from_bytes, split_arrays, to_bytes
from deepq._common.safe_files import refuse_special, replacing, write_whole
from deepq.encoders.base import Encoder
from deepq.encoders.plain import encoder_state
from deepq.quantizers.product import ProductQuantizer
from deepq.training.settings import TrainConfig

_LEARNING = 3  # counts the ways of learning, as what one has reached another cannot go on from


class Checkpoint:
    """The stages of one training that are done, or under way, by name.

    Parameters
    ----------
    path : str, path or None
        Where they are kept; None keeps nothing.
    key : dict
        Everything that the training follows from. A file is gone on from if it has the same.

    Raises
    ------
    FormatError
        If there is a file which is no checkpoint.
    InputError
        If it belongs to another training.
    OSError
        If there is a folder, a pipe or a device, or the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str] | None, key: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.key = json.loads(json.dumps(key))
        self.stages: dict[str, Any] = {}
        if self.path is not None and self.path.exists():
            self.stages = self._load(self.path)

    def get(self, stage: str) -> Any:
        """Return what was kept of a stage, or None."""
        return self.stages.get(stage)

    def put(self, stage: str, state: Any) -> None:
        """Keep a stage, and replace the file whole."""
        if self.path is None:
            return
        self.stages[stage] = state
        content = to_bytes({"key": self.key, "stages": self.stages})
        with replacing(self.path) as file:
            write_whole(file, content)

    def _load(self, path: Path) -> dict[str, Any]:
        refuse_special(path)
        try:
            content = from_bytes(path.read_bytes())
            key, stages = dict(content["key"]), dict(content["stages"])
        except (FormatError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"expected a checkpoint in {path}, got {error}") from error
        if key != self.key:
            differ = sorted(k for k in {*key, *self.key} if key.get(k) != self.key.get(k))
            raise InputError(
                f"expected a checkpoint of this training in {path}, got one with another "
                f"{', '.join(differ)}: give another path, or remove it"
            )
        return stages


def training_key(
    encoder: Encoder, quantizer: ProductQuantizer, x: NDArray[Any], config: TrainConfig, metric: int
) -> dict[str, Any]:
    """Everything that a training on rows `x` follows from.

    `labelled` adds the objective and the labels.
    """
    settings = asdict(config)
    for name in ("checkpoint", "max_seconds", "device"):  # do not matter, or not by intent
        del settings[name]
    return {
        "quantizer": [type(quantizer).__name__, quantizer.M, quantizer.nbits],
        "metric": metric,
        "learning": _LEARNING,
        "encoder": _digest(encoder_state(encoder)),
        "settings": settings,
        "rows": [*x.shape, zlib.crc32(x[:: max(1, len(x) // 1000)].tobytes())],
    }


def _digest(state: dict[str, Any]) -> list[Any]:
    """Describe an encoder's class and numbers briefly."""
    arrays: list[Any] = []
    fields = split_arrays(state, arrays)
    return [json.dumps(fields), *(zlib.crc32(array.tobytes()) for array in arrays)]
