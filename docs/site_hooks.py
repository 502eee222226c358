"""What the site has besides docs/: the pages of the root, the API, and files that pages link to.

mkdocs calls `on_config`, `on_files` and `on_page_markdown`. So links in README.md and docs/ are
those that a reader of the repository follows, and lead to the same place on the site.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File

import deepq

ROOT = Path(__file__).resolve().parents[1]
OF_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "findings/README.md": "findings.md",
}
# Pages of the API for names of the front door; the others are its modules.
TOPICS = {
    "Indexes": ("index", "factory", "hash_table"),
    "Training": ("training", "labels", "encoders"),
    "Files and faiss": ("files",),
    "Measuring": ("evaluation",),
    "Errors": ("_common",),
}
OF_FILES = {"from_faiss", "to_faiss"}
LINK = re.compile(r"(\]\(|\bsrc=\")([^)\s\"#:]+)(#[^)\s\"]*)?(?=[)\s\"])")
FENCES = {".py": "python", ".sh": "sh", ".c": "c"}


def on_config(config: Any) -> Any:
    """Put the pages of the API into the navigation."""
    for section in config.nav:
        for entry in next(iter(section.values())):
            if isinstance(entry, dict) and "API" in entry:
                entry["API"] = [{"All names": "api/index.md"}, *({t: p} for t, p, _ in api())]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add what is not in docs/."""
    for name, page in OF_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    files.append(File.generated(config, "api/index.md", content=front()))
    for title, page, names in api():
        files.append(File.generated(config, page, content=members(title, names)))
    for path in sorted(linked()):
        kind, text = FENCES.get(path.suffix, ""), path.read_text("utf-8")
        content = f"# {path.relative_to(ROOT).as_posix()}\n\n````{kind}\n{text}\n````\n"
        files.append(File.generated(config, source(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages of the site."""
    uri = page.file.src_uri
    if uri.startswith(("api/", "source/")):
        return markdown
    origin = next((name for name, page in OF_ROOT.items() if page == uri), f"docs/{uri}")
    base = (ROOT / origin).parent
    return LINK.sub(lambda found: found[1] + place(base, found[2]) + (found[3] or ""), markdown)


def place(base: Path, target: str) -> str:
    """Return where the site has what a link in a file of the folder `base` leads to."""
    path = Path(posixpath.normpath((base / target).as_posix()))
    name = path.relative_to(ROOT).as_posix() if ROOT in path.parents else target
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name in OF_ROOT:
        return OF_ROOT[name]
    return source(path) if path.is_file() else target


def source(path: Path) -> str:
    """Return the page of a file of the repository that is none itself."""
    return f"source/{path.relative_to(ROOT).as_posix()}.md"


def linked() -> set[Path]:
    """Files outside of docs/ that pages link to and that are no pages."""
    found = set()
    for page in [*(ROOT / name for name in OF_ROOT), *(ROOT / "docs").glob("*.md")]:
        for _, target, _ in LINK.findall(page.read_text("utf-8")):
            path = Path(posixpath.normpath((page.parent / target).as_posix()))
            own = ROOT / "docs" in path.parents or path in (ROOT / name for name in OF_ROOT)
            if path.is_file() and not own:
                found.add(path)
    return found


def api() -> list[tuple[str, str, list[str]]]:
    """Titles, pages and public names of the API; every name of the front door is on one page."""
    topics: dict[str, list[str]] = {title: [] for title in TOPICS}
    modules = []
    for name in deepq.__all__:
        value = getattr(deepq, name)
        if isinstance(value, ModuleType):
            modules.append(name)
            continue
        room = "files" if name in OF_FILES else value.__module__.split(".")[1]
        title = next(title for title, rooms in TOPICS.items() if room in rooms)
        topics[title].append(where(value))
    pages = [(title, page_of(title), names) for title, names in topics.items()]
    for name in sorted(modules):
        module = getattr(deepq, name)
        shown = [where(getattr(module, member)) for member in public(module)]
        pages.append((f"deepq.{name}", page_of(name), shown))
    return pages


def public(module: ModuleType) -> list[str]:
    """Return the names of classes and functions that a module shows."""
    names = (name for name in module.__all__ if inspect.getmodule(getattr(module, name)))
    return [name for name in names if not isinstance(getattr(module, name), dict)]


def where(value: Any) -> str:
    """Return the place that a class or function is defined at."""
    return f"{value.__module__}.{value.__qualname__}"


def page_of(title: str) -> str:
    """Return the page of a part of the API."""
    return f"api/{title.lower().replace(' ', '_')}.md"


def members(title: str, names: list[str]) -> str:
    """Return a page that shows what is documented in the code."""
    return f"# {title}\n\n" + "\n".join(f"::: {name}\n" for name in names)


def front() -> str:
    """Return a page with all names, and what each is in a line."""
    lines = [
        "# API",
        "",
        "Everything is a name of `deepq`, or of one of its modules. Names with `_` may change.",
        "",
    ]
    for title, page, names in api():
        lines += [f"## {title}", "", "| name | what it is |", "|---|---|"]
        for name in names:
            module, _, short = name.rpartition(".")
            value = getattr(__import__(module, fromlist=[short]), short)
            said = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
            said = said.replace("|", "\\|")
            lines.append(f"| [`{short}`]({page.removeprefix('api/')}#{name}) | {said} |")
        lines.append("")
    return "\n".join(lines)
