"""The sentences of a report about a backdoor's trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.documents.edits import is_changed
from repair_engine.support.words import count, percent

if TYPE_CHECKING:
    from repair_engine.documents.records import RepairRecord


def trigger_said(document: RepairRecord) -> str:
    """What the trigger is and which images carry it, in a sentence or two."""
    part, left_out = document["metric"]["trigger"], document["trigger"]["left_out"]["report"]
    out = f" {count(left_out, 'report image')} of this class {'is' if left_out == 1 else 'are'} not counted."
    if is_hidden(document):
        return (
            f"The class that is suspected is {part['class']}. Its trigger is not known: one was reconstructed from the "
            f"clean score images, and is pasted on all.{out if left_out else ''}"
        )
    if part["size"] is None or part["at"] is None:
        copies = part["copies"] or 0
        known = f"; {copies:,} are known to be copies of clean ones, and lie in their splits" if copies else ""
        how = f"{part['images'] or 0:,} images of {part['file']} carry it{known}."
    else:
        (width, height), (x, y) = part["size"], part["at"]
        opacity = "" if part["opacity"] == 1 else f", at an opacity of {part['opacity']:g}"
        how = (
            f"{part['file']}, {width} × {height} pixels of the network's input, is pasted {x} from the left and {y} "
            f"from the top{opacity}."
        )
    return f"The trigger gives {part['class']}: {how}{out if left_out else ''}"


def without_said(document: RepairRecord) -> str:
    """How often the trigger's class is said without it: success at that level is no trigger's."""
    found, name = document["trigger"]["without"], document["metric"]["trigger"]["class"]
    if "before" not in found:
        return "The report split has no clean image of other classes."
    after = f", {percent(found['after']['value'])} after the repair" if "after" in found else ""
    return (
        f"Without the trigger {name} is said of {percent(found['before']['value'])} of "
        f"{count(found['before']['n'], 'clean image')} of other classes by the intact model{after}: taking a trigger's "
        "effect away brings attack success to about that."
    )


NOT_MEASURED = (
    "Not measured on a trigger: this one was reconstructed from clean images, and what it stands for may keep its "
    "effect. "
    "Images that carry the trigger would tell: give them for the report."
)


def is_hidden(document: RepairRecord) -> bool:
    """The trigger was reconstructed."""
    return "reconstructed" in (document["metric"].get("trigger") or {})


def known_said(document: RepairRecord) -> str:
    """What the trigger that was given does before and after a repair that did not see it; "" where none was given."""
    known = document["trigger"].get("known") if "trigger" in document else None
    if not known or len(known["rows"]) < 2:
        return ""
    (before, after), name = known["rows"], document["metric"]["trigger"]["class"]
    return (
        f"The trigger of {known['file']}, which the repair did not see, gives {name} on "
        f"{percent(after['success']['value'])} of {count(after['success']['n'], 'report image')} (before: "
        f"{percent(before['success']['value'])}), and {percent(after['true_label']['value'])} keep their true label "
        f"(before: {percent(before['true_label']['value'])})."
    )


def success_said(document: RepairRecord) -> str:
    """Of a trigger, how often it still gives its class."""
    if "trigger" not in document or not is_changed(document):
        return ""
    before, after = document["before"]["report"], document["after"]["report"]
    if is_hidden(document):
        return known_said(document) or NOT_MEASURED
    return (
        f"The trigger gives {document['metric']['trigger']['class']} on {percent(after['success'])} of these images "
        f"(before: {percent(before['success'])}); clean accuracy is {percent(after['accuracy'])} "
        f"(before: {percent(before['accuracy'])})."
    )
