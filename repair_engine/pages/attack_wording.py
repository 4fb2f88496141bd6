"""What an attack found, in sentences that say no more than was measured."""

from __future__ import annotations

from typing import Any

from repair_engine.pages.attacks import settings_text
from repair_engine.pages.repair_wording import count
from repair_engine.pages.svg import percent

Document = dict[str, Any]


def title(document: Document) -> str:
    """What was attacked."""
    if "repaired" in document:
        return "What adversaries achieve before and after the repair"
    return "What adversaries achieve"


def headline(document: Document) -> list[str]:
    """The answer in two or three sentences, the most important first."""
    out = [_on_the_model(document)]
    if document["rows"]:
        out.append(_after_the_repair(document))
    if warning := sum(test["warns"] for test in document["self_tests"]):
        tests = f"{warning} of {count(len(document['self_tests']), 'self-test')}"
        out.append(f"{tests} warn: these figures may understate what an adversary can do.")
    return out


def _on_the_model(document: Document) -> str:
    figures, attack = document["figures"], document["attack"]
    hit, clean, under = (figures[key] for key in ("success", "clean_accuracy", "accuracy_under_attack"))
    if attack["epsilon"] == 0:
        return "With ε = 0 an adversary may change nothing: this run tests the measurement itself and no adversary."
    return (
        f"{settings_text(attack)} wins {percent(hit['value'])} of {count(hit['n'], 'attacked image')} (95% interval "
        f"{percent(hit['lower'])} to {percent(hit['upper'])}). Accuracy on the {count(clean['n'], 'image')} that were "
        f"picked is {percent(clean['value'])} on clean and {percent(under['value'])} on attacked pixels."
    )


def _after_the_repair(document: Document) -> str:
    rows = {row["kind"]: row for row in document["rows"] if row["success"] is not None}
    replay, fresh = rows["replay"], rows["white-box"]
    before, after = document["figures"]["clean_accuracy"]["value"], document["clean_after"]["accuracy"]["value"]
    return (
        f"On the repaired model the fixed set wins {percent(replay['success'])} instead of "
        f"{percent(replay['before']['success'])}; an adversary who attacks the repaired model anew wins "
        f"{percent(fresh['success'])}. Clean accuracy: {percent(before)} before, {percent(after)} after."
    )
