"""Index files: data only, checked, and replaced whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from deepq._common.checks import as_flag
from deepq._common.errors import FormatError, InputError, KindError
from deepq._common.safe_files import (
    PathOrFile,
    Reader,
    opened,
    replacing,
    require_method,
    write_whole,
)
from deepq.files import faiss_files
from deepq.files.format import pieces, read_state
from deepq.files.kinds import INDEXES, class_of, held, made
from deepq.hash_table.index import HashTableIndex
from deepq.index.flat import DeepQuantIndex
from deepq.index.interop import from_nest
from deepq.index.ivf import DeepQuantIVFIndex
from deepq.index.native import mapped, mapped_lists

# What may be raised on the way from the content of a file to objects.
_FAULTS = (
    *(ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, ArithmeticError, RuntimeError),
)

AnyIndex = DeepQuantIndex | DeepQuantIVFIndex | HashTableIndex

_OF_FAISS = "an IndexPQ or IndexIVFPQ of faiss's, alone or behind transforms,"


def write_index(index: AnyIndex, path_or_file: PathOrFile) -> None:
    """Save an index; a file that exists is replaced whole, or left as it was on any failure.

    Parameters
    ----------
    index : DeepQuantIndex, DeepQuantIVFIndex or HashTableIndex
        Trained or not. Changes wait until it is written.
    path_or_file : str, path or binary file open for writing
        A file object is written to from its position on, without the promise above.

    Raises
    ------
    KindError
        If `index` is not one of these, or `path_or_file` neither a path nor a file, or if the
        state of the encoder is not arrays and JSON values.
    InputError
        If all but its arrays takes more than 16 MB: a very long `history`. If a setting, or a
        number in `history`, is NaN or infinite, which JSON does not hold.
    OSError
        If the file cannot be written, or a file object does not say how many bytes it took.
    """
    if not isinstance(index, INDEXES):
        raise KindError(f"expected a DeepQuantIndex, got {type(index).__name__}")
    if not isinstance(path_or_file, str | os.PathLike):
        require_method(path_or_file, "write")
        _write(index, path_or_file)
        return
    with replacing(path_or_file) as file:
        _write(index, file)


def read_index(
    path_or_file: PathOrFile, encoder: Any = None, *, mmap: bool = False, verify: str = "full"
) -> Any:
    """Load an index that `write_index` saved, or `faiss.write_index`.

    From a file of faiss's, of an IndexPQ or IndexIVFPQ alone, behind transforms, or in an
    IndexIDMap, IndexIDMap2, IndexPreTransform or IndexRefineFlat, it is what `from_faiss` makes of
    its content. Such a file has no checksums: its sizes are checked, its numbers cannot be.

    Parameters
    ----------
    path_or_file : str, path or binary file open for reading
        Nothing in it is executed.
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of the index, which must be handed back where its class is not one of
        `deepq.networks`, since files hold the weights only. It is copied and gets those; it must be
        of the class that was written. Ignored where there is no network in the file. For a hash
        table a tuple of two: the embedder's and the hasher's.
    mmap : bool
        Whether the codes stay in the file, mapped into memory that processes share. Such an index
        takes no time to open, and does not change: what would change its codes raises, through
        faiss's composites too, except `reset`, which lets go of the file. A copy is in memory. The
        file must not be changed in place; `write_index` replaces it. Codes in cells are mapped from
        files of `write_index` alone, hash tables not at all.
    verify : "full" or "header"
        "header" checks all but the checksums of codes and lists, as `mmap` does always.

    Raises
    ------
    FormatError
        (ValueError, RuntimeError) If it is not a whole, undamaged index of a known version, or if a
        network must be handed back, or is another than the one that was written.
    OSError
        If the file cannot be read.
    InputError
        If `verify` is another word, or a file object or a hash table is to be mapped.
    StateError
        If codes cannot be mapped with this faiss.
    ImportError
        If the index has a network, and torch is missing.
    """
    if not (isinstance(verify, str) and verify in ("full", "header")):
        raise InputError(f"expected verify='full' or 'header', got {verify!r}")
    if as_flag(mmap, "mmap") and not isinstance(path_or_file, str | os.PathLike):
        raise InputError(f"expected a path with mmap, got a {type(path_or_file).__name__}")
    with opened(path_or_file) as (file, name):
        start = file.read(4)
        if start in faiss_files.INDEXES:
            if mmap:
                mapped.require()
            with _told_as(f"expected {_OF_FAISS} in {name}"):
                return from_nest(faiss_files.parse(Reader(file), encoder, maps=mmap))
        with _told_as(f"expected a deepq index, or {_OF_FAISS} in {name}"):
            if start[:2] in faiss_files.FAMILIES:
                raise FormatError(f"an index of faiss's of the kind {faiss_files.kind_of(start)}")
        with _told_as(f"expected a whole deepq index in {name}"):
            checks = verify == "full" and not mmap
            state = read_state(Reader(file), encoder, maps=mmap, checks=checks)
            cls = class_of(state)
        if mmap and cls is HashTableIndex:
            raise InputError(f"expected mmap=False for a hash table, which is read whole: {name}")
        if mmap:
            (mapped_lists if cls is DeepQuantIVFIndex else mapped).require()
        with _told_as(f"expected a whole deepq index in {name}"):
            return made(state, cls)


@contextmanager
def _told_as(expected: str) -> Iterator[None]:
    """Raise FormatError, which says what was expected, for what is found to be at fault."""
    try:
        yield
    except _FAULTS as error:
        raise FormatError(f"{expected}, got {error}") from error


# ---- writing -------------------------------------------------------------------------------------


def _write(index: AnyIndex, file: BinaryIO) -> None:
    with held(index) as state:
        for piece in pieces(state):
            write_whole(file, piece)
