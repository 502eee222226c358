"""Binary codes as a product quantizer, and the kinds of quantizers by name."""

from __future__ import annotations

import numpy as np

from deepq._common.errors import InputError
from deepq._common.types import Floats, Words
from deepq.quantizers.product import ProductQuantizer


class BinaryQuantizer(ProductQuantizer):
    """Binary codes: a bit for each number, 1 where it is at least 0.

    A product quantizer whose codebooks are the corners of a hypercube and are never trained:
    dsub = nbits, and codeword j of every sub-space has +1 where j has a 1 bit and -1 where it has a
    0 bit, the least significant bit first. So the nearest codeword is the sign of each number (0
    counts as +1), and between rows of +-1 squared distances are 4 times the Hamming distance,
    exactly. The bits of a code follow the numbers of the vector: `M` and `nbits` matter for the
    speed of the scan, but not for the bytes, which are those of
    ``np.packbits(z >= 0, axis=1, bitorder="little")``.

    Parameters
    ----------
    M : int
        Number of sub-spaces; vectors have M * nbits numbers.
    nbits : int
        Bits of a word, 1 to 8: longer ones would make larger tables for the same bytes.

    Raises
    ------
    InputError
        If `M` or `nbits` is out of range; whenever other codewords are set, or a decoder.
    """

    is_frozen = True
    _most_bits = 8

    def __init__(self, M: int, nbits: int = 8) -> None:
        super().__init__(M, nbits)
        self._codebooks = np.tile(_hypercube(self.nbits), (self.M, 1, 1))
        self._codebooks.flags.writeable = False

    def share(self, codebooks: Floats) -> None:
        """Keep the codebooks that are there. Raises InputError if these are others."""
        if not np.array_equal(codebooks, self.trained()):
            raise InputError(
                "expected the codewords of +-1 that a BinaryQuantizer always has, got others"
            )

    def assign(self, z: Floats) -> Words:
        """Words (n, M) uint8 of the signs of `z` (n, M * nbits); 0 counts as +1."""
        z = self._as_rows(z)
        bits = (z >= 0).reshape(len(z), self.M, self.nbits)
        return np.packbits(bits, axis=2, bitorder="little")[:, :, 0]


# Kinds that files may hold, by name.
TYPES: dict[str, type[ProductQuantizer]] = {
    kind.__name__: kind for kind in (ProductQuantizer, BinaryQuantizer)
}


def kind_of(codebooks: Floats) -> type[ProductQuantizer]:
    """Kind of quantizer that has the codebooks (M, ksub, dsub): binary for those of +-1 only."""
    _, ksub, dsub = codebooks.shape
    binary = dsub <= BinaryQuantizer._most_bits and ksub == 1 << dsub
    return BinaryQuantizer if binary and (codebooks == _hypercube(dsub)).all() else ProductQuantizer


def _hypercube(nbits: int) -> Floats:
    """Codewords (2**nbits, nbits) of +-1: row j is the bits of j, the least significant first."""
    numbers = np.arange(1 << nbits, dtype=np.uint8)[:, None]
    bits = np.unpackbits(numbers, axis=1, count=nbits, bitorder="little")
    return 2 * bits.astype(np.float32) - 1
