"""Why a repair is none, or why filters that were chosen by hand are not shown to help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.documents.edits import is_changed, why_unchanged
from repair_engine.documents.limits import broken_limits, in_points
from repair_engine.support.words import level_of

Row = Mapping[str, Any]


def reasons_of(document: Row) -> list[str]:
    """Sentences; none where the repair is shown to help and, if its filters were chosen by hand, keeps all limits."""
    if not is_changed(document):
        return why_unchanged(document)
    change, verdict = document["gain"], not_shown(document)
    found = []
    if verdict:
        found.append(
            f"On the report images the metric changes by {in_points(change['value'])} with a {level_of(change)} "
            f"interval of {in_points(change['lower'])} to {in_points(change['upper'])}: {verdict}."
        )
    return [*found, *limits_said(document)]


def not_shown(document: Row) -> str:
    """What the report images say of a change that is no improvement; empty of one that is."""
    low, high = document["gain"]["lower"], document["gain"]["upper"]
    if document["metric"]["goal"] == "lower":
        low, high = -high, -low
    return "" if low > 0 else "it got worse" if high < 0 else "an improvement is not shown"


def limits_said(document: Row) -> list[str]:
    """Of filters chosen by hand, to which limits are not applied: a sentence where they break some."""
    if not document.get("by_hand"):
        return []
    broken = broken_limits(document["limits"], document["curve"][0], document["curve"][document["k"]])
    return [f"On the select images a limit is broken: {' and '.join(broken)}."] if broken else []
