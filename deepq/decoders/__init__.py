"""Decoders: what chooses the words of vectors, and reconstructs vectors from whole codes.

`neural`: a network that reads all words of a code. `additive`: sums of codewords of the vectors'
whole length. `plain`: decoders from their states. `checks`: of their arrays and settings.
`panels`: numbers as the kernels want them. A new kind: a class with what `AdditiveDecoder` has, a
line in `plain`.
"""

from deepq.decoders.additive import AdditiveDecoder
from deepq.decoders.neural import Decoder

__all__ = ["AdditiveDecoder", "Decoder"]
