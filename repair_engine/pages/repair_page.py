"""report.html: the report document as one self-contained page, without scripts or outside resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repair_engine.pages import attacks, groups, method, results
from repair_engine.pages.markup import Markup, element, join, name
from repair_engine.pages.repair_wording import title

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(document: dict[str, Any]) -> str:
    """The page for a report document (see `documents.report_document`)."""
    sections = [
        ("figures", "At a glance", results.figures(document)),
        ("notices", "Findings and warnings", results.notices(document)),
        ("groups", "Groups", groups.groups(document)),
        ("controls", "Controls", results.controls(document)),
        ("choice", "Choice of the number of filters", results.curve(document)),
        ("culprits", "Culprits", results.culprits(document)),
        ("method", "How it was measured", method.measured(document)),
        ("verification", "Verification", method.verification(document)),
        ("limits", "Limits", method.limits(document)),
        ("files", "Files and versions", method.files(document)),
        ("not-players", "Not players", method.not_players(document)),
    ]
    if "attack" in document:
        sections.insert(6, ("attack", "Attack", attacks.attack(document)))
    if "compact" in document:
        sections.insert(-2, ("compact", "Compact export", method.compact(document)))
    model, data = document["model"], document["data"]
    contents = element("ul", *(element("li", element("a", h, href=f"#{i}")) for i, h, _ in sections))
    body = join(
        (
            element("p", "Repair report: ", name(model["file"]), " on ", name(data["file"]), class_="kicker"),
            results.outcome(document),
            element("nav", contents, aria_label="Contents"),
            *(element("section", element("h2", h, id=i), part, aria_labelledby=i) for i, h, part in sections),
        )
    )
    return page(f"{title(document)}: {model['file']}", body)


def page(heading: str, body: Markup, pictures: bool = False) -> str:
    """A whole HTML document around `body`, with the stylesheets inside.

    Args:
        pictures: the body embeds images as data URLs.
    """
    policy = f"{_POLICY}; img-src data:" if pictures else _POLICY
    head = join(
        (
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", heading),
            element("style", Markup(stylesheet())),
        )
    )
    return "<!doctype html>\n" + element(
        "html", element("head", head), element("body", element("main", body)), lang="en"
    )


def stylesheet() -> str:
    folder = Path(__file__).parent
    return "\n".join((folder / sheet).read_text(encoding="utf-8") for sheet in ("report.css", "charts.css"))
