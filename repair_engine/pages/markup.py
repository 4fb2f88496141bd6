"""HTML and SVG as strings that are escaped unless they are already markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

# Control characters are not allowed in HTML; bidirectional overrides can make a name read as another one.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_VOID = frozenset({"meta", "br", "hr", "col", "img"})


class Markup(str):
    """A string that is safe to put into a page as it is."""

    __slots__ = ()


def text(value: object) -> Markup:
    """`value` escaped for element content and quoted attributes; Markup passes through."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def join(parts: Iterable[object], separator: str = "") -> Markup:
    """The parts, escaped where needed, one after the other."""
    return Markup(separator.join(text(p) for p in parts))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element; `class_` becomes class, `aria_label` aria-label; None and False leave an attribute out."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name = key.rstrip("_").replace("_", "-")
        written.append(f" {name}" if value is True else f' {name}="{text(value)}"')
    opened = f"<{tag}{''.join(written)}>"
    return Markup(opened if tag in _VOID else f"{opened}{join(children)}</{tag}>")


def table(
    caption: object, header: Sequence[object], rows: Iterable[Sequence[object]], numeric: Iterable[int] = ()
) -> Markup:
    """A table in a box that scrolls sideways; the first cell of a row is its header.

    Args:
        numeric: columns that are aligned to the right.
    """
    right = frozenset(numeric)

    def side(column: int) -> str | None:
        return "num" if column in right else None

    head = join(element("th", cell, scope="col", class_=side(i)) for i, cell in enumerate(header))
    body = []
    for row in rows:
        cells = [element("th", row[0], scope="row", class_=side(0))]
        cells += [element("td", cell, class_=side(i)) for i, cell in enumerate(row[1:], 1)]
        body.append(element("tr", *cells))
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", head)),
        element("tbody", *body),
    )
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=_plain(caption))


def definitions(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A list of terms and what they are here."""
    return element("dl", *(element("div", element("dt", k), element("dd", v)) for k, v in pairs))


def bullets(items: Iterable[object], class_: str | None = None) -> Markup:
    return element("ul", *(element("li", item) for item in items), class_=class_)


def details(summary: object, *children: object) -> Markup:
    return element("details", element("summary", summary), *children)


def name(value: object) -> Markup:
    """A name that a user chose, kept apart from the direction of the text around it."""
    return element("bdi", value)


def _plain(caption: object) -> str:
    from html import unescape

    return unescape(re.sub(r"<[^>]*>", "", str(caption))) if isinstance(caption, Markup) else str(caption)
