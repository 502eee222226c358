"""A network as an encoder: rows in, embeddings out, with torch.

A network takes rows as a user has them, so whatever stands before an index in C++ may pass them on:
scaling is its own first layer. Images come as rows too, (n, C, H, W) flattened.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepq import networks
from deepq._checks import DimensionError, Floats, InputError, KindError, as_vectors
from deepq.encoders import Encoder

_BATCH = 512


class NetworkEncoder(Encoder):
    """z = network(x).

    Parameters
    ----------
    network : torch.nn.Module
        Takes float32 tensors (n, *input_shape), or (n, C, H, W) where the layout is "HWC", and
        gives (n, d_out). It is copied. It may have a method ``prepare(x)``, which training calls
        first, with a sample of its rows, and an attribute ``rates``: see `networks.AlexNet`.
    input_shape : tuple of int, or int
        Of one vector, (d,), or of one image.
    layout : str
        "CHW" or "HWC": the order of an image's axes in `input_shape`, and so in the rows.
    mirrored : bool
        Whether the embedding of an image is the mean of those of it and of its mirror image.
    fitted : bool
        Whether the network is trained already.

    Attributes
    ----------
    network : torch.nn.Module
        In evaluation mode, except while it is trained.

    Raises
    ------
    KindError, InputError, DimensionError
        If `network` is no module, the layout or shape is none of these, or what the network makes
        of a row is not one row of finite numbers.
    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...] | int,
        *,
        layout: str = "CHW",
        mirrored: bool = False,
        fitted: bool = False,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise KindError(f"expected a torch.nn.Module, got {type(network).__name__}")
        self.input_shape = networks.as_shape(input_shape)
        if layout not in ("CHW", "HWC"):
            raise InputError(f'expected a layout "CHW" or "HWC", got {layout!r}')
        if mirrored and len(self.input_shape) != 3:
            raise InputError(f"expected images to mirror, got vectors of shape {self.input_shape}")
        self.layout, self.mirrored, self._fitted = layout, mirrored, fitted
        self.network = copy.deepcopy(network).eval()
        rows = torch.zeros(2, math.prod(self.input_shape))
        try:
            with torch.inference_mode():
                z = self.network(self.images(rows))
        except (RuntimeError, ValueError, TypeError) as error:
            raise DimensionError(
                f"expected a network of inputs {self.input_shape}, got one that fails: {error}"
            ) from error
        if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != 2:
            got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise DimensionError(f"expected a network that gives (n, d_out), got {got} for n = 2")
        super().__init__(rows.shape[1], z.shape[1])

    @property
    def is_fitted(self) -> bool:
        """Whether the network has been trained, or was when it came."""
        return self._fitted

    def settle(self) -> None:
        """Count as trained as it is."""
        self._fitted = True

    def images(self, rows: Tensor) -> Tensor:
        """Rows (n, d_in) in the shape that the network takes, float32."""
        shaped = rows.view(-1, *self.input_shape)
        if self.layout == "HWC" and len(self.input_shape) == 3:
            shaped = shaped.permute(0, 3, 1, 2)
        return shaped.float()

    def encode(self, x: Floats) -> Floats:
        """Embeddings (n, d_out) float32 of rows (n, d_in) float32 or uint8, batch by batch."""
        rows = x if x.dtype == np.uint8 else as_vectors(x, self.d_in)
        z = np.empty((len(rows), self.d_out), np.float32)
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            for i in range(0, len(rows), _BATCH):
                batch = self.images(torch.tensor(rows[i : i + _BATCH], device=device))
                out = self.network(batch)
                if self.mirrored:
                    out = (out + self.network(batch.flip(3))) / 2
                z[i : i + _BATCH] = out.cpu().numpy()
        return z

    def decode(self, z: Floats) -> Floats:
        """Raise KindError: a network cannot be undone."""
        raise KindError("expected an encoder that can be undone, got a network")

    # ---- as plain data -----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plan of the network, weights and settings; of another's class, the module itself."""
        plan = networks.plan_of(self.network)
        weights = networks.weights_of(self.network)
        state = {
            "plan": plan,
            "weights": weights,
            "input_shape": list(self.input_shape),
            "layout": self.layout,
            "mirrored": self.mirrored,
            "fitted": self._fitted,
        }
        return state if plan is not None else {**state, "module": self.network}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> NetworkEncoder:
        """Make the network anew, or take the one that is handed back, and give it the weights."""
        if state["plan"] is None and state.get("module") is None:
            raise KindError(
                "expected the network of this index to be handed back (encoder=...): it is of a "
                "class that deepq does not know"
            )
        network = state.get("module") or networks.make(state["plan"])
        encoder = cls(
            network,
            tuple(state["input_shape"]),
            layout=state["layout"],
            mirrored=state["mirrored"],
            fitted=state["fitted"],
        )
        networks.set_weights(encoder.network, state["weights"])
        return encoder
