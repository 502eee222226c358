"""Pickles of indexes, read without running anything that they may contain."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from functools import partial
from typing import Any, BinaryIO

from deepq._common.errors import FormatError
from deepq._common.safe_files import PathOrFile, opened
from deepq.files.format import MOST_HEADER
from deepq.files.kinds import INDEXES, RESTORERS


def load_pickle(path_or_file: PathOrFile, *, buffers: Iterable[Any] | None = None) -> Any:
    """Load the pickle of an index, and run nothing that it may contain.

    ``pickle.load`` does what a pickle says; this refuses all but the data of a DeepQuantIndex. So
    pickles of subclasses, and of networks and objectives of your own classes, are refused too.

    Parameters
    ----------
    path_or_file : str, path or binary file open for reading
        It holds one pickle, of any protocol; ``joblib.dump`` writes such files.
    buffers : iterable of buffers, optional
        Those that ``pickle.dump`` gave to its ``buffer_callback``.

    Raises
    ------
    FormatError
        (ValueError, RuntimeError) If the pickle holds anything else, which it names, or is damaged.
    OSError
        If the file cannot be read.
    ImportError
        If the index has a network, and torch is missing.
    """
    with opened(path_or_file) as (file, name):
        try:
            index = _Unpickler(file, buffers=buffers).load()
            if not isinstance(index, INDEXES):
                raise FormatError(f"one of a {type(index).__name__}")
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # of a damaged pickle it may be of any class
            got = str(error) if isinstance(error, FormatError) else repr(error)
            raise FormatError(f"expected the pickle of an index in {name}, got {got}") from error
    return index


# Of the instructions of pickles, those that ours need.
_INSTRUCTIONS = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.GLOBAL, pickle.STACK_GLOBAL),
        *(pickle.UNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
        *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        *(pickle.MARK, pickle.LIST, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.REDUCE),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    )
)


class _Bounded:
    """A file of `size` bytes, of which no more are asked for."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.readline = file, size, file.readline

    def read(self, count: int) -> bytes:
        """Read up to `count` bytes."""
        return self.file.read(min(count, self.size))


class _Unpickler(pickle._Unpickler):
    """Follows the instructions that pickles of ours need, and calls nothing but `restore`, once.

    The one in C takes gigabytes of memory where a few bytes say so, and a table of instructions is
    not to be had there.
    """

    dispatch = {code: pickle._Unpickler.dispatch[code] for code in _INSTRUCTIONS}  # noqa: RUF012

    def __init__(self, file: BinaryIO, buffers: Iterable[Any] | None) -> None:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        given = [memoryview(buffer).cast("B") for buffer in buffers or ()]
        self._size = size + sum(map(len, given))
        self._is_restored = False
        super().__init__(_Bounded(file, size), buffers=given)

    def find_class(self, module: str, name: str) -> Any:
        for maker in RESTORERS:
            if (module, name) == (maker.__module__, maker.__name__):
                return partial(self._restore, maker)
        raise FormatError(f"one that asks for {module}.{name}")

    def _restore(self, maker: Any, text: str, parts: list[Any]) -> Any:
        if len(text) > MOST_HEADER or sum(map(len, parts)) > self._size:
            raise FormatError("one that holds less than it says")
        if self._is_restored:  # a few bytes would do for another copy
            raise FormatError("one of several indexes")
        self._is_restored = True
        return maker(text, parts)
