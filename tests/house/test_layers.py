"""Who may import whom: the rooms of the package, one line a room; and `import deepq` is light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import deepq

PACKAGE = Path(deepq.__file__).parent

LEAVES = {"networks", "labels", "metrics", "datasets"}
CODES = {"_scan", "_cells", "_decode", "decoders", "quantizers"}
LEARNING = CODES | {"labels", "networks", "encoders", "objectives", "training"}
INDEX = LEARNING | {"index.native", "index"}
BELOW_CLIENTS = INDEX | LEAVES | {"hash_table", "files", "recipes", "evaluation", "factory"}
# A room, and what it may import besides itself and `_common`. A wing that is not built yet has its
# line already.
MAY_IMPORT: dict[str, set[str]] = {
    "_common": set(),
    "_kernels": set(),
    "_scan": set(),
    "_cells": {"_scan"},
    "_decode": {"_scan"},
    **{leaf: set() for leaf in LEAVES},
    "decoders": {"_scan", "_decode"},
    "quantizers": {"_scan", "_decode", "decoders"},
    "encoders": {"decoders", "quantizers", "labels", "networks"},
    "objectives": {"labels"},
    "training": LEARNING - {"training"} | {"metrics"},
    "index.native": {"_cells", "encoders"},
    "index": INDEX - {"index"},
    "hash_table": INDEX,
    "files": {"hash_table", "index", "index.native", "encoders", "quantizers"},
    "recipes": INDEX | {"hash_table"},
    "evaluation": INDEX | {"hash_table", "metrics", "datasets"},
    "factory": INDEX | {"recipes"},
    # Names that older pickles ask for.
    "network_encoder": {"encoders"},
    "state": {"index"},
    **dict.fromkeys(("plots", "distributed", "sklearn"), BELOW_CLIENTS),
    "cli": BELOW_CLIENTS | {"plots"},
}
# Rooms whose fronts may import torch, besides which only single files do.
FRONTS_OF_TORCH = {"networks", "objectives", "recipes"}
FILES_OF_TORCH = {
    *("encoders.network", "network_encoder"),
    *("training.augment", "training.decoding", "training.labelled"),
    *("training.network", "training.optimizers"),
    *("training.peers", "training.whole_batch"),
}
FILES_OF_SKLEARN = {"sklearn"}
HEAVY = {"torch", "sklearn", "scipy.optimize", "matplotlib"}
# Files that are longer than 400 lines, and why.
LONG: dict[str, str] = {
    "_scan": "the compiled door to all kernels; a second extension comes with lists of codes",
    "_cells": "the compiled door to cells: lists, their search, and the nearest ones of a query",
}
MOST_LINES = 400


def name_of(path: Path) -> str:
    """Return the name of a file's module, without ``deepq.``: that of a front is its room's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {
    name_of(path): path
    for path in sorted(PACKAGE.rglob("*.py*"))
    if path.suffix in (".py", ".pyx") and path != PACKAGE / "__init__.py"
}
COMPILED = {path.stem for path in FILES.values() if path.suffix == ".pyx"}


def room_of(name: str) -> str:
    """Return the room that a module stands in; the rooms with lines of their own come first."""
    found = [room for room in MAY_IMPORT if name == room or name.startswith(f"{room}.")]
    return max(found, key=len)


