"""What faiss reads, clones and casts of our indexes is theirs again, for programs that ask for it.

Other people's programs save and load by `faiss.write_index` and `faiss.read_index`, and get a plain
chain of faiss's. `patch_faiss` puts functions of ours in the places of those, which call them, and
change the result where it was made of an index of ours. `faiss.deserialize_index`,
`faiss.serialize_index` and pickles of composites call these functions.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import faiss

from deepq._common.errors import KindError
from deepq.encoders.base import Encoder
from deepq.index.native import called
from deepq.index.revival import clone, revive, unchanged


class _Wish(NamedTuple):
    """That faiss be patched, by somebody who may hand a network back."""

    encoder: Any
    stays: bool


_Function = Callable[..., Any]

_lock = threading.Lock()
_wishes: list[_Wish] = []
_placed: dict[str, tuple[_Function, _Function]] = {}  # what was there, and what is there now


def patch_faiss(encoder: Any = None) -> None:
    """Let faiss's functions give back indexes of ours where a file or an object is one.

    From here on, in the whole process and until `unpatch_faiss`, ``faiss.read_index`` and
    ``faiss.deserialize_index`` make a DeepQuantIndex or DeepQuantIVFIndex of what
    ``faiss.write_index`` saved of one, with its re-ranking and its encoder, also inside
    IndexIDMap, IndexIDMap2, IndexPreTransform and IndexRefineFlat. ``faiss.clone_index`` copies
    them whole, ``faiss.downcast_index`` finds the one that a composite has inside, and while
    ``faiss.write_index`` writes one, changes of it wait. Other indexes and errors are those of
    faiss. Calling it again changes no more than `encoder`.

    Parameters
    ----------
    encoder : torch.nn.Module or NetworkEncoder, optional
        The network of indexes that are read, where its class is not one of `deepq.networks`: see
        `read_index`, which tells what else a file may hold.

    Raises
    ------
    KindError
        If `encoder` is neither.

    Notes
    -----
    A function that a program has imported by its name before (``from faiss import read_index``)
    stays as it was. Files are read by faiss, which believes what they say of themselves; what is
    ours in them is checked as in our own files, and raises FormatError.
    """
    with _lock:
        wish = _Wish(_as_network(encoder), stays=True)
        _wishes[:] = [wish, *(each for each in _wishes if not each.stays)]
        _settle()


def unpatch_faiss() -> None:
    """Undo `patch_faiss`: faiss's functions are its own again. Indexes stay what they are."""
    with _lock:
        _wishes[:] = [wish for wish in _wishes if not wish.stays]
        _settle()


@contextmanager
def patched_faiss(encoder: Any = None) -> Iterator[None]:
    """Do as `patch_faiss` does as long as a context lasts, in all threads."""
    wish = _Wish(_as_network(encoder), stays=False)
    with _lock:
        _wishes.append(wish)
        _settle()
    try:
        yield
    finally:
        with _lock:
            _wishes.remove(wish)
            _settle()


def _as_network(value: Any) -> Any:
    torch = sys.modules.get("torch")  # without which there is no module
    is_module = torch is not None and isinstance(value, torch.nn.Module)
    if not (value is None or is_module or isinstance(value, Encoder)):
        raise KindError(f"expected a torch.nn.Module or NetworkEncoder, got {type(value).__name__}")
    return value


def _settle() -> None:
    """Put functions into faiss, or take ours out, as is wished now. The lock is held."""
    if _wishes and not _placed:
        for name, ours in _FUNCTIONS.items():
            theirs = getattr(faiss, name)
            _placed[name] = theirs, _in_place_of(theirs, ours)
            setattr(faiss, name, _placed[name][1])
    elif _placed and not _wishes:
        for name, (theirs, placed) in _placed.items():
            if getattr(faiss, name) is placed:  # and not what somebody has put around it
                setattr(faiss, name, theirs)
        _placed.clear()


def _in_place_of(theirs: _Function, ours: _Function) -> _Function:
    """Return what calls `ours` with `theirs` and the arguments as long as that is wished."""

    @wraps(theirs)
    def call(*args: Any, **kwargs: Any) -> Any:
        return ours(theirs, *args, **kwargs) if _wishes else theirs(*args, **kwargs)

    return call


# ---- what is called instead ----------------------------------------------------------------------


def _read_index(theirs: _Function, *args: Any, **kwargs: Any) -> Any:
    given = (wish.encoder for wish in reversed(_wishes) if wish.encoder is not None)
    return revive(theirs(*args, **kwargs), next(given, None))


def _write_index(theirs: _Function, *args: Any, **kwargs: Any) -> Any:
    if not args or not isinstance(args[0], faiss.Index):
        return theirs(*args, **kwargs)
    with unchanged(args[0]):
        return theirs(*args, **kwargs)


def _clone_index(theirs: _Function, *args: Any, **kwargs: Any) -> Any:
    if len(args) == 1 and not kwargs and isinstance(args[0], faiss.Index):
        return clone(args[0], theirs)
    return theirs(*args, **kwargs)


def _downcast_index(theirs: _Function, *args: Any, **kwargs: Any) -> Any:
    found = theirs(*args, **kwargs)
    living = called.living(found) if isinstance(found, faiss.IndexPreTransform) else None
    return found if living is None else living


_FUNCTIONS: dict[str, _Function] = {
    "read_index": _read_index,
    "write_index": _write_index,
    "clone_index": _clone_index,
    "downcast_index": _downcast_index,
}
