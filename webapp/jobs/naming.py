"""What a run is called: the name it was given, or what was asked of which model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REPAIR, BY_HAND, EXPLAIN, SCORE, ATTACK = "repair", "by-hand", "explain", "score", "attack"
KINDS = {
    REPAIR: "repair",
    BY_HAND: "repair by hand",
    EXPLAIN: "explanation",
    SCORE: "valuation",
    ATTACK: "attack",
}


def kind_of(request: Mapping[str, Any]) -> str:
    """A key of KINDS: the verb, and whether its filters were chosen by hand."""
    return BY_HAND if request.get("filters") else request.get("kind") or REPAIR


def metric_words(metric: str) -> str:
    """`subgroup-recall:ground` as people say it."""
    name, _, argument = (metric or "").partition(":")
    return {
        "recall": f"recall of {argument}",
        "subgroup-recall": f"subgroup-fair recall over {argument}",
        "attack-success": "attack success",
        "trigger-success": f"trigger for {argument}",
        "hidden-trigger": f"hidden trigger{f' for {argument}' if argument else ''}",
        "forget": f"forgetting {argument}",
        "corrupted-accuracy": "accuracy under " + (_kinds(argument) if argument else "corruptions"),
    }.get(name, name)


def _kinds(argument: str) -> str:
    return ", ".join(kind.strip().replace("_", " ") for kind in argument.split(","))


def asked_words(request: Mapping[str, Any], audited: bool = False) -> str:
    """What was asked, without of what.

    Args:
        audited: of an attack: it is made on a repair, too.
    """
    if request.get("kind") == ATTACK:
        return "Attack, before and after a repair" if audited else "Attack"
    chosen = len(request.get("filters", ()))
    by_hand = f", {chosen} filter{'' if chosen == 1 else 's'} by hand" if chosen else ""
    words = metric_words(request.get("metric", ""))
    return f"{words[:1].upper()}{words[1:]}{by_hand}"


def title(name: str, request: Mapping[str, Any], model: str, audited: bool = False) -> str:
    """The run's name; where it has none, what was asked of `model`."""
    if name:
        return name
    if request.get("kind") == ATTACK:
        return f"Attack: {model}" + (" and its repair" if audited else "")
    return f"{asked_words(request)}: {model}"
