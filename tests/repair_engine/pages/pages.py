"""Reading a rendered page back: its tables, its text, its elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "col", "link", "img", "input"}


@dataclass
class Page(HTMLParser):
    """Parses strictly: an element that is closed out of order is an error.

    Attributes:
        elements: (tag, attributes) in order.
        tables: caption -> rows of cells, the header row first.
        text: everything that is read, without stylesheets.
    """

    source: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._caption, self._rows = "", []
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in _VOID:
            return
        self._open.append(tag)
        if tag == "table":
            self._caption, self._rows = "", []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open[-1:] == [tag], f"</{tag}> inside {self._open}"
        self._open.pop()
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        if "style" in self._open:
            return
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += (" " if self._open[-1] == "span" else "") + data
        self.text += data

    def table(self, start: str) -> list[dict[str, str]]:
        """Rows of the table whose caption starts so, by column heading."""
        found = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        assert len(found) == 1, f"{start!r} of {list(self.tables)}"
        return [dict(zip(found[0][0], row, strict=True)) for row in found[0][1:]]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]
