"""A shard that is open: what happens inside a worker, without Ray."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from deepq._common.errors import FormatError
from deepq._common.types import Codes, Floats, Ids
from deepq.distributed.manifest import Shard
from deepq.distributed.merging import Limits
from deepq.distributed.restriction import Restriction, allows, as_selector
from deepq.files.index_files import read_index
from deepq.index import steps
from deepq.index.search_parameters import SearchParameters


class ServedShard:
    """A mapped index file, searched by embeddings and under the ids of the whole.

    Parameters
    ----------
    folder : Path
    shard : Shard
    fingerprint : str
        What the file must have.
    network : torch.nn.Module or NetworkEncoder, optional
        As for `read_index`.
    verify : bool
        Whether to read the whole file once, to compare its checksum.
    num_threads : int
        Of a search.

    Raises
    ------
    FileNotFoundError
        If this machine does not see the file.
    FormatError
        If it is damaged, of another fingerprint, or not what the manifest says.
    """

    def __init__(
        self,
        folder: Path,
        shard: Shard,
        fingerprint: str,
        network: Any = None,
        verify: bool = True,
        num_threads: int = 1,
    ) -> None:
        path = folder / shard.name
        if not path.exists():
            raise FileNotFoundError(
                f"expected shard {path} where every worker sees it, "
                f"got none on {os.uname().nodename}"
            )
        if verify and (got := shard.checksum_in(folder)) != shard.checksum:
            raise FormatError(f"expected the checksum {shard.checksum} of {path}, got {got}")
        index = read_index(path, network, mmap=True)
        if (index.fingerprint, index.ntotal) != (fingerprint, shard.rows):
            raise FormatError(
                f"expected {shard.rows} codes of the fingerprint {fingerprint} in {path}, "
                f"got {index.ntotal} of {index.fingerprint}"
            )
        index.num_threads = num_threads
        self.name, self._index = shard.name, index
        self._first = shard.least if shard.ids == "successive" else None
        self._ids = shard.ids_in(folder)  # None where they are inside
        self._rankers: dict[int, steps.Ranker] = {}

    def find(
        self,
        z: Floats,
        k: int,
        how: dict[str, Any],
        restriction: Restriction | None,
        with_codes: bool,
    ) -> tuple[Floats, Ids, Codes | None]:
        """Scores and ids (n, k) of embeddings, and codes (n, k, code_size) if they are asked for.

        `how` are arguments of `SearchParameters`.
        """
        D, I, codes = steps.found(self._index, z, k, self._parameters(how, restriction))
        return D, self._outside(I), codes if with_codes else None

    def within(
        self, z: Floats, thresh: float, how: dict[str, Any], restriction: Restriction | None
    ) -> tuple[Limits, Floats, Ids]:
        """`range_search` for embeddings."""
        lims, D, I = steps.within(self._index, z, thresh, self._parameters(how, restriction))
        return lims, D, self._outside(I)

    def rank(self, z: Floats, ids: Ids, codes: Codes, k: int, stored: int) -> tuple[Floats, Ids]:
        """Rank candidates anew, whichever shards they are from: see `steps.Ranker`."""
        ranker = self._rankers.get(stored)
        if ranker is None:
            self._rankers = {stored: (ranker := steps.Ranker(self._index, stored))}
        return ranker.rank(z, ids, codes, k)

    def decode(self, ids: Ids) -> tuple[Ids, Floats]:
        """Decode those of the ids (n,) that are here: their places among them, and vectors."""
        known = steps.stored_ids(self._index) if self._ids is None else self._ids
        places = np.searchsorted(known, ids)
        here = np.flatnonzero(np.append(known, -1)[places] == ids)
        keys = ids if self._ids is None else places
        return here, self._index.reconstruct_batch(keys[here])

    def _outside(self, I: Ids) -> Ids:
        """Ids of the whole for those of this index; -1 stays."""
        if self._first is not None:  # which is quicker
            return np.where(I < 0, -1, I + self._first)
        if self._ids is not None:
            return np.where(I < 0, -1, self._ids[np.maximum(I, 0)]) if len(self._ids) else I
        return I

    def _parameters(self, how: dict[str, Any], restriction: Restriction | None) -> Any:
        return SearchParameters(**how, sel=self._selector(restriction))

    def _selector(self, restriction: Restriction | None) -> Any:
        """Make a selector of the ids inside this index."""
        if restriction is None:
            return None
        if self._ids is None:
            return as_selector(restriction)
        if self._first is not None and restriction[0] in ("range", "ids"):
            kind, *parts = restriction
            moved = [part - self._first for part in parts]
            return faiss.IDSelectorRange(*moved) if kind == "range" else moved[0]
        return allows(restriction, self._ids)
