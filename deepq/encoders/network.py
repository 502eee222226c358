"""A network as an encoder: rows in, embeddings out, with torch.

A network takes rows as a user has them, so whatever stands before an index in C++ may pass them on:
scaling is its own first layer. Images come as rows too, flattened.

Files hold the weights of a network, and of the classes of `networks` its plan. A network of a
user's own class must be handed back when a file is read; pickles and copies hold it as it is.
"""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import numpy as np

from deepq._common.extras import need_torch

need_torch("use a network")

import torch
from torch import Tensor, nn

from deepq._common.arrays import as_vectors
from deepq._common.checks import as_precision
from deepq._common.errors import DimensionError, FormatError, InputError, KindError, StateError
from deepq._common.plain_data import OwnObject
from deepq._common.types import Codes, Floats
from deepq.encoders.base import Encoder
from deepq.networks.backbones import as_shape
from deepq.networks.devices import computing
from deepq.networks.plain import plan_of, restore, set_weights, weights_of

_log = logging.getLogger("deepq.encoders")

_SCALES = 64  # times that numbers are larger or smaller where they are of another scale
_BATCH, _NUMBERS = 512, 1 << 24  # rows and numbers that go through a network at once, at most
_FEWEST, _CACHED = 16, 1 << 18  # on a CPU: what its cache holds goes through fastest


