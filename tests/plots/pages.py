"""A page read by Python's own parser: every element closed, and what it holds."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page, in order, and its text.

    Attributes
    ----------
    elements : list of (tag, attributes)
    text : str
        What is written outside of styles.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._written: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"{self._open} are not closed"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open, f"{tag} is closed, and was not opened"
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self._written.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._written).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of all elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [a[attribute] for _, a in self.elements if attribute in a]
