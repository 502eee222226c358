"""README.md and docs/: every block runs or is checked, every relative link leads somewhere.

Blocks of Python and bash run, but for those of `ELSEWHERE`, which others run. Blocks marked sh take
hours: the programs and options in them are there. JSON is read, and what a diff adds is Python.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from deepq import datasets
from tests.distributed.alone import ALONE, need_ray

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
OTHERS.append(ROOT / "findings" / "README.md")
# Who runs the bash blocks of a page, where not this file.
ELSEWHERE = {"command_line.md": "tests/cli/test_page.py", "quick_start.md": "make wheels"}
# Pages that start Ray, which runs in a network of its own.
ON_RAY = {"distributed.md"}
# A page runs as it is, but on 1,000 of the 10,000 rows: enough for every line, and sooner done.
RUN = """
import dataclasses, runpy, sys
from deepq import datasets

whole = datasets.wordnet_glosses()
parts = ("train", "train_labels", "base", "base_labels", "base_texts")
few = {name: getattr(whole, name)[:1000] for name in parts}
gt = datasets.exact_neighbours(few["base"], whole.query, whole.gt.shape[1])[1]
few = dataclasses.replace(whole, gt=gt, **few)
datasets.wordnet_glosses = lambda: few
del sys.argv[0]  # so that it is the program's own name
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Pages whose blocks need what is not always there.
NEEDS = {
    "clients.md": ("langchain_community", "llama_index.vector_stores.faiss", "datasets", "lance")
}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)|<img[^>]*\bsrc=\"([^\"]+)\"")

each_page = pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.ray] if page.name in ON_RAY else []) for page in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
each_page_and_other = pytest.mark.parametrize(
    "page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix()
)


def python_only(text: str) -> str:
    """Return the lines of the Python blocks at their places, and blank lines for all others."""
    lines, inside = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        lines.append("" if fence or not inside else line)
        if fence:
            inside = not inside and line.strip() == "```python"
    return "\n".join(lines) + "\n"


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and content of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of all links and images that are not in code."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return [target or source for target, source in LINK.findall(prose)]


def anchors(text: str) -> set[str]:
    """Return the names under which a page's headings can be linked to, by GitHub's rule."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.timeout(7200)  # minutes of training, beside other work on a slow machine
@each_page
def test_the_python_blocks_run(page, tmp_path):
    code = python_only(page.read_text(encoding="utf-8"))
    if not code.strip():
        pytest.skip("no Python block")
    for name in NEEDS.get(page.name, ()):
        pytest.importorskip(name, reason="needs deepq[clients]")
    alone = []
    if page.name in ON_RAY:
        need_ray()
        alone = [str(ALONE)]
    script = tmp_path / page.with_suffix(".py").name  # a line has the same number as in the page
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [*alone, sys.executable, "-c", RUN, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@each_page_and_other
def test_no_block_is_of_a_kind_that_nobody_looks_at(page):
    found = {language for language, _ in blocks(page.read_text(encoding="utf-8"))}
    assert found <= {"python", "bash", "sh", "json", "diff", "text"}


def test_the_commands_of_the_readme_run(tmp_path):
    data = datasets.wordnet_glosses()
    np.save(tmp_path / "queries.npy", data.query[:20])
    column = pa.FixedSizeListArray.from_arrays(pa.array(data.base[:1000].ravel()), data.d)
    parquet.write_table(pa.table({"vector": column}), tmp_path / "base.parquet")
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [text for language, text in blocks(page) if language == "bash"]
    assert lines
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 20


def test_bash_is_run_by_somebody():
    for page in PAGES[1:]:
        languages = {language for language, _ in blocks(page.read_text(encoding="utf-8"))}
        assert ("bash" in languages) == (page.name in ELSEWHERE), page.name


@each_page
def test_what_takes_hours_can_be_called(page):
    """Modules, options and targets of make are there, in blocks and in lines."""
    text = page.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text() for path in (ROOT / "benchmarks").rglob("*.py"))
    for language, content in blocks(text):
        if language == "sh":
            for option in re.findall(r" (--[a-z-]+)", content):
                assert f'"{option}"' in sources, option
    for module in re.findall(r"python -m (benchmarks\.\w[\w.]*)", text):
        assert (ROOT / f"{module.rstrip('.').replace('.', '/')}.py").is_file(), module
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^    |`)make ([a-z0-9-]+)", text, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


@each_page
def test_json_and_diffs_are_what_they_say(page):
    for language, content in blocks(page.read_text(encoding="utf-8")):
        if language == "json":
            json.loads(content)
        if language == "diff":
            for line in content.splitlines():
                ast.parse(line[1:])


@each_page_and_other
def test_relative_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    assert not broken


def test_the_readme_has_an_example_and_links():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "import deepq" in python_only(text)
    assert "docs/faiss_differences.md" in links(text)
