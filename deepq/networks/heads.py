"""Heads: torch modules that make embeddings (n, d_out) of features (n, d_in).

Each keeps the arguments of its constructor as attributes of the same names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from deepq._common.checks import as_real, as_share
from deepq._common.errors import InputError
from deepq.networks.backbones import as_width


class Bottleneck(nn.Module):
    """z = tanh(W x + b): the layer fcb of DQN (Cao et al., AAAI 2016).

    Parameters
    ----------
    d_in, d_out : int
    tanh : bool
        Whether there is one.
    batch_norm : bool
        Whether z is normalized over batches, before the tanh.
    on_pretrained : bool
        Whether to start and learn as in the paper, after layers that are trained already: weights
        from N(0, 0.01^2), `rates` of 10 for weights and 20 for biases.

    Attributes
    ----------
    rates : dict
        Factors of the learning rate by name of the parameter.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        tanh: bool = True,
        on_pretrained: bool = False,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.d_in, self.d_out = as_width(d_in, "d_in"), as_width(d_out, "d_out")
        self.tanh, self.on_pretrained = bool(tanh), bool(on_pretrained)
        self.batch_norm = bool(batch_norm)
        self.fcb = nn.Linear(self.d_in, self.d_out)
        if self.batch_norm:
            self.norm = nn.BatchNorm1d(self.d_out)
        self.rates: dict[str, float] = {}
        if self.on_pretrained:
            nn.init.normal_(self.fcb.weight, std=0.01)
            nn.init.zeros_(self.fcb.bias)
            self.rates = {"fcb.weight": 10.0, "fcb.bias": 20.0}

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, d_out)."""
        z: Tensor = self.fcb(x)
        if self.batch_norm:
            z = self.norm(z)
        return z.tanh() if self.tanh else z


class Probabilities(nn.Module):
    """z = softmax((W x + b) / temperature): how probable each class is.

    Parameters
    ----------
    d_in, classes : int
    d_out : int, optional
        Length of an embedding, at least `classes`; zeros follow the probabilities.
    temperature : float
        Above 0. It is a buffer and can be set after the training.
    """

    temperature: Tensor

    def __init__(
        self, d_in: int, classes: int, d_out: int | None = None, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.d_in, self.classes = as_width(d_in, "d_in"), as_width(classes, "classes")
        self.d_out = as_width(classes if d_out is None else d_out, "d_out")
        if self.d_out < self.classes:
            raise InputError(f"expected d_out of at least {classes} classes, got {d_out}")
        temperature = as_real(temperature, "temperature")
        if not temperature > 0:
            raise InputError(f"expected a temperature above 0, got {temperature}")
        self.classifier = nn.Linear(self.d_in, self.classes)
        self.register_buffer("temperature", torch.tensor(temperature))

    def logits(self, x: Tensor) -> Tensor:
        """W x + b, (n, classes)."""
        scores: Tensor = self.classifier(x)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, d_out)."""
        logits = self.logits(x).float()  # also where the layers before compute in bfloat16
        probabilities = (logits / self.temperature).softmax(1)
        return pad(probabilities, (0, self.d_out - self.classes))


class DivideAndEncode(nn.Module):
    """Numbers that each depend on features of their own: the module of DNNH.

    Lai et al., "Simultaneous feature learning and hash coding with deep neural networks", CVPR
    2015, section 3.2. Features are made for each number, `part` of them, and weighed to one; its
    sigmoid s goes through the threshold that is 0 below 1/2 - epsilon, 1 above 1/2 + epsilon, and s
    between. The result is scaled from [0, 1] to [-1, 1]. Gradients pass the threshold unchanged,
    where the paper's are 0 outside of the middle.

    Parameters
    ----------
    d_in, d_out : int
    part : int
        Features of each number.
    epsilon : float
        0 to 1/2; 1/2 leaves the threshold out.
    """

    def __init__(self, d_in: int, d_out: int, part: int = 50, epsilon: float = 0.5) -> None:
        super().__init__()
        self.d_in, self.d_out = as_width(d_in, "d_in"), as_width(d_out, "d_out")
        self.part = as_width(part, "part")
        self.epsilon = as_share(epsilon, "epsilon", 0.5)
        self.features = nn.Linear(self.d_in, as_width(self.d_out * self.part, "d_out * part"))
        self.weight = nn.Parameter(torch.empty(self.d_out, self.part))
        self.bias = nn.Parameter(torch.zeros(self.d_out))
        nn.init.uniform_(self.weight, -(self.part**-0.5), self.part**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (n, d_out)."""
        features = relu(self.features(x)).view(-1, self.d_out, self.part)
        s = ((features * self.weight).sum(2) + self.bias).sigmoid()
        hard = torch.where((s - 0.5).abs() <= self.epsilon, s, s.round())
        return 2 * (s + (hard - s).detach()) - 1