class NetworkEncoder(Encoder):
    """z = network(x).

    Parameters
    ----------
    network : torch.nn.Module
        Takes float32 tensors (n, d) or (n, C, H, W), whatever the layout of the rows, and gives
        (n, d_out). It is copied. It may have a method ``prepare(x)``, which training calls first,
        with a sample of its rows, and an attribute ``rates``: see `networks.AlexNet`.
    input_shape : tuple of int, or int
        Shape of one vector, (d,), or of one image, (C, H, W) or (H, W, C).
    layout : str
        "CHW" or "HWC": the order of an image's axes in `input_shape`, and so in the rows.
    mirrored : bool
        Whether the embedding of an image is the mean of those of it and of its mirror image.
    precision : str
        Kind of the numbers inside the network while it embeds: "float32", or "bfloat16", which
        takes half the time where the processor has it. Embeddings are float32 in any case.
    fitted : bool
        Whether the network is trained already. A training without labels takes it as it is, trained
        or not.

    Attributes
    ----------
    network : torch.nn.Module
        Network, in evaluation mode, except while it is trained.
    seen : dict
        What a training with labels saw, as far as it is known: "most", the largest size of a
        number; where the objective keeps something for each class, "classes", their names in the
        order of the outputs or the number of tags, and "seed", that of their codes.

    Raises
    ------
    KindError, InputError, DimensionError
        If `network` is no module, the layout, shape or precision is none of these, or what the
        network makes of two rows is not two rows of real numbers.
    """

    can_decode = False
    learns_from = "epochs"
    scales_embeddings = True

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...] | int,
        *,
        layout: str = "CHW",
        mirrored: bool = False,
        precision: str = "float32",
        fitted: bool = False,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise KindError(f"expected a torch.nn.Module, got {type(network).__name__}")
        shape = as_shape(input_shape)
        _check_layout(shape, layout)
        if mirrored and len(shape) != 3:
            raise InputError(f"expected images to mirror, got vectors of shape {shape}")
        self._input_shape, self.layout = shape, layout
        self.mirrored, self._fitted = bool(mirrored), bool(fitted)
        self.precision = as_precision(precision)
        self.network = copy.deepcopy(network).eval()
        self.seen: dict[str, Any] = {}
        super().__init__(math.prod(shape), self._find_d_out())

    def _find_d_out(self) -> int:
        """Send two rows through the network."""
        rows = torch.zeros(2, math.prod(self.input_shape), device=self.device)
        try:
            with torch.inference_mode():
                z = self.network(self.images(rows))
        except Exception as error:  # of whatever kind a user's network raises
            raise DimensionError(
                f"expected a network of inputs (n, ...) {tuple(self.images(rows).shape[1:])}, "
                f"got one that fails: {error}"
            ) from error
        if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != 2 or not z.is_floating_point():
            got = f"{tuple(z.shape)} {z.dtype}" if isinstance(z, Tensor) else type(z).__name__
            raise DimensionError(f"expected a network that gives (2, d_out) floats, got {got}")
        return z.shape[1]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one vector or image, as given."""
        return self._input_shape

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    @property
    def is_fitted(self) -> bool:
        """Whether the network has been trained, or is taken as it is."""
        return self._fitted

    @property
    def learns(self) -> bool:
        """Whether the network still has to be taken as it is."""
        return not self._fitted

    def settle(self) -> None:
        """Count as trained as it is."""
        self._fitted = True

    def unlabelled(self) -> None:
        """Take the network as it is: without labels there is nothing that it learns."""
        if not self._fitted:
            _log.warning("the network is taken as it is: it has not been trained")
        self.settle()

    def look_at(self, x: Any) -> None:
        """Log a warning where all numbers are 64 times smaller than in training, or one larger."""
        most = getattr(self, "seen", {}).get("most")  # older copies have none
        if not most:
            return
        largest = float(np.max(np.abs(x), where=np.isfinite(x), initial=0))
        if 0 < largest < most / _SCALES or largest > most * _SCALES:
            _log.warning(
                "expected numbers of the scale that the network was trained with, up to %.3g, "
                "got up to %.3g: images of bytes and of parts of 1 are not the same to it",
                most,
                largest,
            )

    def images(self, rows: Tensor) -> Tensor:
        """Rows (n, d_in) in the shape that the network takes, float32."""
        shaped = rows.view(-1, *self.input_shape)
        if self.layout == "HWC" and len(self.input_shape) == 3:
            shaped = shaped.permute(0, 3, 1, 2)
        return shaped.float()

    def encode(self, x: Floats | Codes) -> Floats:
        """Embeddings (n, d_out) float32 of rows (n, d_in) float32 or uint8, batch by batch."""
        rows = as_vectors(x, self.d_in, keep_bytes=True)
        z = np.empty((len(rows), self.d_out), np.float32)
        device = self.device
        preferred = max(_FEWEST, _CACHED // self.d_in) if device.type == "cpu" else _BATCH
        size = max(1, min(_BATCH, preferred, _NUMBERS // self.d_in))
        for i in range(0, len(rows), size):
            batch = self.images(torch.tensor(rows[i : i + size], device=device))
            z[i : i + size] = self.of_images(batch)
        return z

    def of_images(self, images: Tensor) -> Floats:
        """Embeddings (n, d_out) float32 of what `images` gives, all at once."""
        self.network.eval()
        with torch.inference_mode(), computing(self.device, self.precision):
            z = self.network(images)
            if self.mirrored:
                z = (z + self.network(images.flip(3))) / 2
        found: Floats = z.float().cpu().numpy()
        return found

    def decode(self, z: Floats) -> Floats:  # noqa: ARG002
        """Raise StateError: a network cannot be undone."""
        raise StateError("expected an encoder that can be undone, got a network")

    # ---- as plain data -----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Network and settings."""
        plan = plan_of(self.network)
        network: Any = OwnNetwork(self.network)
        if plan is not None:
            network = {"plan": plan, "weights": weights_of(self.network)}
        return {
            "network": network,
            "input_shape": list(self.input_shape),
            "layout": self.layout,
            "mirrored": self.mirrored,
            "precision": self.precision,
            "fitted": self._fitted,
            **({"seen": self.seen} if self.seen else {}),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NetworkEncoder:
        """Make the network anew, or take one that is handed back, and give it the weights."""
        stored, given = state["network"], state.get("handed_back")
        if given is not None:
            network = _fitting(given, stored)
        elif isinstance(stored, OwnNetwork):
            network = stored.module
        elif "plan" in stored:
            network = restore(stored["plan"], stored["weights"])
        else:
            raise KindError(
                f"one whose network is of a class of your own, {stored['class']}: hand the network "
                "back with encoder="
            )
        encoder = cls(
            network,
            tuple(state["input_shape"]),
            layout=state["layout"],
            mirrored=state["mirrored"],
            precision=state["precision"],
            fitted=state["fitted"],
        )
        if given is not None:
            set_weights(encoder.network, _plain(stored)["weights"])
        encoder.seen = _as_seen(state.get("seen", {}))
        return encoder


def _as_seen(seen: Any) -> dict[str, Any]:
    """Check what a file says of a training. Raises FormatError where that is something else."""
    classes = seen.get("classes", 0) if isinstance(seen, dict) else None
    valid = isinstance(classes, int) or (
        isinstance(classes, list) and all(isinstance(name, int | str) for name in classes)
    )
    if not (valid and isinstance(seen.get("most", 0.0), int | float)):
        raise FormatError("other things that a training saw than a number and classes")
    if not isinstance(seen.get("seed", 0), int):
        raise FormatError("a seed that is no integer")
    return dict(seen)


class OwnNetwork(OwnObject):
    """A network of a user's own class."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def plain(self) -> dict[str, Any]:
        """Name of the class, and weights."""
        name = type(self.module).__qualname__
        return {"class": name, "weights": weights_of(self.module)}


def _plain(stored: Any) -> dict[str, Any]:
    plain: dict[str, Any] = stored.plain() if isinstance(stored, OwnNetwork) else stored
    return plain


def _fitting(given: Any, stored: Any) -> nn.Module:
    """Return the network that is handed back, if it is of the class that was written."""
    network = given.network if isinstance(given, NetworkEncoder) else given
    if not isinstance(network, nn.Module):
        raise KindError(f"a {type(network).__name__} handed back, and no torch.nn.Module")
    plain = _plain(stored)
    name = plain["class"] if "class" in plain else plain["plan"]["type"]
    if type(network).__qualname__ != name:
        raise FormatError(f"a network {name}, and handed back a {type(network).__qualname__}")
    return network


def _check_layout(shape: tuple[int, ...], layout: str) -> None:
    """Refuse a layout that is none, or not that of an image that plainly has the other."""
    if layout not in ("CHW", "HWC"):
        raise InputError(f'expected a layout "CHW" or "HWC", got {layout!r}')
    if len(shape) != 3:
        return
    channels, sides = (shape[0], shape[1:]) if layout == "HWC" else (shape[2], shape[:2])
    if channels in (1, 3) and min(sides) > 4:
        other = "CHW" if layout == "HWC" else "HWC"
        raise InputError(
            f'expected images in the layout "{layout}", got {shape}: pass layout="{other}"'
        )
