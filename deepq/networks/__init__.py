"""The networks that encoders are made of, as torch modules.

A backbone (`backbones`, its first layer in `standardize`) makes features of vectors or images, a
head (`heads`) makes embeddings of features, and an `Embedding` (`embedding`) is the one before the
other. `plain` describes such a module as plain data and makes it again; for that each class keeps
the arguments of its constructor as attributes of the same names. `devices` names processors,
precisions and seeds.

A leaf: it imports `_common` alone, and torch. A new backbone or head: one class in the file of its
kind, one line in `plain`, one line here, and a test of its shapes and its way through a file.
"""

from deepq._common.extras import need_torch

need_torch()

from deepq.networks.backbones import MLP, AlexNet, ConvNet, ResNet, as_shape
from deepq.networks.embedding import Embedding
from deepq.networks.heads import Bottleneck, DivideAndEncode, Probabilities
from deepq.networks.plain import make, plan_of, restore, set_weights, weights_of
from deepq.networks.standardize import Standardize

__all__ = [
    "MLP",
    "AlexNet",
    "Bottleneck",
    "ConvNet",
    "DivideAndEncode",
    "Embedding",
    "Probabilities",
    "ResNet",
    "Standardize",
    "as_shape",
    "make",
    "plan_of",
    "restore",
    "set_weights",
    "weights_of",
]
