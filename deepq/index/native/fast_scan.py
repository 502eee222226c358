"""``faiss.IndexPQFastScan(index)``, which takes an IndexPQ: what to give it of an index of ours.

To Python an index of ours is an IndexPQ, to C++ it is not: an encoder stands before it. faiss's
constructor would only list its C++ signatures. So it gets one case more, for our class alone.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import faiss

from deepq._common.errors import KindError


def explain_conversion(cls: type) -> None:
    """Let the constructor say how an index of `cls` is converted; other arguments go to faiss."""
    original = faiss.IndexPQFastScan.__init__

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if args and isinstance(args[0], cls):
            raise KindError(
                f"expected a faiss.IndexPQ, got a {cls.__name__}, whose encoder would be lost: "
                "plain = deepq.to_faiss(index) is one behind transforms, and "
                "faiss.IndexPQFastScan(faiss.downcast_index(plain.index)) takes encoded vectors"
            )
        original(self, *args, **kwargs)

    faiss.IndexPQFastScan.__init__ = init
