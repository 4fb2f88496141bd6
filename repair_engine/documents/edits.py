"""What a report says of the edit: whether anything was changed, and what its rivals give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.settings import forgets
from repair_engine.support.words import level_of, points

Document = Mapping[str, Any]


def is_changed(document: Document) -> bool:
    """The model was edited, in whatever way; before edits had kinds, some filter was ablated."""
    edit = document.get("edit")
    return bool(edit["used"]) if edit else document["k"] > 0


def clean_words(document: Document, usual: str = "clean accuracy") -> str:
    """What clean accuracy is called: where something is to be forgotten, it is that of all other images."""
    return "accuracy on the retain set" if forgets(str(document["metric"].get("name", ""))) else usual


def is_tuned(document: Document) -> bool:
    """Something was tuned, beside or in the place of ablating."""
    return is_changed(document) and (document.get("edit") or {"used": "ablate"})["used"] != "ablate"


def sign_of(document: Document) -> float:
    """+1 where the metric is to be raised, −1 where it is to be lowered."""
    return -1.0 if document["metric"]["goal"] == "lower" else 1.0


def standing(row: Mapping[str, Any], document: Document) -> int:
    """The repair beside one control on the report images: +1 ahead, −1 behind, 0 not told apart.

    Where p-values were adjusted over all controls they have to agree with the interval. Reports of earlier versions
    have neither for random picks: their range decides.
    """
    sign = sign_of(document)
    if "advantage" not in row:
        mine, picks = sign * document["after"]["report"]["metric"], [sign * v for v in row["metric_range"]]
        return 1 if mine > max(picks) else -1 if mine < min(picks) else 0
    forgetting = document["metric"].get("forgetting")
    if forgetting and max(row["metric"], document["after"]["report"]["metric"]) <= forgetting["chance"]["report"]:
        return 0  # below chance nothing more is forgotten
    advantage = row["advantage"]
    if advantage.get("p_holm", 0.0) >= 1 - advantage.get("level", 0.95):
        return 0
    low, high = sorted((sign * advantage["lower"], sign * advantage["upper"]))
    return 1 if low > 0 else -1 if high < 0 else 0


def rivals_said(document: Document) -> str:
    """Which controls are shown to gain over the intact model on the report images, in one sentence."""
    sign, shown, listed = sign_of(document), [], [row for row in document["controls"] if "gain" in row]
    for row in listed:
        gain = row["gain"]
        if min(sign * gain["lower"], sign * gain["upper"]) > 0 and gain["p_holm"] < 1 - gain["level"]:
            ends = f"{points(gain['lower'])} to {points(gain['upper'])}"
            shown.append(f"{row['name']} {points(gain['value'])} points ({level_of(gain)} interval {ends})")
    if not listed:
        return ""
    if not shown:
        return (
            f"None of the {len(listed)} controls is shown to gain on the report images under the same limits, either."
        )
    return f"On the same report images, under the same limits, these would gain: {'; '.join(shown)}."


def within_noise(document: Document) -> Mapping[str, Any] | None:
    """An order of removal that was tried and gained on the select images, though not more than noise explains."""
    start, sign = document["curve"][0]["objective"], sign_of(document)
    rows = [row for row in (document.get("orders") or {}).get("rows", []) if row["k"]]
    best = max(rows, key=lambda row: sign * row["select"], default=None)
    return best if best is not None and sign * (best["select"] - start) > 0 else None
