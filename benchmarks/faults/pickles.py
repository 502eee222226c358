"""Pickles that ask for more than the data of an index; what they call leaves a mark and no more."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepq
from benchmarks.faults.children import CrashError, HangError, in_child
from benchmarks.faults.saving import two_indexes

_MARK = "executed"
_LENGTHS = {"a text": pickle.BINUNICODE8, "bytes": pickle.BINBYTES8, "a frame": pickle.FRAME}


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
    yield "a call by name", b"cos\nmkdir\n(S'" + mark.encode() + b"'\ntR."
    yield "an old instance", b"(S'" + mark.encode() + b"'\nios\nmkdir\n."
    code = f"open({mark!r}, 'w')"
    for module, name in (("builtins", "eval"), ("builtins", "exec")):
        yield f"a call of {name}", _named(module, name, code)
    for module, name in (
        ("deepq.files.pickles", "os.mkdir"),
        ("deepq.files.format", "Path.touch"),
        ("deepq.index", "DeepQuantIndex.__init__"),
        ("numpy", "load"),
        ("importlib", "import_module"),
    ):
        yield f"by way of {module}.{name}", _named(module, name, mark)
    for name, instruction in _LENGTHS.items():
        yield (
            f"{name} that is not there",
            b"\x80\x04" + instruction + struct.pack("<Q", 1 << 24) + b".",
        )
    yield "a far place", b"\x80\x04Nr" + struct.pack("<I", 1 << 16) + b"."
    yield "deep lists", b"\x80\x04" + b"]" * 1000 + b"a" * 999 + b"."
    yield "nothing", b""
    whole = pickle.dumps(index, 5)
    for part in range(1, 10):
        yield "a part of a pickle", whole[: len(whole) * part // 10]


def tried(content: bytes, folder: Path) -> str:
    """Load it in a child: "refused", or worse."""
    path = folder / "hostile.pickle"
    path.write_bytes(content)

    def work() -> str:
        try:
            deepq.load_pickle(path)
        except MemoryError:
            return "out of memory"
        except deepq.FormatError:
            return "refused"
        except Exception:
            return "another error"
        return "loaded"

    try:
        said = in_child(work)
    except CrashError:
        said = "crash"
    except HangError:
        said = "hang"
    mark = folder / _MARK
    if mark.exists():
        mark.rmdir() if mark.is_dir() else mark.unlink()
        return "code executed"
    return str(said)


def outcomes(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what came of every one."""
    index = two_indexes(800)[0]
    for name, content in hostile(index, folder):
        yield name, tried(content, folder)
