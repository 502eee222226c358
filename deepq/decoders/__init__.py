"""Decoders: what chooses the words of vectors, and reconstructs vectors from whole codes.

`base`: what both kinds are. `neural`: a network that reads all words of a code. `additive`: sums of
codewords of the vectors' whole length. `lengths`: those of decoded vectors. `plain`: decoders from
their states. `checks`: of their arrays and settings. `panels`: numbers as the kernels want them.
`wide`: vectors for the look-up tables of additive codes.

It imports `_scan`, `_decode` and `_common`. A new kind: a class with what `AdditiveDecoder` has, in
a file of its own, a line in `plain` and one here, and a test.
"""

from deepq.decoders.additive import AdditiveDecoder
from deepq.decoders.neural import Decoder

__all__ = ["AdditiveDecoder", "Decoder"]
