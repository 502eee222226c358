"""Pickles that would run code, take all memory, or never end."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepq
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.saving import two_indexes

_MARK = "executed"

Loader = tuple[Callable[[Any], Any], type[Exception]]  # and what it raises to refuse

# faiss leaves it to Python.
LOADERS: dict[str, Loader] = {
    "deepq": (deepq.load_pickle, deepq.FormatError),
    "faiss": (lambda path: pickle.load(io.BytesIO(path.read_bytes())), Exception),
}


class _Calls:
    """Pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def _named(module: str, name: str, argument: str) -> bytes:
    """Call a function by its name, which may be dotted in protocol 4."""
    texts = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name, argument)
    )
    cut = 4 + len(module) + len(name)
    return b"\x80\x04" + texts[:cut] + b"\x93" + texts[cut:] + b"\x85R."


def hostile(index: deepq.DeepQuantIndex, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield files; those that run code leave a mark in the folder."""
    mark = str(folder / _MARK)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield "a call of open", pickle.dumps(_Calls(open, mark, "w"), protocol)
        yield "a call inside", pickle.dumps({"index": [index, _Calls(open, mark, "w")]}, protocol)
    yield "a shell", b"cos\nsystem\n(S'touch " + mark.encode() + b"'\ntR."
    yield "an old instance", b"(S'touch " + mark.encode() + b"'\nios\nsystem\n."
    code = f"open({mark!r}, 'w')"
    for module, name in (("builtins", "eval"), ("builtins", "exec")):
        yield f"a call of {name}", _named(module, name, code)
    touch = f"touch {mark}"
    for module, name in (
        ("deepq.io", "os.system"),
        ("deepq.state", "dataclasses.sys.modules"),
        ("deepq.io", "Path.touch"),
        ("deepq.index", "DeepQuantIndex.__init__.__globals__"),
        ("numpy", "load"),
        ("importlib", "import_module"),
    ):
        yield f"by way of {module}.{name}", _named(module, name, touch)
    yield "a huge text", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x"
    yield "huge bytes", b"\x80\x04\x8e" + struct.pack("<Q", (1 << 63) - 1) + b"x"
    yield "a huge frame", b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"."
    yield "a huge memo", b"\x80\x04Nr" + struct.pack("<I", (1 << 32) - 1) + b"."
    yield "deep lists", b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "nothing", b""
    whole = pickle.dumps(index, 5)
    for part in range(1, 10):
        yield "a part of a pickle", whole[: len(whole) * part // 10]


def tried(loader: Loader, content: bytes, folder: Path) -> str:
    """Load it in a child: "refused", or worse."""
    load, refusal = loader
    path = folder / "hostile.pickle"
    path.write_bytes(content)

    def work() -> str:
        try:
            load(path)
        except MemoryError:
            return "out of memory"
        except refusal:
            return "refused"
        except Exception:
            return "another error"
        return "loaded"

    try:
        said = in_child(work, seconds=5)
    except CrashError:
        said = "crash"
    except HangError:
        said = "hang"
    mark = folder / _MARK
    if mark.exists():
        mark.unlink()
        return "code executed"
    return str(said)


def outcomes(loader: Loader, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what came of every one."""
    index = two_indexes("deepq", 800)[0]
    for name, content in hostile(index, folder):
        yield name, tried(loader, content, folder)
