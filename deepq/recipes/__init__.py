"""Published systems as untrained indexes: one function each, with the settings found best.

Every recipe takes the shape of one vector and returns an index: ``train(x, y)``, ``add``,
``search``. `quantization` has those whose codes are learned codewords, `hashing` those of binary
codes, `hash_tables` that of learned buckets, `parts` what all are made of. docs/deep.md,
docs/hashing.md and docs/hierarchical.md compare them.

It imports `hash_table` and all below, and torch. A new recipe: one function in the file of its
kind, one line here, one row in the docs, and a test that it learns.
"""

from deepq._common.extras import need_torch

need_torch()

from deepq.recipes.hash_tables import hierarchical
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
    "hierarchical",
    "ksh",
    "orthohash",
]
