"""The sentences of a report about what was to be forgotten, and what a linear probe still finds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repair_engine.support.words import count, level_of, percent, points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repair_engine.documents.forgetting import ProbeRow
    from repair_engine.documents.records import RepairRecord

_TITLES = {
    "same features": "Hidden, not forgotten",
    "hidden": "Hidden, not forgotten",
    "cannot tell": "Lowered, perhaps hidden",
    "less": "Forgotten in part",
    "not found": "Forgotten, as far as a linear probe tells",
    "": "Lowered, not probed",
}


def title_of(document: RepairRecord) -> str:
    """The outcome of a repair that is shown to lower the metric, in a few words: by what the probe says of it."""
    return _TITLES[document["forgetting"]["probe"]["verdict"]]


def what(document: Mapping[str, Any]) -> str:
    """The class or the group."""
    of = document["metric"]["forgetting"]
    return f"class {of['of_class']}" if "of_class" in of else f"{of['column']} = {of['value']}"


def sets_said(document: RepairRecord) -> str:
    """Which images are which, and what the chance level is."""
    of, sizes = document["metric"]["forgetting"], document["metric"]["forgetting"]["images"]["report"]
    return (
        f"The forget set is {what(document)}: {count(sizes['forget'], 'report image')}. All others, "
        f"{sizes['retain']:,}, are the retain set: limits hold on it, and clean accuracy is told of it. Guesses by the "
        f"retain set's classes would be right on {percent(of['chance']['report'])} of the forget set: the chance "
        "level, below which nothing more is forgotten."
    )


def chance_said(document: RepairRecord) -> str:
    """Where the forget set's accuracy ended below chance, what that means; else nothing."""
    if not document["forgetting"]["below_chance"]:
        return ""
    after, chance = document["after"]["report"]["metric"], document["metric"]["forgetting"]["chance"]["report"]
    return (
        f"{percent(after)} is below the chance level of {percent(chance)}: to be wrong more often than guesses takes "
        "knowledge, too."
    )


def probe_said(document: RepairRecord) -> str:
    """What a linear probe finds on the repaired model's features, in a few sentences; of no repair nothing."""
    probe = document["forgetting"]["probe"]
    if "not_made" in probe:
        return f"{probe['not_made']} Whether the forget set is gone or hidden is not known."
    rows = {row["name"]: row for row in probe["rows"]}
    if not probe["verdict"]:
        return ""
    mine, intact = rows["this repair"], rows["intact model"]
    if probe["verdict"] == "same features":
        return (
            f"The features are the intact model's: only the last layer was changed. A new last layer on them, a linear "
            f"probe, is right on {percent(intact['forget']['value'])} of the forget set: it is hidden, not forgotten."
        )
    change, reference = mine["change"], percent(probe["reference"])
    assert change is not None
    found = (
        f"A linear probe on the repaired model's features is right on {percent(mine['forget']['value'])} of the forget "
        f"set, on the intact model's on {percent(intact['forget']['value'])} (change {points(change['value'])} points, "
        f"{level_of(change)} interval {points(change['lower'])} to {points(change['upper'])})"
    )
    return (
        found
        + {
            "cannot tell": f"{_untold(intact['forget']['lower'] > probe['reference'])} the {reference} "
            f"that {_reference(document)}, so this probe cannot tell whether the forget set is gone or hidden.",
            "hidden": ": the two are not told apart, so the forget set is hidden, not forgotten.",
            "less": f": less than before, and more than the {reference} that {_reference(document)}. "
            "Part of it is still in the features.",
            "not found": f": no more than the {reference} that {_reference(document)}. What a linear "
            "probe does not find, others may.",
        }[probe["verdict"]]
    )


def _untold(known: bool) -> str:
    """Why: the probe on the intact model's features finds something, or it does not."""
    if known:
        return ". The former is told apart neither from the latter nor from"
    return ". The latter is not shown to be more than"


def _reference(document: RepairRecord) -> str:
    probe, chance = document["forgetting"]["probe"], document["metric"]["forgetting"]["chance"]["report"]
    return "guesses give" if probe["reference"] == chance else "a probe on the bare pixels gives"


def headline_said(document: RepairRecord) -> str:
    """What stands behind the outcome's first sentence; empty of other metrics."""
    if "forgetting" not in document:
        return ""
    return " ".join(filter(None, [chance_said(document), probe_said(document)]))


def features_of(row: ProbeRow) -> str:
    """On whose features a probe is."""
    if row["name"] == "pixels":
        return "no network: the pixels, averaged to at most 16 × 16"
    return "the intact model's" if row["same"] else "its own"


def plain_of(row: ProbeRow, document: RepairRecord) -> float | None:
    """Accuracy on the forget set of the model itself, without a probe; None of the pixels."""
    if row["name"] in ("intact model", "this repair"):
        return document["before" if row["name"] == "intact model" else "after"]["report"]["metric"]
    return next((one["metric"] for one in document["controls"] if one["name"] == row["name"]), None)


NOTE = (
    "The probe is multinomial logistic regression of all classes on what the last layer reads, learned on the score "
    "images with their true labels, its ridge picked on the select images; it knows nothing of the model's own last "
    "layer. It finds what is linear in the features. What it finds need not have been kept: a network that never saw "
    "the forget set may give a probe as much, since features of other images serve; the probe on the pixels shows what "
    "needs no network. probe.csv has what each probe says of each image."
)


def summary(document: RepairRecord) -> list[str]:
    """For the terminal."""
    section = document["forgetting"]
    called = ", ".join(f"{row['name']} {row['after']} (before {row['before']})" for row in section["called"][:6])
    lines = [sets_said(document), f"Its report images are called: {called}."]
    if section["probe"]["rows"]:
        lines.append("Linear probes (accuracy on the forget set, on the retain set; 95% Wilson intervals):")
        lines += [
            f"  {row['name']:<26}{_rate(row['forget'])}  {_rate(row['retain'])}" for row in section["probe"]["rows"]
        ]
    return [*lines, *filter(None, [headline_said(document)])]


def _rate(of: Mapping[str, Any]) -> str:
    return f"{of['value']:.1%} [{of['lower']:.1%}, {of['upper']:.1%}]"
