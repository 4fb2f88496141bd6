"""merged.html: the merged estimates of several parties as one self-contained page."""

from __future__ import annotations

from typing import Any

from repair_engine.pages import rendering
from repair_engine.support.words import count, first_few

Row = dict[str, Any]

_SHOWN = 30  # filters at each end of the table


def render(document: Row) -> str:
    """The page for a merge."""
    listed = [
        ("parties", "Parties", "merge/parties.html"),
        *([("warnings", "Warnings", "notices.html")] if document["warnings"] else []),
        ("differing", "Where they differ", "merge/differing.html"),
        ("filters", "Filters", "merge/filters.html"),
        ("method", "How it was measured", "merge/method.html"),
    ]
    parts = rendering.sections(listed, d=document, **rendering.named(differing_text, ends_of))
    return rendering.page("merge/page.html", parts, d=document)


def ends_of(document: Row) -> list[Row]:
    """The filters of the lowest and of the highest values."""
    known = sorted((f for f in document["filters"] if f["value"] is not None), key=lambda f: f["value"])
    return known if len(known) <= 2 * _SHOWN else [*known[:_SHOWN], *known[-_SHOWN:]]


def differing_text(document: Row) -> str:
    """Which filters have other values at other parties, in sentences."""
    found, tested = document["differing"]["filters"], document["differing"]["tested"]
    if not tested:
        return "Whether parties differ cannot be told: no filter has 30 samples at each."
    if not found:
        return f"No filter differs between the parties by more than sampling error ({tested:,} tested, Holm)."
    return (
        f"{count(len(found), 'filter')} of {tested:,} differ between the parties by more than sampling error "
        f"(Holm, 5%): {first_few(found, 10)}. What is common to all images hides that."
    )
