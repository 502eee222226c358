"""Two indexes at once: which may be merged, and the lock over both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import faiss

from deepq._common.errors import InputError, KindError, StateError
from deepq._common.plain_data import digest
from deepq.index.learned import LearnedIndex
from deepq.index.native.chain import NativeChain
from deepq.index.native.originals import downcast_index


class Merging(LearnedIndex):
    """The part of an editing strand that looks at another index."""

    def _rewriting(self, *, resets: bool = False) -> AbstractContextManager[None]:
        """Keep everybody else out; where it `resets`, codes that cannot change may go."""
        raise NotImplementedError

    def merge_from(self, otherIndex: Any, add_id: Any = 0) -> None:
        """Append the codes of an index of the same training, and empty that."""
        raise NotImplementedError

    def remove_ids(self, x: Any) -> int:
        """Remove vectors by id."""
        raise NotImplementedError

    def check_compatible_for_merge(self, otherIndex: Any) -> None:
        """Raise InputError unless `otherIndex` has the same training and may be merged."""
        self._check_same(self._require_other(otherIndex), otherIndex)

    @contextmanager
    def _with_other(self, otherIndex: Any) -> Iterator[Any]:
        """Keep everybody else out of two indexes of one training; yield the other's C++ objects."""
        other = self._require_other(otherIndex)
        ours = [index for index in (self, otherIndex) if isinstance(index, Merging)]
        with ExitStack() as held:
            for index in sorted(ours, key=id):  # one order for all: no deadlock
                held.enter_context(index._rewriting(resets=True))
            self._check_same(other, otherIndex)
            yield other

    def _check_same(self, other: NativeChain, otherIndex: Any) -> None:
        if not (self.is_trained and other.chain.is_trained):
            raise InputError("expected two trained indexes to merge, got one that is not")
        is_ours = isinstance(otherIndex, Merging)
        if is_ours:
            own, others = self._meaning(), otherIndex._meaning()
        else:
            both = self._native, other
            own, others = [(each.meaning(), each.carried_decoder()) for each in both]
        if own != others:
            prints = f": fingerprints {digest(own)} and {digest(others)}" if is_ours else ""
            raise InputError(
                f"expected an index with the same encoder and codebooks, got another{prints}"
            )

    def _require_other(self, otherIndex: Any) -> Any:
        """Return the C++ objects of another index: one of ours, or what faiss made of one."""
        if not isinstance(otherIndex, faiss.Index):
            raise KindError(f"expected an index to merge, got {type(otherIndex).__name__}")
        if isinstance(otherIndex, Merging):
            other = otherIndex._native if otherIndex.kind == self.kind else None
        else:
            other = type(self._native).of(otherIndex)
        if other is None:
            kind = type(downcast_index(otherIndex)).__name__
            raise InputError(
                f"expected a {type(self).__name__} to merge, or an IndexPreTransform that faiss "
                f"has read or copied of one, got {kind}"
            )
        if int(other.pq_index.this) == int(self._native.pq_index.this):
            raise InputError("expected another index to merge, got the same one")
        return other

    # ---- for composites: see `native.called` ---------------------------------------------------

    def _remove_through(self, sel: Any, mapped: int | None) -> int:
        """Remove for a composite; an IDMap, which has `mapped` ids, selects positions.

        Raises StateError if there are not as many, as faiss would end the process.
        """
        if mapped is not None and mapped != self.ntotal:
            raise StateError(
                f"expected {self.ntotal} ids in an IDMap for as many vectors, got {mapped}: "
                "somebody has changed the index inside"
            )
        return self.remove_ids(sel)

    def _merge_through(self, other: Any, add_id: int) -> bool:
        """Merge for a composite; False if the other is no index of ours, as faiss can do it."""
        if other is not None:
            self.merge_from(other, add_id)
        return other is not None
