"""Records to HTML: templates that escape whatever is put into them, and the page around their sections."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from repair_engine.documents.edits import clean_words
from repair_engine.documents.known import row_known, unknown_words
from repair_engine.support import words
from repair_engine.support.statistics import IntervalRecord

_HERE = Path(__file__).parent
# Control characters are not allowed in HTML; bidirectional overrides can make a name read as another one.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Section:
    """A part of a page, for a file of its own and for the web application."""

    ident: str
    heading: str
    body: Markup


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= named(
        words.percent, words.points, words.level_of, words.decimal, words.count, words.p_value, interval, ends
    )
    made.filters["grouped"] = "{:,}".format
    made.globals |= named(row_known, unknown_words, words.digits_for, clean_words)
    made.globals["ui"] = made.get_template("macros.html").module
    return made


def render(template: str, **shown: Any) -> Markup:
    """A template with what it shows; strings are escaped unless they are Markup."""
    return clean(_environment().get_template(template).render(shown))


def clean(html: str) -> Markup:
    """HTML without the characters that may not stand in it."""
    return Markup(printable(html))


def printable(text: str) -> str:
    """A text without the same characters."""
    return _UNPRINTABLE.sub("\ufffd", text)


def sections(listed: Iterable[tuple[str, str, str]], **shown: Any) -> list[Section]:
    """The parts of a page, from (id, heading, template) each."""
    return [Section(ident, heading, render(template, **shown)) for ident, heading, template in listed]


def stylesheet() -> Markup:
    return Markup("\n".join((_HERE / sheet).read_text(encoding="utf-8") for sheet in ("report.css", "charts.css")))


def page(template: str, parts: Iterable[Section], **shown: Any) -> str:
    """A whole page around the sections, self-contained and without scripts; `template` extends page.html."""
    return str(render(template, sections=list(parts), styles=stylesheet(), **shown))


def named(*shown: Any) -> dict[str, Any]:
    """Functions for a template, by their names."""
    return {one.__name__: one for one in shown}


def interval(change: IntervalRecord) -> str:
    """The interval of a change, in points."""
    return f"{words.points(change['lower'])} to {words.points(change['upper'])}"


def ends(pair: Iterable[float]) -> str:
    """The ends of an interval of a share."""
    low, high = pair
    return f"{words.percent(low)} – {words.percent(high)}"
