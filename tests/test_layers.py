"""The floors of the package: a module imports only from lower ones, and `import deepq` is light."""

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

# Modules of one floor may import each other as long as there is no cycle.
FLOORS = [
    {
        *("_scan", "_bridge", "_mapped", "_reference", "_checks", "_tensors", "_threads"),
        *("_tree", "_binary"),
        *("_rows", "_report", "_schedule", "_presets", "settings", "_relevance", "metrics"),
        *("_vector_files", "_image_files", "_image_lists"),
        *("_augment", "_optimizers", "_backbones", "_heads", "_device"),
        *("_torch_data", "_losses", "supervision"),
    },
    {"decoders", "quantizers"},
    {
        *("_rotation", "encoders", "networks", "network_encoder"),
        *("_kernel_hashing", "kernel_hash", "_similarity_codes", "_triplet_codes"),
        *("_neighbours", "_numbering", "_rerank", "_validation", "_structure"),
    },
    {"_objective", "_code_objectives", "objectives", "_ranking", "_decoding"},
    {
        *("trainer", "_stages", "_supervised", "_network_training", "_inputs", "_checkpoint"),
        *("_native", "_foreign", "_mapping", "_plain", "_faiss_files"),
    },
    {"_store", "_search", "_surface", "search_parameters", "state", "index", "ivf", "hashtable"},
    {
        *("_recipe_parts", "_hashing_recipes", "recipes"),
        *("io", "interop", "evaluation", "suggestion", "plots", "datasets", "distributed"),
    },
    {"cli", "__main__"},
]
HEAVY = ["torch", "sklearn", "scipy.optimize", "matplotlib"]
USE_TORCH = {
    *("networks", "network_encoder", "objectives", "recipes"),
    *("_augment", "_backbones", "_decoding", "_device", "_heads", "_optimizers"),
    *("_code_objectives", "_losses", "_objective", "_hashing_recipes", "_recipe_parts"),
    *("_network_training", "_supervised"),
}


def without_type_checking(tree: ast.Module) -> ast.Module:
    """Drop the blocks `if TYPE_CHECKING:`; annotations may name what stands higher."""
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return tree


def imported_modules(path: Path) -> set[str]:
    """Return the modules of deepq that a file imports at run time, in functions too."""
    found = set()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":  # only its Python imports can be parsed
        text = "\n".join(re.findall(r"^(?:from|import) deepq.*$", text, re.MULTILINE))
    for node in ast.walk(without_type_checking(ast.parse(text))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "deepq" if node.level else ""
            module = ".".join(part for part in (module, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("deepq.")}
    return found


def module_imports() -> dict[str, set[str]]:
    paths = [*PACKAGE.glob("*.py"), *PACKAGE.glob("*.pyx")]
    files = {p.stem: p for p in paths if p.stem != "__init__"}
    known = files.keys() | set().union(*FLOORS)
    return {name: imported_modules(path) & known for name, path in sorted(files.items())}


def floor_of(name: str) -> int:
    return next((floor for floor, names in enumerate(FLOORS) if name in names), len(FLOORS))


def modules_after(code: str) -> set[str]:
    """Return the names in sys.modules after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_every_module_has_a_floor():
    assert module_imports().keys() <= set().union(*FLOORS)


def test_no_import_goes_upwards():
    upwards = {
        f"{name} imports {other}"
        for name, others in module_imports().items()
        for other in others
        if floor_of(other) > floor_of(name)
    }
    assert not upwards


def test_no_cycles():
    TopologicalSorter(module_imports()).prepare()


def test_importing_deepq_is_light():
    before, after = modules_after("pass"), modules_after("import deepq")
    assert not {name for name in after - before if name.split(".")[0] in {"numpy", "faiss"}}
    assert not after & set(HEAVY)


@pytest.mark.parametrize("module", sorted(module_imports()))
def test_importing_a_module_is_light(module):
    heavy = set(HEAVY) - ({"torch"} if module in USE_TORCH else set())
    assert not modules_after(f"import deepq.{module}") & heavy


def test_public_names():
    for name in deepq.__all__:
        assert getattr(deepq, name) is not None
    assert set(deepq.__all__) <= set(dir(deepq))
    assert "__version__" in dir(deepq)


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'deepq' has no attribute 'nothing'"):
        deepq.nothing  # noqa: B018
