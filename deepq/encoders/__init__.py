"""Encoders: what makes embeddings z of vectors x, and where it can, x of z.

`base` says what an encoder is. `fixed` has those with given numbers, `chain` puts encoders one
after the other, `spread` is the last where codes are additive. Those that learn: `rotation`
together with the codebooks (step by step in `alternation`), `kernel_hash` (its bits in
`kernel_bits`) and `network` (torch) from labels. `plain` takes a torch module for an encoder, and
has the kinds by name, for files.

It imports `_common`, `decoders`, `quantizers` and `labels`, and from `network` alone `networks`. A
new encoder: a subclass of `Encoder` in a file of its own, with `encode`, `state`, and `decode`
where it can be undone (else `can_decode = False`); one that learns has `fit`, `is_fitted` and
`settle` too. Then one line in `plain.TYPES`, the file's name in this text, and a test.
"""

from deepq.encoders.base import Encoder
from deepq.encoders.chain import Chain
from deepq.encoders.fixed import Affine, Identity, Normalize, Sign
from deepq.encoders.plain import TYPES
from deepq.encoders.rotation import Rotation
from deepq.encoders.spread import Spread

__all__ = [
    "TYPES",
    "Affine",
    "Chain",
    "Encoder",
    "Identity",
    "Normalize",
    "Rotation",
    "Sign",
    "Spread",
]
