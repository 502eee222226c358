"""Functions of faiss's, kept at import: `patch_faiss` puts others in their places.

What is done here with faiss's objects must not depend on that, so no file of this room, or of the
ones above, asks `faiss` for one of these.
"""

from __future__ import annotations

from typing import Any

import faiss

read_index = faiss.read_index
write_index = faiss.write_index
clone_index = faiss.clone_index
downcast_index = faiss.downcast_index


def written(index: Any) -> Any:
    """Write an index of faiss's into memory and read it: what its files hold of it."""
    writer, reader = faiss.VectorIOWriter(), faiss.VectorIOReader()
    write_index(index, writer)
    reader.data.swap(writer.data)
    return read_index(reader)
