"""The sentences of a report that set subgroups beside one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.documents.reasons import TOO_FEW
from repair_engine.pages.rendering import interval
from repair_engine.support.words import first_few, level_of, percent, points

if TYPE_CHECKING:
    from repair_engine.studies.fairness import FairnessRecord
    from repair_engine.studies.odds import LargestDifference, RateRow

_LEFT_OUT = 6  # rates that are named


def fairness_said(found: FairnessRecord, changed: bool) -> list[str]:
    """The worst subgroup, the gap and who got worse, in sentences (see `fairness.describe`)."""
    worst, gap = found["worst"], found["gap"]
    said: list[str] = []
    if worst is None or gap is None:
        said.append("The worst subgroup and the gap are not given: fewer than two subgroups have 30 report images.")
    elif not changed:
        said.append(
            f"The worst subgroup is {worst['before']['name']} ({percent(worst['before']['recall'])}), "
            f"{points(gap['before']).lstrip('+')} points behind the best."
        )
    else:
        before, after = worst["before"], worst["after"]
        names = (before["name"], after["name"] if after["name"] != before["name"] else "the same")
        said.append(
            f"Worst subgroup before: {names[0]}, {percent(before['recall'])}; after: {names[1]}, "
            f"{percent(after['recall'])} (change of the least {points(worst['change']['value'])} points, "
            f"{level_of(worst['change'])} interval {interval(worst['change'])}). "
            f"Gap between the best and the worst: {points(gap['before']).lstrip('+')} "
            f"points before, {points(gap['after']).lstrip('+')} after (change {points(gap['change']['value'])}, "
            f"{interval(gap['change'])})."
        )
    if worst is not None:
        said.append(
            "The least of several noisy shares lies below the least true one on average, and a gap above the true one; "
            "the intervals of their changes hold whichever subgroups are the worst and the best."
        )
    if found["left_out"] and worst is not None:
        said.append(f"Left out of both, for fewer than 30 images: {', '.join(found['left_out'])}.")
    if changed:
        said.append(
            f"Subgroups that got worse: {', '.join(found['worse'])}."
            if found["worse"]
            else "No subgroup got worse on these images."
        )
    return said


def odds_said(found: FairnessRecord, changed: bool) -> list[str]:
    """The equalized odds difference and which rate it is of, in sentences; none where the goal is another."""
    if "equalized_odds" not in found:
        return []
    if (odds := found["equalized_odds"]) is None:
        return [f"The equalized odds difference is not given: {TOO_FEW['equalized-odds']}."]
    said = [
        "The equalized odds difference is the largest difference between subgroups, over all classes, in a true "
        "positive rate (images of the class that are predicted as it) or a false positive rate (images of others that "
        "are)."
    ]
    before, after, change = odds["before"], odds["after"], odds["change"]
    if not changed:
        said.append(f"It is {_difference(before)}.")
    else:
        said.append(
            f"Before: {_difference(before)}; after: {_difference(after)} (change {points(change['value'])} points, "
            f"{level_of(change)} interval {interval(change)})."
        )
    said.append(
        "The largest of several noisy differences lies above the largest true one on average, the more so the more "
        "rates are about as far apart; the interval of its change holds whichever rate is the one that counts."
    )
    if odds["left_out"]:
        said.append(f"Left out, for fewer than 30 images: {first_few(odds['left_out'], _LEFT_OUT)}.")
    return said


def _difference(one: LargestDifference) -> str:
    size = points(one["difference"]).lstrip("+")
    return f"{size} points, in the {one['rate']} of {one['of']} ({one['largest']} above {one['least']})"


def left_out_of(row: RateRow) -> str:
    """Which rates of a class in a subgroup do not count."""
    few = [kind for kind, cell in (("true", row["true"]), ("false", row["false"])) if not cell["counts"]]
    return f"fewer than 30 images: no {' and '.join(few)} positive rate counts" if few else ""