def tree_of(path: Path) -> ast.Module:
    """Parse a file; of one in Cython only the imports of deepq can be."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":
        text = "\n".join(re.findall(r"^(?:from|import) deepq.*$", text, re.MULTILINE))
    return ast.parse(text)


def without_type_checking(tree: ast.Module) -> ast.Module:
    """Drop the blocks `if TYPE_CHECKING:`; annotations may name what stands higher."""
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


def imports_of(path: Path) -> list[str]:
    """Return the modules of deepq, without ``deepq.``, that a file imports, in functions too."""
    found = []
    for node in ast.walk(without_type_checking(tree_of(path))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in {path}"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append(inner if inner.removeprefix("deepq.") in FILES else str(node.module))
    return [name.removeprefix("deepq.") for name in found if name.startswith("deepq.")]


IMPORTS = {name: imports_of(path) for name, path in FILES.items()}
ROOMS = {name for name, path in FILES.items() if path.name == "__init__.py"}


def modules_after(code: str) -> set[str]:
    """Return the names in sys.modules after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_room_imports_what_its_line_allows() -> None:
    wrong = {
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if room_of(other) not in MAY_IMPORT[room_of(name)] | {room_of(name), "_common"}
    }
    assert not wrong


def test_networks_are_for_one_file_of_the_encoders() -> None:
    found = {
        name
        for name, others in IMPORTS.items()
        if room_of(name) == "encoders" and any(room_of(other) == "networks" for other in others)
    }
    assert found == {"encoders.network"}


def test_no_circle_of_files_or_rooms() -> None:
    files = {name: set(others) - {name} for name, others in IMPORTS.items() if name not in ROOMS}
    TopologicalSorter(files).prepare()
    rooms: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for name, others in files.items():
        rooms[room_of(name)] |= {room_of(other) for other in others} - {room_of(name)}
    TopologicalSorter(rooms).prepare()


def test_imports_inside_name_the_file_that_defines() -> None:
    """A front is for users; only a front imports for others."""
    wrong = {
        f"{name} imports the front {other}"
        for name, others in IMPORTS.items()
        for other in others
        if other in ROOMS
    }
    assert not wrong


def test_private_attributes_stay_in_their_room() -> None:
    """`x._name` only in the room that defines `_name`, and `_name` is imported by nobody."""
    homes: dict[str, set[str]] = {}
    uses = []
    for name, path in FILES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] == "_":
                homes.setdefault(node.name, set()).add(room_of(name))
            elif isinstance(node, ast.Name) and node.id[0] == "_":
                homes.setdefault(node.id, set()).add(room_of(name))
            elif isinstance(node, ast.Attribute) and node.attr[0] == "_" != node.attr[1]:
                uses.append((name, node))
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    homes.setdefault(node.attr, set()).add(room_of(name))
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("deepq"):
                names = {alias.name for alias in node.names if alias.name[0] == "_"}
                assert names <= COMPILED | {"_kernels"}, f"{name}: {names}"
    foreign = {
        f"{name}: {ast.unparse(node)}"
        for name, node in uses
        if node.attr in homes and not any(room_of(name) == home for home in homes[node.attr])
    }
    assert not foreign


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_is_long_without_a_reason(name: str) -> None:
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert (lines > MOST_LINES) == (name in LONG)


def test_few_files_stand_outside_of_rooms() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx", ".h")]) <= 12


def test_every_front_explains_its_room() -> None:
    """What it is for, its files in reading order, what it may import, how to add one more."""
    for room in ROOMS:
        doc = ast.get_docstring(tree_of(FILES[room])) or ""
        assert 5 <= len(doc.splitlines()) <= 14, room
        files = [name.rpartition(".")[2] for name in FILES if name.rpartition(".")[0] == room]
        unnamed = [file for file in files if not re.search(rf"\b{file.lstrip('_')}\b", doc)]
        assert not unnamed, f"{FILES[room]} names each file of its room, but {unnamed}"


def test_importing_deepq_is_light() -> None:
    before, after = modules_after("pass"), modules_after("import deepq")
    assert not {name for name in after - before if name.split(".")[0] in {"numpy", "faiss"}}
    assert not after & HEAVY


def test_importing_what_searches_is_light() -> None:
    light = [
        name
        for name in FILES
        if room_of(name) not in FRONTS_OF_TORCH and name not in FILES_OF_TORCH | FILES_OF_SKLEARN
    ]
    assert not modules_after("\n".join(f"import deepq.{name}" for name in light)) & HEAVY
