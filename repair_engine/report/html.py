"""report.html: the report document as one self-contained page."""

from __future__ import annotations

from typing import Any

from repair_engine.report.markup import Markup, bullets, definitions, element, join, name, table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color-scheme: light dark }
table { border-collapse: collapse } th, td { padding: .2rem .6rem; border-bottom: 1px solid #8886; text-align: left }
.num { text-align: right } .scroll { overflow-x: auto } dd { overflow-wrap: anywhere }
"""


def render(document: dict[str, Any]) -> str:
    """The page for a report document (see `documents.report_document`)."""
    repaired = document["outcome"] == "repaired"
    title = "Repaired" if repaired else "No repair found"
    gain, before, after = document["gain"], document["before"]["report"], document["after"]["report"]
    parts = [
        element("h1", title),
        element(
            "p",
            f"{document['metric']['text']}: {before['metric']:.1%} before, {after['metric']:.1%} after, "
            f"change {gain['value']:+.1%} (95% interval {gain['lower']:+.1%} to {gain['upper']:+.1%}).",
        ),
        bullets([*document["reasons"], *document.get("findings", []), *document["warnings"]]),
    ]
    for heading, rows in document["groups"].items():
        parts.append(
            table(
                heading.capitalize(),
                ("name", "n", "before", "after", "change", "p (Holm)"),
                [
                    (name(r["name"]), r["n"], f"{r['before']:.1%}", f"{r['after']:.1%}", f"{r['change']:+.1%}",
                     f"{r['p_holm']:.3g}")
                    for r in rows
                ],
                range(1, 6),
            )
        )  # fmt: skip
    parts.append(
        table(
            "Culprits",
            ("filter", "value", "samples", "ablated"),
            [(r["id"], r["value"], r["samples"], "yes" if r["ablated"] else "no") for r in document["culprits"]],
            (1, 2),
        )
    )
    parts.append(definitions(document["run"].items()))
    return page(title, join(parts))


def page(title: str, body: Markup) -> str:
    head = join(
        (
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", title),
            element("style", Markup(_STYLE)),
        )
    )
    return "<!doctype html>\n" + element(
        "html", element("head", head), element("body", element("main", body)), lang="en"
    )
