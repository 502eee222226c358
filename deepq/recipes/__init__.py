"""Published systems as untrained indexes: one function each, with the settings found best.

Every recipe takes the shape of one vector and the bits of a code, and returns a `DeepQuantIndex`:
``train(x, y)``, ``add``, ``search``. `quantization` has those whose codes are learned codewords,
`hashing` those of binary codes, `parts` what both are made of. docs/deep.md and docs/hashing.md
compare them.

It imports `index` and all below, and torch. A new recipe: one function in the file of its kind,
one line here, one row in the docs, and a test that it learns.
"""

from deepq._common.extras import need_torch

need_torch()

from deepq.recipes.hashing import cnnh, csq, dnnh, dsh, ftbe, ksh, orthohash
from deepq.recipes.parts import code_shape
from deepq.recipes.quantization import class_codes, dqn, dqn_ip, dqn_two_step

__all__ = [
    "class_codes",
    "cnnh",
    "code_shape",
    "csq",
    "dnnh",
    "dqn",
    "dqn_ip",
    "dqn_two_step",
    "dsh",
    "ftbe",
    "ksh",
    "orthohash",
]
