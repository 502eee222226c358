"""What a release says of itself: one version everywhere, a whole site, tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import deepq

ROOT = Path(__file__).resolve().parents[2]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_is_one_version():
    assert re.search(r"^## \[(\d[\w.]*)\]", text_of("CHANGELOG.md"), re.M)[1] == deepq.__version__
    assert f"\nversion: {deepq.__version__}\n" in text_of("CITATION.cff")


def test_every_page_is_in_the_navigation():
    """Those of the root and of the API are made by docs/site_hooks.py."""
    listed = re.findall(r": ([\w/]+\.md)$", text_of("mkdocs.yml"), re.M)
    assert len(listed) == len(set(listed))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    made = {"index.md", "security.md", "contributing.md", "changelog.md", "api/index.md"}
    assert set(listed) == pages | made


def test_tests_that_pages_name_are_there():
    named = set()
    for page in (ROOT / "docs").glob("*.md"):
        named |= set(re.findall(r"`(tests/[\w/]+\.(?:py|c|sh))(?:::(\w+))?`", page.read_text()))
    assert any(function for _, function in named)
    for path, function in named:
        assert not function or f"def {function}(" in text_of(path), (path, function)
        assert (ROOT / path).is_file(), path


def test_sixteen_wishes_are_answered_by_name():
    rows = re.findall(r"^\| (\d+) \| .* \| (.+#\d+.*) \| (.+) \|$", text_of("docs/wishes.md"), re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, 17))
    assert all(
        re.search(r"\]\([\w./]+(#[\w-]+)?\)", answer) or "#" in answer for *_, answer in rows
    )


def test_templates_name_pages_that_are_there():
    for template in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        for page in re.findall(r"docs/[\w]+\.md|[A-Z]+\.md", template.read_text()):
            assert (ROOT / page).is_file(), page
